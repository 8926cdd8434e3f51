import { useCallback, useMemo } from "react";
import type { HeadMap } from "../contract";
import { Chart } from "../draw/Chart";
import type { Cell } from "../draw/drawn";
import { heat } from "../draw/heat";
import type { Ink } from "../draw/ink";
import { largest, signs } from "../draw/scale";
import { number, signed } from "../read/text";
import type { TableGiven } from "../parts/Table";
import { nameOf, said, type Place } from "../state/place";
import { dispatch, useStore } from "../state/store";

/** One number per head and MLP, minus those of another map where one is given. */
export function mapValues(map: HeadMap, other: HeadMap | null) {
  const layers = map.heads?.length ?? map.mlps?.length ?? 0;
  const heads = map.heads?.[0]?.length ?? 0;
  const cols = heads + (map.mlps ? 1 : 0);
  const read = (from: HeadMap, layer: number, col: number) => (col < heads ? from.heads?.[layer]?.[col] : from.mlps?.[layer]) ?? NaN;
  const value = (layer: number, col: number) => read(map, layer, col) - (other ? read(other, layer, col) : 0);
  const place = (cell: Cell): Place => ({ layer: cell.row, head: cell.col < heads ? cell.col : null });
  const all = Array.from({ length: layers }, (_, row) => Array.from({ length: cols }, (_, col) => ({ place: place({ row, col }), value: value(row, col) })));
  return { layers, heads, cols, value, place, all: all.flat().filter((one) => !Number.isNaN(one.value)) };
}

export function mapTable(map: HeadMap, other: HeadMap | null): TableGiven {
  const { all } = mapValues(map, other);
  const order = [...all].sort((a, b) => Math.abs(b.value) - Math.abs(a.value));
  return {
    caption: `${map.title}, ${map.unit}${other ? ", run A − run B" : ""}: the largest first.`,
    columns: ["where", map.unit],
    rows: order.map((one) => [nameOf(one.place), one.value]),
    pick: (i) => dispatch({ do: "select", place: order[i]?.place ?? null }),
  };
}

export function MapChart({ map, other, order, most }: { map: HeadMap; other: HeadMap | null; order?: number; most?: number }) {
  const place = useStore((s) => s.place);
  const hover = useStore((s) => s.hover.place ?? null);
  const pins = useStore((s) => s.pins);
  const read = useMemo(() => mapValues(map, other), [map, other]);
  const draw = useCallback(
    (width: number, ink: Ink) => {
      const names = Array.from({ length: read.heads }, (_, i) => String(i));
      if (map.mlps) names.push("MLP");
      return heat(
        {
          rows: Array.from({ length: read.layers }, (_, i) => String(i)),
          cols: names,
          rowTitle: "layer",
          colTitle: "head",
          value: read.value,
          scale: signs(most ?? largest(read.all.map((one) => one.value)), ink.dark),
          unit: `${map.unit}${other ? ", A − B" : ""}`,
          text: (row, col, places) => signed(read.value(row, col), places),
          upward: true,
          gapBefore: map.mlps ? read.heads : undefined,
          ratio: window.devicePixelRatio,
        },
        width,
        ink,
      );
    },
    [map, other, read, most],
  );
  const cellOf = (at: Place | null) => at && { row: at.layer, col: at.head ?? read.heads };
  const locked = useMemo(() => [cellOf(place)], [place, read]);
  const pointed = useMemo(() => [cellOf(hover), ...read.all.filter((one) => pins.includes(nameOf(one.place))).map((one) => cellOf(one.place))], [hover, pins, read]);
  const say = (cell: Cell) => `${said(read.place(cell))}: ${number(read.value(cell.row, cell.col), 4)} ${map.unit}${other ? " (A − B)" : ""}`;
  return (
    <Chart
      label={`${map.title}: a number for each of ${read.layers} layers and ${read.heads} heads${map.mlps ? " and the MLPs" : ""}`}
      order={order}
      draw={draw}
      say={say}
      locked={locked}
      pointed={pointed}
      onHover={(cell) => dispatch({ do: "hover", hover: cell ? { place: read.place(cell) } : {} })}
      onPick={(cell, shift) => (shift ? dispatch({ do: "pin", name: nameOf(read.place(cell)) }) : dispatch({ do: "select", place: read.place(cell) }))}
    />
  );
}
