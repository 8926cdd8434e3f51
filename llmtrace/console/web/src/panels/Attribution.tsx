import { useCallback, useMemo } from "react";
import type { Attribution as View, Run } from "../contract";
import { bars } from "../draw/bars";
import { Chart } from "../draw/Chart";
import { flow } from "../draw/flow";
import type { Ink } from "../draw/ink";
import { largest, signs } from "../draw/scale";
import { Num, Pick, Sides, Waiting } from "../parts/bits";
import { Words } from "../parts/Words";
import { Frame } from "../parts/Frame";
import { shown, signed } from "../read/text";
import { dispatch, useRunA, useStore } from "../state/store";
import { lacking, sideName, useBoth } from "./both";
import { useChoice } from "./choice";
import css from "./panels.module.css";

const MOST = 60; // tokens with bars

const minus = (a: number[], b: number[] | undefined): number[] => (b && b.length === a.length ? a.map((value, i) => value - (b[i] as number)) : a);

function Shown({ view, other, run, side, tools }: { view: View; other: View | null; run: Run; side: string; tools: React.ReactNode }) {
  const query = useStore((s) => s.query);
  const names = useMemo(() => run.clean.tokens.map((token) => shown(token.text)), [run]);
  const scores = useMemo(() => minus(view.scores, other?.scores), [view, other]);
  const occlusion = useMemo(() => minus(view.occlusion, other?.occlusion), [view, other]);
  const kept = useMemo(() => {
    const all = scores.map((_, i) => i);
    if (all.length <= MOST) return all;
    const size = (i: number) => Math.max(Math.abs(scores[i] ?? 0) / (largest(scores) || 1), Math.abs(occlusion[i] ?? 0) / (largest(occlusion) || 1));
    return [...all].sort((i, j) => size(j) - size(i)).slice(0, MOST).sort((i, j) => i - j);
  }, [scores, occlusion]);
  const method = view.method.replaceAll("_", " ");
  const drawBars = useCallback(
    (width: number, ink: Ink) =>
      bars(
        kept.map((i) => `${i} ${names[i] ?? ""}`),
        [{ name: method, values: kept.map((i) => scores[i] ?? NaN) }, ...(occlusion.length ? [{ name: "occlusion", values: kept.map((i) => occlusion[i] ?? NaN) }] : [])],
        width,
        ink,
      ),
    [kept, names, method, scores, occlusion],
  );
  const drawFlow = useCallback((width: number, ink: Ink) => flow(names, scores, signs(largest(scores), ink.dark), `${method}, logits`, width, ink), [names, scores, method]);
  const lock = (i: number | undefined) => i !== undefined && dispatch({ do: "lock", query: i === query ? null : i });
  const inBars = query === null ? -1 : kept.indexOf(query);
  const lockedBars = useMemo(() => [inBars < 0 ? null : { row: inBars }], [inBars]);
  const lockedFlow = useMemo(() => [query === null ? null : { row: 0, col: query }], [query]);
  const say = (i: number | undefined) => (i === undefined ? "" : `token ${i} ${names[i]}: ${method} ${signed(scores[i], 4)}${occlusion.length ? `\nocclusion ${signed(occlusion[i], 4)}` : ""}`);
  const table = { caption: `Scores of ${method} beside occlusion, ${side}.`, columns: ["token", "text", method === "occlusion" ? "score" : method, "by occlusion"], rows: names.map((name, i) => [i, name, scores[i] ?? null, occlusion[i] ?? null] as (string | number | null)[]), pick: lock };
  const data = other ? { a: view, b: other } : view;
  return (
    <div className={css.grid}>
      <Frame id="attribution" title={`${method} beside occlusion, ${side}`} what={<>{view.what}{kept.length < names.length && ` The ${MOST} largest of ${names.length} tokens have bars; the table has all.`}</>} tools={tools} data={data} python={view.python} table={table}>
        <div className={css.facts}>
          <span title="Spearman's rank correlation of the two columns">rank correlation with occlusion <b><Num value={view.correlation} places={2} id="correlation" /></b></span>
          <span title="What the scores add up to misses of what they explain">gap <Num value={view.gap} /> logits</span>
        </div>
        <p className="note">Occlusion is the intervention itself: the token is taken away and the loss of logit difference is read off. Scores that do not go with it are not to be trusted here.</p>
        <Chart label={`Scores of ${method} and of occlusion for each token`} draw={drawBars} say={(cell) => say(kept[cell.row])} locked={lockedBars} onHover={(cell) => dispatch({ do: "hover", hover: cell ? { query: kept[cell.row] } : {} })} onPick={(cell) => lock(kept[cell.row])} />
      </Frame>
      <div>
        <Frame id="attribution-text" title={`In the prompt, ${side}`} what="The same scores as colour; the bar below a token is the size." data={data}>
          <Chart label={`The prompt coloured by ${method}`} draw={drawFlow} say={(cell) => say(cell.col)} locked={lockedFlow} onHover={(cell) => dispatch({ do: "hover", hover: cell ? { query: cell.col } : {} })} onPick={(cell) => lock(cell.col)} />
          {view.spans.length > 0 && (
            <table>
              <thead><tr><th scope="col">span</th><th scope="col">tokens</th><th scope="col" className="n">score</th></tr></thead>
              <tbody>
                {view.spans.map((span) => (
                  <tr key={`${span.name} ${span.start}`}>
                    <td><bdi>{span.name}</bdi></td>
                    <td>{span.start} to {span.end - 1}</td>
                    <td className="n"><Num value={span.score} sign /></td>
                  </tr>
                ))}
              </tbody>
            </table>
          )}
        </Frame>
      </div>
    </div>
  );
}

/** What is left where a method refuses: the intervention. */
function Occlusion({ values, run }: { values: number[]; run: Run }) {
  const names = useMemo(() => run.clean.tokens.map((token) => shown(token.text)), [run]);
  const draw = useCallback((width: number, ink: Ink) => flow(names, values, signs(largest(values), ink.dark), "occlusion: the logit difference lost without the token", width, ink), [names, values]);
  return (
    <>
      <p className="note">Occlusion, which runs the edited model as it is:</p>
      <Chart label="The prompt coloured by occlusion" draw={draw} say={(cell) => `token ${cell.col} ${names[cell.col]}: occlusion ${signed(values[cell.col], 4)}`} onPick={(cell) => dispatch({ do: "lock", query: cell.col })} />
    </>
  );
}

export function Attribution() {
  const run = useRunA();
  const { value: method, options: methods } = useChoice("method", "token_methods");
  const both = useBoth<View>("attribution", { method });
  const lacks = lacking(both);
  if (!run) return null;
  const tools = (
    <>
      <Sides />
      <Pick label="method" value={method} options={Object.entries(methods)} onPick={(value) => dispatch({ do: "option", name: "method", value })} />
    </>
  );
  if (lacks || both.one.state !== "ready" || both.one.value.refused) {
    const occlusion = both.one.state === "ready" ? both.one.value.occlusion : [];
    return (
      <Frame id="attribution" title="Token attribution" what={methods[method]} tools={tools}>
        {lacks && <Waiting got={lacks} what={`${method.replaceAll("_", " ")} and occlusion`} />}
        {both.one.state === "ready" && both.one.value.refused && <p className="note" role="note"><b>Refused:</b> <Words text={both.one.value.refused} /></p>}
        {occlusion.length > 0 && <Occlusion values={occlusion} run={both.run ?? run} />}
      </Frame>
    );
  }
  return <Shown view={both.one.value} other={both.two?.state === "ready" ? both.two.value : null} run={both.run ?? run} side={sideName(both.shown)} tools={tools} />;
}
