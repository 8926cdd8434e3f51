import { useCallback, useMemo, useState } from "react";
import type { Overview, Row, Run } from "../contract";
import { Chart } from "../draw/Chart";
import { columns } from "../draw/columns";
import { whole, type Window } from "../draw/drawn";
import { flow } from "../draw/flow";
import { gallery } from "../draw/gallery";
import { heat } from "../draw/heat";
import type { Ink } from "../draw/ink";
import { largest, shares, signs } from "../draw/scale";
import { Pick, Sides, Tok, Waiting } from "../parts/bits";
import { Frame } from "../parts/Frame";
import { averageHead, minus, square } from "../read/packed";
import { readOne, type Tensor } from "../read/safetensors";
import { number, percent, shown, signed } from "../read/text";
import { useView } from "../source/answers";
import { edit, whyFixed } from "../state/acts";
import { nameOf, said, type Place } from "../state/place";
import { dispatch, useRunA, useStore } from "../state/store";
import { lacking, sideName, useBoth, useBothBytes, type Both } from "./both";
import { mapValues } from "./MapChart";
import css from "./panels.module.css";

type Head = Place & { head: number };

const seconds: WeakMap<ArrayBuffer, Tensor> = new WeakMap();
function tensorOf(file: ArrayBuffer): Tensor {
  const kept = seconds.get(file) ?? readOne(file);
  seconds.set(file, kept);
  return kept;
}

/** The head that is looked at: the chosen one, or the strongest by direct attribution. */
function useHead(run: Run | null): { head: Head; why: string | null } {
  const place = useStore((s) => s.place);
  const got = useView<Overview>("overview", run && { run: run.id });
  return useMemo(() => {
    if (place && place.head !== null) return { head: { layer: place.layer, head: place.head }, why: null };
    if (place) return { head: { layer: place.layer, head: 0 }, why: "An MLP is chosen: this is the first head of its layer." };
    const map = got.state === "ready" ? got.value.maps.find((one) => one.heads) : undefined;
    const strongest = map && mapValues(map, null).all.filter((one) => one.place.head !== null).sort((x, y) => Math.abs(y.value) - Math.abs(x.value))[0]; // prettier-ignore
    if (strongest) return { head: strongest.place as Head, why: `No head is chosen: this is ${said(strongest.place)}, the strongest by direct attribution.` };
    return { head: { layer: 0, head: 0 }, why: "No head is chosen: this is the first." };
  }, [place, got]);
}

/** The map of one head (or the mean over a layer's), or the difference of two runs'. */
function useMap(both: Both<ArrayBuffer>, head: number | null, n: number): { map: Float32Array | null; why: string | null } {
  const [one, two] = [both.one.state === "ready" ? both.one.value : null, both.two?.state === "ready" ? both.two.value : null];
  return useMemo(() => {
    if (!one || (both.two && !two)) return { map: null, why: null };
    const take = (file: ArrayBuffer) => {
      const { data, shape } = tensorOf(file);
      const bytes = data as Uint8Array;
      return head === null ? averageHead(bytes, shape[0] ?? 1, n) : square(bytes, head, n);
    };
    if (!two) return { map: take(one), why: null };
    if (tensorOf(one).shape.at(-1) !== tensorOf(two).shape.at(-1)) return { map: null, why: "The runs have prompts of different lengths: their attention has no difference." };
    return { map: minus(take(one), take(two)), why: null };
  }, [one, two, head, n]);
}

