import { useCallback, useMemo } from "react";
import type { Lens as View, Run } from "../contract";
import { Chart } from "../draw/Chart";
import { heat } from "../draw/heat";
import type { Ink } from "../draw/ink";
import { lines } from "../draw/lines";
import { largest, shares, signs } from "../draw/scale";
import { Num, Sides, Tok, Waiting } from "../parts/bits";
import { Frame } from "../parts/Frame";
import { number, shown, signed } from "../read/text";
import { dispatch, useRunA, useStore } from "../state/store";
import { lacking, sideName, useBoth } from "./both";
import css from "./panels.module.css";

function Stages({ view, other, run, side }: { view: View; other: View | null; run: Run; side: string }) {
  const query = useStore((s) => s.query);
  const names = useMemo(() => run.clean.tokens.map((token) => shown(token.text)), [run]);
  const fits = other?.probability[0]?.length === view.probability[0]?.length ? other : null;
  const value = useCallback((row: number, col: number) => (view.probability[row]?.[col] ?? NaN) - (fits?.probability[row]?.[col] ?? 0), [view, fits]);
  const text = useCallback((row: number, col: number) => shown(view.top[row]?.[col]?.text ?? ""), [view]);
  const draw = useCallback(
    (width: number, ink: Ink) =>
      heat(
        {
          rows: view.stages, cols: names, rowTitle: "stage", colTitle: "position", upward: true, most: 640,
          value, text, cut: true,
          scale: fits ? signs(largest(view.probability.flatMap((row, r) => row.map((_, c) => value(r, c)))), ink.dark) : shares(1),
          unit: fits ? "probability of A's top token minus B's of its own" : "probability of the token written in the cell",
          ratio: window.devicePixelRatio,
        },
        width,
        ink,
      ), // prettier-ignore
    [view, names, value, text, fits],
  );
  const locked = useMemo(() => [query === null ? null : { col: query }], [query]);
  const say = (row: number, col: number) =>
    `${view.stages[row]}, position ${col} ${names[col]}: ${text(row, col)} with ${(fits ? signed : number)(value(row, col), 4)}${fits ? " (A − B)" : ""}`;
  return (
    <Frame
      id="lens"
      wide
      title={`Logit lens, ${side}`}
      what="What the residual stream would say if it were read out after each layer: the most likely next token of each position, by probability (softmax over the vocabulary, 0 to 1). Early stages were not trained to be read this way."
      tools={<Sides />}
      data={fits ? { a: view, b: fits } : view}
      python={view.python}
      table={{ caption: "Most likely token by stage and position.", columns: ["stage", "position", "token there", "says", "probability"], rows: view.stages.flatMap((stage, r) => names.map((name, c) => [stage, c, name, text(r, c), value(r, c)])) }}
    >
      <Chart label="Logit lens: stages by positions" draw={draw} say={(cell) => say(cell.row, cell.col)} locked={locked} onHover={(cell) => dispatch({ do: "hover", hover: cell ? { query: cell.col } : {} })} onPick={(cell) => dispatch({ do: "lock", query: cell.col === query ? null : cell.col })} />
    </Frame>
  );
}

function Answers({ view, other, run, side }: { view: View; other: View | null; run: Run; side: string }) {
  const minus = (a: number[], b: number[] | undefined) => a.map((value, i) => value - (b?.[i] ?? 0));
  const [correct, wrong] = [minus(view.correct, other?.correct), minus(view.wrong, other?.wrong)];
  const draw = useCallback(
    (width: number, ink: Ink) => {
      const x = view.stages.map((_, i) => i);
      return lines({ series: [{ name: `answer ${shown(run.correct?.text ?? "not kept")}`, x, y: correct }, { name: `foil ${shown(run.wrong?.text ?? "not kept")}`, x, y: wrong, second: true }], xTitle: "stage", yTitle: other ? "ln p, A − B" : "ln p, nats", xName: (i) => view.stages[i] ?? "" }, width, ink);
    },
    [view, other, run],
  );
  const rows = view.stages.map((stage, i) => [stage, correct[i] ?? NaN, view.correct_rank[i] ?? NaN, wrong[i] ?? NaN, view.wrong_rank[i] ?? NaN]);
  return (
    <Frame id="lens-answers" title={`When does it know? ${side}`} what={<>Log-probability (nats) of <Tok text={run.correct?.text} /> and <Tok text={run.wrong?.text} /> at END, read out at each stage{other && ", run A minus run B"}.</>} data={{ stages: view.stages, correct, wrong, correct_rank: view.correct_rank, wrong_rank: view.wrong_rank }} python={view.python} table={{ caption: "Log-probability and rank at END by stage.", columns: ["stage", "answer ln p", "answer rank", "foil ln p", "foil rank"], rows }}>
      <Chart label="Log-probability of answer and foil by stage" draw={draw} say={(cell) => `${view.stages[cell.col]}: ${cell.row === 0 ? "answer" : "foil"} ${number((cell.row === 0 ? correct : wrong)[cell.col], 3)} nats, rank ${(cell.row === 0 ? view.correct_rank : view.wrong_rank)[cell.col]}`} />
    </Frame>
  );
}

function Ranks({ view, other, run }: { view: View; other: View | null; run: Run }) {
  return (
    <Frame id="ranks" title="Rank in the vocabulary, by stage" what={<>1 is the model's first choice.{other && " B's rank stands in brackets."}</>} data={{ stages: view.stages, correct_rank: view.correct_rank, wrong_rank: view.wrong_rank }}>
      <div className={css.scroll} tabIndex={0} role="region" aria-label="Ranks by stage">
        <table>
          <thead>
            <tr>
              <th scope="col">stage</th>
              <th scope="col" className="n"><Tok text={run.correct?.text} /></th>
              <th scope="col" className="n"><Tok text={run.wrong?.text} /></th>
              <th scope="col" className="n">ln p difference</th>
            </tr>
          </thead>
          <tbody>
            {view.stages.map((stage, i) => (
              <tr key={stage}>
                <td>{stage}</td>
                <td className="n">{view.correct_rank[i]}{other && <span className="soft"> ({other.correct_rank[i]})</span>}</td>
                <td className="n">{view.wrong_rank[i]}{other && <span className="soft"> ({other.wrong_rank[i]})</span>}</td>
                <td className="n"><Num value={(view.correct[i] ?? 0) - (view.wrong[i] ?? 0)} sign places={2} /></td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </Frame>
  );
}

export function Lens() {
  const run = useRunA();
  const both = useBoth<View>("lens", {});
  const lacks = lacking(both);
  if (!run) return null;
  if (lacks || both.one.state !== "ready")
    return <Frame id="lens" title="Logit lens" tools={<Sides />}>{lacks && <Waiting got={lacks} what="the lens" />}</Frame>;
  const other = both.two?.state === "ready" ? both.two.value : null;
  const given = { view: both.one.value, other, run: both.run ?? run, side: sideName(both.shown) };
  return (
    <div className={css.grid}>
      <Stages {...given} />
      <Answers {...given} />
      <Ranks {...given} />
    </div>
  );
}
