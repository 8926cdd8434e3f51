import { useCallback, useMemo } from "react";
import type { Run } from "../../contract";
import { Chart } from "../../draw/Chart";
import { heat } from "../../draw/heat";
import type { Ink } from "../../draw/ink";
import { largest, shares, signs } from "../../draw/scale";
import { Num, Pick, Tok, Waiting } from "../../parts/bits";
import { Frame } from "../../parts/Frame";
import { minus } from "../../read/packed";
import { number, shown, signed } from "../../read/text";
import { useBytes } from "../../source/answers";
import { nameOf, parsePlace } from "../../state/place";
import { dispatch, useStore } from "../../state/store";
import { mapOf } from "../attention/head";
import css from "../panels.module.css";
import { readSide, sidesOf, usual, type Side } from "./sides";

const MOST = 8; // cells in the list

interface MapProps {
  map: Float32Array;
  run: Run;
  signs?: boolean;
  label: string;
}

function MapOf({ map, run, signs: differs = false, label }: MapProps) {
  const [query, key] = [useStore((s) => s.query), useStore((s) => s.key)];
  const names = useMemo(() => run.clean.tokens.map((token) => shown(token.text)), [run]);
  const n = names.length;
  const draw = useCallback(
    (width: number, ink: Ink) =>
      heat(
        {
          rows: names, cols: names, rowTitle: "query", colTitle: "key", square: true, most: 420, cellMost: 30,
          value: (row, col) => map[row * n + col] ?? NaN, scale: differs ? signs(largest(map), ink.dark) : shares(1),
          unit: differs ? "~ attention, X − Y" : "~ attention", ratio: window.devicePixelRatio,
        },
        width,
        ink,
      ), // prettier-ignore
    [names, map, n, differs],
  );
  const locked = useMemo(() => [query !== null && key !== null ? { row: query, col: key } : query !== null ? { row: query } : null], [query, key]);
  return (
    <Chart
      label={label}
      draw={draw}
      say={({ row, col }) => `query ${row} ${names[row]} → key ${col} ${names[col]}: ${col > row ? "cannot be seen" : `~${(differs ? signed : number)(map[row * n + col])}`}`}
      locked={locked}
      onHover={(cell) => dispatch({ do: "hover", hover: cell ? { query: cell.row, key: cell.col } : {} })}
      onPick={(cell) => dispatch({ do: "lock", query: cell.row, key: cell.col })}
    />
  );
}

/** The cells of two maps where they are furthest apart. */
function furthest(difference: Float32Array, n: number): [number, number][] {
  const size = ([q, k]: [number, number]) => Math.abs(difference[q * n + k] ?? 0);
  const found: [number, number][] = [];
  for (let q = 0; q < n; q++)
    for (let k = 0; k <= q; k++) {
      const last = found[MOST - 1];
      if (last && size([q, k]) <= size(last)) continue;
      const before = found.findIndex((cell) => size(cell) < size([q, k]));
      found.splice(before < 0 ? found.length : before, 0, [q, k]);
      found.length = Math.min(found.length, MOST);
    }
  return found;
}

function Difference({ x, y, one, two }: { x: Side; y: Side; one: Float32Array; two: Float32Array }) {
  const tokens = x.run.clean.tokens;
  const n = tokens.length;
  const fits = n === y.run.clean.tokens.length;
  const map = useMemo(() => (fits ? minus(one, two) : null), [fits, one, two]);
  const top = useMemo(() => (map ? furthest(map, n) : []), [map, n]);
  const at = (of: Float32Array, q: number, k: number) => of[q * n + k] ?? NaN;
  const tok = (i: number) => tokens[i]?.text ?? "";
  const table = map && { caption: `~ attention of X and Y where they are furthest apart.`, columns: ["query", "token", "key", "token seen", "X", "Y", "X − Y"], rows: top.map(([q, k]) => [q, shown(tok(q)), k, shown(tok(k)), at(one, q, k), at(two, q, k), at(map, q, k)]) };
  const rowsOf = (of: Float32Array) => Array.from({ length: n }, (_, q) => Array.from(of.subarray(q * n, q * n + q + 1)));
  const said = (side: Side) => ({ run: side.run.id, layer: side.layer, head: side.head });
  return (
    <Frame id="heads-diff" title="X − Y" what={`${x.says} minus ${y.says}: where they look apart. Quantised (~, within 0.008).`} data={map ? () => ({ x: said(x), y: said(y), quantised: true, rows: rowsOf(map) }) : undefined} table={table}>
      {map ? (
        <>
          <MapOf map={map} run={x.run} signs label="Difference of two attention maps" />
          <ol className={css.rank} aria-label="Furthest apart">
            {top.map(([q, k]) => (
              <li key={`${q} ${k}`}>
                <button type="button" className="link" onClick={() => dispatch({ do: "lock", query: q, key: k })}>{q} <Tok text={tok(q)} /> → {k} <Tok text={tok(k)} /></button>
                <Num value={at(map, q, k)} sign />
              </li>
            ))}
          </ol>
        </>
      ) : (
        <p className="note">The prompts have different lengths in tokens: their maps have no difference.</p>
      )}
    </Frame>
  );
}

/** Two heads, or layers, of one run or of both: their attention side by side and as a difference. */
export function TwoHeads({ a, b }: { a: Run; b: Run | null }) {
  const [pins, place, model] = [useStore((s) => s.pins), useStore((s) => s.place), useStore((s) => s.meta?.model ?? null)];
  const [sayX, sayY] = [useStore((s) => s.options["x"]), useStore((s) => s.options["y"])];
  const heads = [...new Set([...(place ? [nameOf(place)] : []), ...pins])].filter((name) => (parsePlace(name)?.head ?? null) !== null);
  const [firstX, firstY] = usual(heads, place, model, b);
  const x = (sayX && readSide(sayX, a, b)) || (readSide(firstX, a, b) as Side);
  const y = (sayY && readSide(sayY, a, b)) || (readSide(firstY, a, b) as Side);
  const offered = sidesOf([...new Set([...heads, ...[x, y].flatMap((side) => (side.head === null ? [] : [`a${side.layer}.h${side.head}`]))])], model, a, b);
  const [gotX, gotY] = [useBytes("attention/layer", { run: x.run.id, layer: x.layer }), useBytes("attention/layer", { run: y.run.id, layer: y.layer })];
  const one = useMemo(() => (gotX.state === "ready" ? mapOf(gotX.value, x.head, x.run.clean.tokens.length) : null), [gotX, x.head, x.run]);
  const two = useMemo(() => (gotY.state === "ready" ? mapOf(gotY.value, y.head, y.run.clean.tokens.length) : null), [gotY, y.head, y.run]);
  return (
    <>
      {[{ id: "x", side: x, map: one, got: gotX }, { id: "y", side: y, map: two, got: gotY }].map(({ id, side, map, got }) => (
        <Frame
          key={id}
          id={`heads-${id}`}
          title={`${id.toUpperCase()}: ${side.says}`}
          what="Attention as a map, quantised (~, within 0.004). Choose heads in any map, or pin them (p); layers are means over their heads."
          tools={<Pick label={id.toUpperCase()} value={side.spelled} options={offered} onPick={(value) => dispatch({ do: "option", name: id, value })} plain />}
        >
          {map ? <MapOf map={map} run={side.run} label={`Attention of ${side.says}`} /> : <Waiting got={got} what={`attention of ${side.says}`} />}
        </Frame>
      ))}
      {one && two && <Difference x={x} y={y} one={one} two={two} />}
    </>
  );
}
