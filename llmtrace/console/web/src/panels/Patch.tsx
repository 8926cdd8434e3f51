import { useCallback, useMemo, useState } from "react";
import type { NewJob, Run, Sweep } from "../contract";
import { Chart } from "../draw/Chart";
import type { Cell } from "../draw/drawn";
import { heat } from "../draw/heat";
import type { Ink } from "../draw/ink";
import { largest, signs } from "../draw/scale";
import { Num, Pick, Sides, Waiting } from "../parts/bits";
import { Frame } from "../parts/Frame";
import { number, percent, shown, signed } from "../read/text";
import { edit, whyFixed } from "../state/acts";
import { parsePlace } from "../state/place";
import { dispatch, useRunA, useStore } from "../state/store";
import { lacking, sideName, useBoth } from "./both";
import { useChoice } from "./choice";
import { JobBox, useWorking } from "./JobBox";
import css from "./panels.module.css";

/** A sweep that is being made: the rows that came, by their place. */
function partial(rows: Record<number, number[]>, run: Run, site: string): Sweep | null {
  const places = Object.keys(rows).map(Number);
  if (!places.length) return null;
  const count = Math.max(...places) + 1;
  const cols = Math.max(...places.map((i) => rows[i]?.length ?? 0));
  const names = site === "z" ? Array.from({ length: cols }, (_, i) => `h${i}`) : run.clean.tokens.map((token) => token.text);
  return {
    run: run.id, site, rows: Array.from({ length: count }, (_, i) => String(i)), columns: names,
    values: Array.from({ length: count }, (_, i) => rows[i] ?? Array(cols).fill(NaN)), before: run.value ?? NaN, against: run.against?.metric ?? null, passes: 0, python: "",
  }; // prettier-ignore
}

/** The node that a cell of the sweep patches, where it has one: a3.h2, m2, and the token. */
function nodeOf(sweep: Sweep, cell: Cell): { node: string; positions: number[] | null } | null {
  if (sweep.site === "z") return { node: `a${cell.row}.h${cell.col}`, positions: null };
  return sweep.site === "mlp_out" ? { node: `m${cell.row}`, positions: [cell.col] } : null;
}

function Map({ sweep, other, streaming }: { sweep: Sweep; other: Sweep | null; streaming: boolean }) {
  const query = useStore((s) => s.query);
  const [cell, setCell] = useState<Cell | null>(null);
  const overTokens = sweep.site !== "z";
  const names = useMemo(() => sweep.columns.map(shown), [sweep]);
  const value = useCallback((row: number, col: number) => (sweep.values[row]?.[col] ?? NaN) - (other?.values[row]?.[col] ?? 0), [sweep, other]);
  const draw = useCallback(
    (width: number, ink: Ink) =>
      heat(
        {
          rows: sweep.rows.map(shown), cols: names, rowTitle: "layer", colTitle: overTokens ? "position" : "head", upward: true, most: 640, value,
          scale: signs(largest(sweep.values.flatMap((row, r) => row.map((_, c) => value(r, c)))), ink.dark),
          unit: `change of the logit difference, logits${other ? ", A − B" : ""}`, text: (r, c, places) => signed(value(r, c), places), ratio: window.devicePixelRatio,
        },
        width,
        ink,
      ), // prettier-ignore
    [sweep, names, overTokens, value, other],
  );
  const most = sweep.against === null ? null : sweep.against - sweep.before;
  const say = (at: Cell) => {
    const here = value(at.row, at.col);
    const share = most ? `, ${percent(here / most)} of the way to the other prompt` : "";
    return `layer ${sweep.rows[at.row]}, ${overTokens ? `position ${at.col} ` : ""}${names[at.col]}: ${signed(here, 4)} logits${share}`;
  };
  const locked = useMemo(() => [overTokens && query !== null ? { col: query } : null, cell], [overTokens, query, cell]);
  const target = cell && nodeOf(sweep, cell);
  const fixed = whyFixed();
  return (
    <>
      <div className={css.facts}>
        {other && <span className="soft">run A:</span>}
        <span>before <Num value={sweep.before} /> logits</span>
        {sweep.against !== null && <span>on the other prompt (all replaced) <Num value={sweep.against} /> logits</span>}
        {streaming && <span role="status">{sweep.rows.length} {sweep.rows.length === 1 ? "row" : "rows"} so far</span>}
        {sweep.passes > 0 && <span className="soft">{number(sweep.passes, 0)} passes</span>}
      </div>
      <Chart
        label="Patch sweep: change of the logit difference by place"
        draw={draw}
        say={say}
        locked={locked}
        onHover={(at) => dispatch({ do: "hover", hover: at && overTokens ? { query: at.col } : {} })}
        onPick={(at) => {
          setCell(at);
          const found = nodeOf(sweep, at);
          if (overTokens) dispatch({ do: "lock", query: at.col });
          if (found) dispatch({ do: "select", place: parsePlace(found.node) });
        }}
      />
      {cell && (
        <p className={css.warn}>
          <span>{say(cell)}</span>
          {target && <button type="button" disabled={Boolean(fixed)} title={fixed ?? undefined} onClick={() => void edit({ kind: "patch", ...target })}>Patch {target.node}{target.positions ? ` at token ${target.positions[0]}` : ""} as an edit</button>}
        </p>
      )}
    </>
  );
}

export function Patch() {
  const run = useRunA();
  const { value: site, options: sites } = useChoice("site", "sites");
  const both = useBoth<Sweep>("patch", { site });
  const lacks = lacking(both);
  const of = useStore((s) => (both.two && both.two.state !== "ready" && both.one.state === "ready" && s.b ? (s.runs[s.b] ?? null) : both.run));
  const body: NewJob = { view: "patch", run: of?.id ?? "", site };
  const working = useWorking(body);
  if (!run || !of) return null;
  const done = !lacks && both.one.state === "ready" ? both.one.value : null;
  const coming = !done && working && working.job.state === "running" ? partial(working.rows, of, site) : null;
  const sweep = done ?? coming;
  const other = done && both.two?.state === "ready" ? both.two.value : null;
  const off = of.against ? (lacks?.state === "missing" ? lacks.why : null) : "Patching takes activations from a second prompt: New run, with “against”.";
  const table = done ? { caption: `Change of the logit difference, ${sideName(both.shown)}.`, columns: ["layer", "column", "token", "logits"], rows: done.rows.flatMap((row, r) => done.columns.map((column, c) => [row, c, shown(column), (done.values[r]?.[c] ?? NaN) - (other?.values[r]?.[c] ?? 0)])) } : null;
  return (
    <Frame
      id="patch"
      wide
      title={`Patch sweep, ${sideName(both.shown)}`}
      what={`${sites[site] ?? ""}${sites[site] ? ". " : ""}Activations of the clean run are replaced by those of the other prompt, one place at a time; a cell is the logit difference after minus before. Red: the answer loses.`}
      tools={<><Sides /><Pick label="site" value={site} options={Object.entries(sites)} onPick={(value) => dispatch({ do: "option", name: "site", value })} /></>}
      data={done ? (other ? { a: done, b: other } : done) : undefined}
      python={done?.python}
      table={table}
    >
      {lacks && lacks.state !== "absent" && lacks.state !== "missing" && !coming && <Waiting got={lacks} what="the sweep" />}
      {lacks && <JobBox body={body} got={lacks} label="Run the sweep" costs="Some hundred passes; rows come in as they are done, and it can be cancelled." off={off} />}
      {sweep && <Map sweep={sweep} other={other} streaming={!done} />}
    </Frame>
  );
}