function Gallery({ head }: { head: Head }) {
  const { one, shown: which, run } = useBothBytes("attention", {});
  const scope = useStore((s) => s.options["heads"] ?? "layer");
  const model = useStore((s) => s.meta?.model ?? null);
  const hover = useStore((s) => s.hover.place ?? null);
  const tensor = one.state === "ready" ? tensorOf(one.value) : null;
  const only = scope === "layer" ? head.layer : null;
  const draw = useCallback(
    (width: number, ink: Ink) => gallery((tensor as Tensor).data as Uint8Array, (tensor as Tensor).shape.slice(0, 3) as [number, number, number], only, width, ink),
    [tensor, only],
  );
  const locked = useMemo(() => [{ row: head.layer, col: head.head }], [head]);
  const pointed = useMemo(() => [hover && hover.head !== null ? { row: hover.layer, col: hover.head } : null], [hover]);
  const n = run?.clean.tokens.length ?? 0;
  const side = tensor?.shape[2] ?? 0;
  return (
    <Frame
      id="heads"
      wide={scope === "all"}
      title={scope === "layer" ? `All heads of layer ${head.layer}` : "All heads"}
      what={`${which === "b" ? "Run B" : "Run A"}. Queries downward, keys to the right. ${n > side ? `Pooled: a pixel shows the largest of its ${Math.ceil(n / side)} × ${Math.ceil(n / side)} cells.` : "Each cell of the map is one pixel."} Quantised to a byte (~).`}
      tools={
        <>
          <Pick label="" value={scope} options={[["layer", "the heads of one layer"], ["all", "every layer"]]} onPick={(value) => dispatch({ do: "option", name: "heads", value })} />
          <span className="row">
            <button type="button" className="quiet" disabled={head.layer === 0} aria-label="Layer below" onClick={() => dispatch({ do: "select", place: { ...head, layer: head.layer - 1 } })}>[ −</button>
            <button type="button" className="quiet" disabled={model !== null && head.layer >= model.n_layers - 1} aria-label="Layer above" onClick={() => dispatch({ do: "select", place: { ...head, layer: head.layer + 1 } })}>+ ]</button>
          </span>
        </>
      }
    >
      {tensor ? (
        <Chart
          label={scope === "layer" ? `Small attention maps of the heads of layer ${head.layer}` : "Small attention maps of all heads"}
          draw={draw}
          say={(cell) => `head ${cell.row}.${cell.col}`}
          locked={locked}
          pointed={pointed}
          onHover={(cell) => dispatch({ do: "hover", hover: cell ? { place: { layer: cell.row, head: cell.col } } : {} })}
          onPick={(cell, shift) => dispatch(shift ? { do: "pin", name: nameOf({ layer: cell.row, head: cell.col }) } : { do: "select", place: { layer: cell.row, head: cell.col } })}
        />
      ) : (
        <Waiting got={one} what="the small maps" />
      )}
    </Frame>
  );
}

interface OneProps {
  head: Head;
  average: boolean;
  map: Float32Array;
  run: Run;
  diff: boolean;
  what: string;
}

function useWords({ run, map, diff }: OneProps) {
  const names = useMemo(() => run.clean.tokens.map((token) => shown(token.text)), [run]);
  const n = names.length;
  const say = (q: number, k: number) => {
    const value = map[q * n + k] ?? NaN;
    const words = `query ${q} ${names[q]} → key ${k} ${names[k]}`;
    return Number.isNaN(value) ? `${words}: cannot be seen` : `${words}: ~${diff ? signed(value) : number(value)}`;
  };
  return { names, n, say };
}

