import { useCallback, useMemo, useState } from "react";
import type { GenerationView, NewJob, Run } from "../contract";
import { Chart } from "../draw/Chart";
import { flow } from "../draw/flow";
import { heat } from "../draw/heat";
import type { Ink } from "../draw/ink";
import { largest, shares, signs } from "../draw/scale";
import { Num, Pick, Tok, Waiting } from "../parts/bits";
import { Frame } from "../parts/Frame";
import { number, shown, signed } from "../read/text";
import { useView } from "../source/answers";
import { dispatch, useRunA, useStore } from "../state/store";
import { useChoice } from "./choice";
import { JobBox } from "./JobBox";
import css from "./panels.module.css";

function Shown({ view, run }: { view: GenerationView; run: Run }) {
  const [at, setAt] = useState(0);
  const chosen = view.tokens[Math.min(at, view.tokens.length - 1)];
  const prompt = useMemo(() => run.clean.tokens.map((token) => shown(token.text)), [run]);
  const names = useMemo(() => view.tokens.map((one) => shown(one.token.text)), [view]);
  const probabilities = useMemo(() => view.tokens.map((one) => one.probability), [view]);
  const most = useMemo(() => largest(view.tokens.flatMap((one) => one.scores)), [view]);
  const drawSaid = useCallback((width: number, ink: Ink) => flow(names, probabilities, shares(1), "probability of the token", width, ink), [names, probabilities]);
  const drawPrompt = useCallback((width: number, ink: Ink) => flow(prompt, chosen?.scores ?? [], signs(most, ink.dark), `influence by ${view.method.replaceAll("_", " ")}`, width, ink), [prompt, chosen, most, view]);
  const drawMap = useCallback(
    (width: number, ink: Ink) =>
      heat({ rows: names, cols: prompt, rowTitle: "generated", colTitle: "prompt token", value: (r, c) => view.tokens[r]?.scores[c] ?? NaN, scale: signs(most, ink.dark), unit: "influence", text: (r, c, places) => signed(view.tokens[r]?.scores[c], places), most: 520, ratio: window.devicePixelRatio }, width, ink),
    [names, prompt, view, most],
  );
  const lockedSaid = useMemo(() => [{ row: 0, col: at }], [at]);
  const lockedMap = useMemo(() => [{ row: at }], [at]);
  const table = { caption: "Influence of each prompt token on each generated one.", columns: ["generated", "token", "prompt token", "text", "influence"], rows: view.tokens.flatMap((one, r) => one.scores.map((score, c) => [r, names[r] ?? "", c, prompt[c] ?? "", score])) };
  return (
    <div className={css.grid}>
      <Frame id="generated" title="What it goes on to say" what="Greedy. Colour and bar: probability of each token when it was chosen. Click one to trace it." data={view} python={view.python}>
        <Chart label="Generated tokens" draw={drawSaid} say={(cell) => `${cell.col} ${names[cell.col]}: probability ${number(probabilities[cell.col])}`} locked={lockedSaid} onPick={(cell) => setAt(cell.col)} />
      </Frame>
      <Frame id="traced" title={<>Back to the prompt: token {at} <Tok text={chosen?.token.text ?? ""} /></>} what="Influence of each prompt token on the chosen one. Blue speaks for it, red against." data={chosen}>
        <Chart label="Influence of the prompt's tokens" draw={drawPrompt} say={(cell) => `token ${cell.col} ${prompt[cell.col]}: ${signed(chosen?.scores[cell.col], 4)}`} onPick={(cell) => dispatch({ do: "lock", query: cell.col })} />
        <ul className={css.rank}>
          {chosen?.spans.map((span) => (
            <li key={`${span.name} ${span.start}`}><bdi>{span.name}</bdi> <Num value={span.score} sign /></li>
          ))}
        </ul>
      </Frame>
      <Frame id="generation-map" wide title="All at once" data={view} python={view.python} table={table}>
        <Chart label="Influence: generated tokens by prompt tokens" draw={drawMap} say={(cell) => `${names[cell.row]} ← ${prompt[cell.col]}: ${signed(view.tokens[cell.row]?.scores[cell.col], 4)}`} locked={lockedMap} onPick={(cell) => setAt(cell.row)} />
      </Frame>
    </div>
  );
}

export function Generation() {
  const run = useRunA();
  const tokens = useStore((s) => s.options["tokens"] || "8");
  const live = useStore((s) => s.meta?.mode === "live");
  const { value: method, options: methods } = useChoice("generation_method", "token_methods");
  const got = useView<GenerationView>("generation", run && { run: run.id, tokens, method });
  if (!run) return null;
  const body: NewJob = { view: "generation", run: run.id, tokens: Number(tokens), method };
  return (
    <>
      <div className="row">
        {live && <Pick label="tokens" value={tokens} options={["4", "8", "16", "32"].map((n) => [n, `${n} tokens`])} onPick={(value) => dispatch({ do: "option", name: "tokens", value })} />}
        <Pick label="method" value={method} options={Object.entries(methods)} onPick={(value) => dispatch({ do: "option", name: "generation_method", value })} />
      </div>
      {got.state === "ready" ? (
        <Shown view={got.value} run={run} />
      ) : (
        <Frame id="generation" title="Generation" what="Each generated token traced back to the prompt.">
          {got.state !== "absent" && got.state !== "missing" && <Waiting got={got} what="the generation" />}
          <JobBox body={body} got={got} label="Generate and trace" costs="A backward pass for each generated token." off={got.state === "missing" ? got.why : null} />
        </Frame>
      )}
    </>
  );
}
