import { useCallback, useMemo } from "react";
import type { CircuitView, NewJob } from "../contract";
import { Chart } from "../draw/Chart";
import { graph, nodeOf, rowsOf } from "../draw/graph";
import type { Ink } from "../draw/ink";
import { lines } from "../draw/lines";
import { Num, Pick, Waiting } from "../parts/bits";
import { Frame } from "../parts/Frame";
import { number, signed } from "../read/text";
import { useView } from "../source/answers";
import { nameOf, parsePlace } from "../state/place";
import { dispatch, useRunA, useStore } from "../state/store";
import { useChoice } from "./choice";
import { JobBox } from "./JobBox";
import css from "./panels.module.css";

const SIZES: [string, string][] = [["20", "20 edges kept"], ["50", "50 edges kept"], ["100", "100 edges kept"], ["200", "200 edges kept"], ["500", "500 edges kept"]]; // prettier-ignore

function Shown({ view }: { view: CircuitView }) {
  const place = useStore((s) => s.place);
  const hover = useStore((s) => s.hover.place ?? null);
  const said = Number(useStore((s) => s.options["show_edges"] || 0));
  const kept = view.edges.filter((edge) => edge.kept).length;
  const count = Math.min(view.edges.length, Math.max(1, said || kept || view.edges.length));
  const edges = useMemo(() => view.edges.slice(0, count), [view, count]);
  const least = Math.abs(edges.at(-1)?.score ?? 0);
  const rows = useMemo(() => rowsOf(view), [view]);
  const touched = hover ?? place;
  const touchedName = touched ? nameOf(touched) : null;
  const draw = useCallback((width: number, ink: Ink) => graph({ view, edges, touched: touchedName }, width, ink), [view, edges, touchedName]);
  const drawCurve = useCallback(
    (width: number, ink: Ink) => lines({ series: [{ name: "faithfulness", x: view.curve.map(([n]) => n), y: view.curve.map(([, f]) => f) }], xTitle: "edges kept", yTitle: "faithfulness", log: true, at: count, height: 300 }, width, ink),
    [view, count],
  );
  const nameAt = (row: number, col: number) => rows[row]?.[col]?.name ?? "";
  const cellOf = (name: string | null) => {
    for (let row = 0; row < rows.length; row++) {
      const col = rows[row]?.findIndex((node) => node.name === name) ?? -1;
      if (col >= 0) return { row, col };
    }
    return null;
  };
  const locked = useMemo(() => [cellOf(place && nameOf(place))], [place, rows]);
  const say = (name: string) => {
    const role = view.nodes.find((node) => node.name === name)?.role;
    const [out, into] = [edges.filter((edge) => edge.sender === name), edges.filter((edge) => nodeOf(edge.receiver) === name)];
    const list = [...into, ...out].slice(0, 5).map((edge) => `${edge.sender} → ${edge.receiver} ${signed(edge.score)}`);
    return [`${name}${role ? `, ${role}` : ""}: ${into.length} edges in, ${out.length} out`, ...list].join("\n");
  };
  const near = view.curve.reduce<[number, number] | null>((best, [n, f]) => (best === null || Math.abs(Math.log(n + 1) - Math.log(count + 1)) < Math.abs(Math.log(best[0] + 1) - Math.log(count + 1)) ? [n, f] : best), null);
  const table = { caption: `Edges, the largest first: ${count} of ${view.edges_total}.`, columns: ["sender", "receiver", "score, logits", "in the circuit"], rows: edges.map((edge) => [edge.sender, edge.receiver, edge.score, edge.kept ? "yes" : "no"]) };
  return (
    <>
      <div className={css.slider}>
        <label htmlFor="edges">edges drawn</label>
        <input id="edges" type="range" min={1} max={view.edges.length} value={count} aria-valuetext={`${count} edges, scores of at least ${number(least)}`} onChange={(event) => dispatch({ do: "option", name: "show_edges", value: event.target.value })} />
        <span>
          <b className={css.big} data-testid="edges-drawn">{count}</b> with |score| ≥ <Num value={least} places={4} />
        </span>
        <span className="soft" data-testid="edges-total">
          {kept} kept of {view.edges_total} edges; {view.edges_cut} smaller ones were not sent
        </span>
        {view.faithfulness !== null && <span>faithfulness of the kept circuit <b data-testid="faithfulness"><Num value={view.faithfulness} /></b></span>}
        {near && <span className="soft">nearest point of the curve: {near[0]} edges, <Num value={near[1]} /></span>}
      </div>
      <div className={view.curve.length ? css.split : undefined}>
        <Frame id="circuit" title="Circuit" what="x = head within its layer, MLP last; y = layer. Width = |score| by the method. Solid lines are positive, dashed ones negative; pale ones are drawn but not in the kept circuit." data={view} python={view.python} table={table}>
          <Chart
            label={`Circuit with ${count} edges`}
            draw={draw}
            say={(cell) => say(nameAt(cell.row, cell.col))}
            locked={locked}
            onHover={(cell) => dispatch({ do: "hover", hover: cell ? { place: parsePlace(nameAt(cell.row, cell.col)) } : {} })}
            onPick={(cell) => {
              const found = parsePlace(nameAt(cell.row, cell.col));
              if (found) dispatch({ do: "select", place: found });
            }}
          />
        </Frame>
        {view.curve.length > 0 && <Frame id="curve" title="Faithfulness" what="How much of the logit difference the circuit alone keeps: 1 is all of it, 0 is what the other prompt gives. The line stands at the edges drawn." data={view.curve} table={{ caption: "Faithfulness by edges kept.", columns: ["edges", "faithfulness"], rows: view.curve.map(([n, f]) => [n, f]) }}>
          <Chart label="Faithfulness by edges kept" draw={drawCurve} say={(cell) => `${view.curve[cell.col]?.[0]} edges: faithfulness ${number(view.curve[cell.col]?.[1])}`} onPick={(cell) => dispatch({ do: "option", name: "show_edges", value: String(view.curve[cell.col]?.[0] ?? "") })} />
        </Frame>}
      </div>
    </>
  );
}

export function Circuit() {
  const run = useRunA();
  const { value: method, options: methods } = useChoice("edge_method", "edge_methods");
  const size = useStore((s) => s.options["edges"] || "100");
  const live = useStore((s) => s.meta?.mode === "live");
  const got = useView<CircuitView>("circuit", run && { run: run.id, method, edges: size });
  if (!run) return null;
  const body: NewJob = { view: "circuit", run: run.id, method, edges: Number(size) };
  const off = run.against ? (got.state === "missing" ? got.why : null) : "Edge scores need a second prompt: New run, with “against”.";
  return (
    <>
      <div className="row">
        <Pick label="method" value={method} options={Object.entries(methods)} onPick={(value) => dispatch({ do: "option", name: "edge_method", value })} />
        {live && <Pick label="keep" value={size} options={SIZES} onPick={(value) => dispatch({ do: "option", name: "edges", value })} />}
        <span className="soft">{methods[method]}</span>
      </div>
      {got.state === "ready" ? (
        <Shown view={got.value} />
      ) : (
        <Frame id="circuit" title="Circuit" what="Edges between heads and MLPs that carry the logit difference, with what the circuit alone keeps of it.">
          {got.state !== "absent" && got.state !== "missing" && <Waiting got={got} what="the circuit" />}
          <JobBox body={body} got={got} label="Find the circuit" costs="Scores all edges, then runs circuits of several sizes for the curve." off={off} />
        </Frame>
      )}
    </>
  );
}
