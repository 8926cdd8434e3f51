import { useCallback, useMemo, useState } from "react";
import { Chart } from "../../draw/Chart";
import { whole, type Window } from "../../draw/drawn";
import { heat } from "../../draw/heat";
import type { Ink } from "../../draw/ink";
import { largest, shares, signs } from "../../draw/scale";
import { Sides } from "../../parts/bits";
import { Frame } from "../../parts/Frame";
import { number, signed } from "../../read/text";
import { said } from "../../state/place";
import { dispatch, useStore } from "../../state/store";
import { useWords, type OneProps } from "./one";

/** One head as a map that can be zoomed. */
export function HeatFrame(props: OneProps) {
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
