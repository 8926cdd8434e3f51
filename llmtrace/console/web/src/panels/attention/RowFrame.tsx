import { useCallback, useMemo } from "react";
import type { Row, Run } from "../../contract";
import { Chart } from "../../draw/Chart";
import { flow } from "../../draw/flow";
import type { Ink } from "../../draw/ink";
import { largest, shares, signs } from "../../draw/scale";
import { Sides, Tok, Waiting } from "../../parts/bits";
import { Frame } from "../../parts/Frame";
import { number, shown, signed } from "../../read/text";
import { said } from "../../state/place";
import { dispatch, useStore } from "../../state/store";
import { lacking, sideName, useBoth } from "../both";
import type { Head } from "./head";

/** The locked query's row, exact. */
export function RowFrame({ head, run }: { head: Head; run: Run }) {
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
