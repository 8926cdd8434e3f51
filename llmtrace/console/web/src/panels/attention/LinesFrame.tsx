import { useCallback, useMemo } from "react";
import { Chart } from "../../draw/Chart";
import { columns } from "../../draw/columns";
import type { Ink } from "../../draw/ink";
import { Frame } from "../../parts/Frame";
import { percent } from "../../read/text";
import { said } from "../../state/place";
import { dispatch, useStore } from "../../state/store";
import { useWords, type OneProps } from "./one";

const COLUMN = 44; // tokens in the lines view at once

/** One head as lines from queries to keys. */
export function LinesFrame(props: OneProps) {
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