function HeatFrame(props: OneProps) {
  const { map, run, diff, what, head, average } = props;
  const { names, n, say } = useWords(props);
  const [query, key, hover] = [useStore((s) => s.query), useStore((s) => s.key), useStore((s) => s.hover)];
  const [seen, set] = useState<Window>(() => whole(n, n));
  const window_ = seen.row[1] > n || seen.col[1] > n ? whole(n, n) : seen;
  const most = useMemo(() => (diff ? largest(map) : 1), [map, diff]);
  const draw = useCallback(
    (width: number, ink: Ink) =>
      heat(
        {
          rows: names, cols: names, rowTitle: "query", colTitle: "key", square: true, most: 620, cellMost: 40,
          value: (row, col) => map[row * n + col] ?? NaN,
          scale: diff ? signs(most, ink.dark) : shares(1),
          unit: diff ? "~ attention, A − B" : "~ attention",
          text: (row, col, places) => (diff ? signed : number)(map[row * n + col] ?? NaN, places),
          seen: window_, ratio: window.devicePixelRatio,
        },
        width,
        ink,
      ), // prettier-ignore
    [map, names, n, diff, most, window_],
  );
  const locked = useMemo(() => [query !== null && key !== null ? { row: query, col: key } : query !== null ? { row: query } : key !== null ? { col: key } : null], [query, key]);
  const pointed = useMemo(() => [hover.query !== null && hover.query !== undefined && hover.key === undefined ? { row: hover.query } : null], [hover]);
  const rows = () => {
    const list: [number, string, number, string, number][] = [];
    for (let q = 0; q < n; q++) for (let k = 0; k <= q; k++) list.push([q, names[q] ?? "", k, names[k] ?? "", map[q * n + k] ?? NaN]);
    return list.sort((x, y) => Math.abs(y[4]) - Math.abs(x[4])).slice(0, 4000);
  };
  const asTable = useStore((s) => s.table);
  const zoomIn = window_.row[1] - window_.row[0] < n;
  return (
    <Frame
      id="attention"
      title={`${average ? `Mean of layer ${head.layer}'s heads` : said(head)}: map`}
      what={`${what} Click locks a query and a key.`}
      tools={
        <>
          <Sides />
          {zoomIn && <button type="button" className="quiet" onClick={() => set(whole(n, n))}>Whole map (0)</button>}
        </>
      }
      data={() => ({ run: run.id, layer: head.layer, head: average ? null : head.head, quantised: true, difference: diff, rows: Array.from({ length: n }, (_, q) => Array.from(map.subarray(q * n, q * n + q + 1))) })}
      table={asTable ? { caption: `~ attention${diff ? ", A − B" : ""}: the largest first.`, columns: ["query", "token", "key", "token seen", "attention"], rows: rows() } : null}
    >
      <Chart
        label={`Attention map of ${said(head)}, ${n} tokens`}
        draw={draw}
        say={(cell) => say(cell.row, cell.col)}
        locked={locked}
        pointed={pointed}
        zoom={{ seen: window_, set }}
        onHover={(cell) => dispatch({ do: "hover", hover: cell ? { query: cell.row, key: cell.col } : {} })}
        onPick={(cell) => dispatch(cell.row === query && cell.col === key ? { do: "lock", query: null, key: null } : { do: "lock", query: cell.row, key: cell.col })}
      />
    </Frame>
  );
}

const COLUMN = 44; // tokens in the lines view at once

function LinesFrame(props: OneProps) {
  const { map, diff, what, head, average } = props;
  const { names, n, say } = useWords(props);
  const [query, key] = [useStore((s) => s.query), useStore((s) => s.key)];
  const hover = useStore((s) => s.hover);
  const seenQuery = hover.query ?? query;
  const from = n <= COLUMN ? 0 : Math.min(Math.max(0, (query ?? n - 1) - COLUMN + 4), n - COLUMN);
  const draw = useCallback(
    (width: number, ink: Ink) => columns({ tokens: names, from, count: COLUMN, value: (q, k) => map[q * n + k] ?? NaN, query: seenQuery, signed: diff, least: 0.03 }, width, ink),
    [names, from, map, n, seenQuery, diff],
  );
  const locked = useMemo(() => [query !== null ? { row: query, col: 0 } : null, key !== null ? { row: key, col: 1 } : null], [query, key]);
  const outside = useMemo(() => {
    if (seenQuery === null || from === 0) return null;
    let sum = 0;
    for (let k = 0; k < from && k <= seenQuery; k++) sum += map[seenQuery * n + k] ?? 0;
    return sum;
  }, [seenQuery, from, map, n]);
  return (
    <Frame
      id="lines"
      title={`${average ? `Mean of layer ${head.layer}'s heads` : said(head)}: lines`}
      what={
        <>
          {what} Lines below 0.03 are not drawn. {seenQuery === null ? "Point at a query to see it alone; a click locks it." : `Only query ${seenQuery}.`}
          {n > COLUMN && ` Tokens ${from} to ${Math.min(n, from + COLUMN) - 1} of ${n}.`}
          {outside !== null && ` ${percent(outside)} of this query's attention goes to earlier tokens, not drawn.`}
        </>
      }
    >
      <Chart
        label={`Attention of ${said(head)} as lines from queries to keys`}
        draw={draw}
        say={(cell) => (cell.col === 1 && seenQuery !== null ? say(seenQuery, cell.row) : `${cell.col === 0 ? "query" : "key"} ${cell.row} ${names[cell.row]}`)}
        locked={locked}
        onHover={(cell) => dispatch({ do: "hover", hover: cell ? (cell.col === 0 ? { query: cell.row } : { key: cell.row }) : {} })}
        onPick={(cell) => dispatch(cell.col === 0 ? { do: "lock", query: cell.row === query ? null : cell.row } : { do: "lock", key: cell.row === key ? null : cell.row })}
      />
    </Frame>
  );
}

/** The locked query's row, exact. */
function RowFrame({ head, run }: { head: Head; run: Run }) {
  const locked = useStore((s) => s.query);
  const key = useStore((s) => s.key);
  const query = locked ?? run.clean.tokens.length - 1;
  const both = useBoth<Row>("attention/row", { layer: head.layer, head: head.head, query });
  const lacks = lacking(both);
  const names = useMemo(() => run.clean.tokens.map((token) => shown(token.text)), [run]);
  const diff = both.two !== null;
  const values = useMemo(() => {
    if (both.one.state !== "ready") return null;
    const other = both.two?.state === "ready" ? both.two.value.attention : null;
    return both.one.value.attention.map((value, i) => value - (other?.[i] ?? 0));
  }, [both.one, both.two]);
  const draw = useCallback(
    (width: number, ink: Ink) => flow(names.slice(0, (values ?? []).length), values ?? [], diff ? signs(largest(values ?? []), ink.dark) : shares(1), diff ? "attention, A − B, exact" : "attention, exact", width, ink),
    [names, values, diff],
  );
  const marked = useMemo(() => [key !== null && key <= query ? { row: 0, col: key } : null], [key, query]);
  return (
    <Frame
      id="row"
      title={<>{said(head)}: what query {query} <Tok text={run.clean.tokens[query]?.text ?? ""} /> looks at</>}
      what={`Exact (float32), ${sideName(both.shown)}; shares of 1. ${locked === null ? "No query is locked: this is END." : "The locked query."} A click locks the key.`}
      tools={<Sides />}
      data={both.one.state === "ready" ? both.one.value : undefined}
      table={values ? { caption: `Attention of query ${query}, exact.`, columns: ["key", "token", diff ? "A − B" : "attention"], rows: values.map((value, i) => [i, names[i] ?? "", value]), places: 6, pick: (i) => dispatch({ do: "lock", key: i }) } : null}
    >
      {values && !lacks ? (
        <Chart
          label={`What query ${query} looks at`}
          draw={draw}
          say={(cell) => `key ${cell.col} ${names[cell.col]}: ${(diff ? signed : number)(values[cell.col], 5)}`}
          locked={marked}
          onHover={(cell) => dispatch({ do: "hover", hover: cell ? { query, key: cell.col } : {} })}
          onPick={(cell) => dispatch({ do: "lock", key: cell.col === key ? null : cell.col })}
        />
      ) : (
        lacks && <Waiting got={lacks} what={`the exact row of query ${query}`} />
      )}
    </Frame>
  );
}

function Warning({ head }: { head: Head }) {
  const how = useStore((s) => s.options["how"] ?? "zero");
  const busy = useStore((s) => s.busy);
  const fixed = whyFixed();
  return (
    <p className={css.warn} role="note">
      <span><b>Attention is not attribution.</b> What {said(head)} looks at need not be what it moves.</span>
      <button type="button" disabled={Boolean(fixed ?? busy)} title={fixed ?? undefined} onClick={() => (dispatch({ do: "select", place: head }), void edit({ kind: "ablate", node: nameOf(head), how, positions: null }))}>
        Ablate {nameOf(head)} ({how}) and see
      </button>
    </p>
  );
}

export function Attention() {
  const run = useRunA();
  const { head, why: unchosen } = useHead(run);
  const average = useStore((s) => s.options["average"] === "1");
  const both = useBothBytes("attention/layer", run && { layer: head.layer });
  const n = both.run?.clean.tokens.length ?? 0;
  const { map, why } = useMap(both, average ? null : head.head, n);
  const lacks = lacking(both);
  if (!run) return null;
  const diff = both.two !== null;
  const of = both.run;
  const what = `${sideName(both.shown)[0]?.toUpperCase()}${sideName(both.shown).slice(1)}. Shares of 1, quantised (~, within 0.004).`;
  return (
    <>
      <Warning head={head} />
      <div className="row">
        {unchosen && <span className="soft">{unchosen}</span>}
        <label className="row">
          <input type="checkbox" checked={average} onChange={(event) => dispatch({ do: "option", name: "average", value: event.target.checked ? "1" : "" })} /> mean over the layer's heads
        </label>
      </div>
      <div className={css.grid}>
        {map && of ? (
          <>
            <HeatFrame key={n} head={head} average={average} map={map} run={of} diff={diff} what={what} />
            <LinesFrame head={head} average={average} map={map} run={of} diff={diff} what={what} />
          </>
        ) : (
          <Frame id="attention" title={`${said(head)}: map`} tools={<Sides />}>
            {why ? <p className="note">{why}</p> : lacks && <Waiting got={lacks} what={`attention of layer ${head.layer}`} />}
          </Frame>
        )}
        <RowFrame head={head} run={of ?? run} />
        <Gallery head={head} />
      </div>
    </>
  );
}

