import { signed } from "../read/text";
import type { Cell, Drawn } from "./drawn";
import type { Ink } from "./ink";
import { largest } from "./scale";
import { fit, wide, type Mark } from "./scene";

export interface Column {
  name: string;
  values: number[];
}

/** Columns of bars that share their rows: to the right is positive, to the left negative; each column has its own range, stated. */
export function bars(names: string[], given: Column[], width: number, ink: Ink): Drawn {
  const line = Math.round(ink.size * 1.8);
  const top = line * 2.1;
  const left = Math.min(width * 0.28, 12 + Math.max(...names.map((name) => wide(name, ink.size))));
  const each = (width - left) / given.length;
  const marks: Mark[] = [];
  const y = (row: number) => top + row * line;
  names.forEach((name, row) =>
    marks.push({ is: "text", x: left - 8, y: y(row) + line / 2, text: fit(name, ink.size, left - 10), size: ink.size, fill: ink.text, anchor: "end" }),
  );
  given.forEach((column, col) => {
    const most = largest(column.values) || 1;
    const places = most < 0.1 ? 4 : 2;
    const known = column.values.filter((value) => !Number.isNaN(value));
    const [low, high] = [Math.min(0, ...known), Math.max(0, ...known)];
    const label = 8 + wide(signed(-most, places), ink.size - 1);
    const [from, to] = [left + col * each + (low < 0 ? label : 8), left + (col + 1) * each - (high > 0 ? label : 8) - 6];
    const unit = Math.max(8, to - from) / (high - low || 1);
    const zero = from - low * unit;
    const middle = left + (col + 0.5) * each;
    marks.push({ is: "text", x: middle, y: line * 0.5, text: fit(column.name, ink.size, each - 8), size: ink.size, fill: ink.text, anchor: "middle", bold: true });
    marks.push({ is: "text", x: middle, y: line * 1.35, text: fit(`${signed(low, places)} to ${signed(high, places)}`, ink.size - 1, each - 8), size: ink.size - 1, fill: ink.soft, anchor: "middle" });
    marks.push({ is: "line", x1: zero, y1: top, x2: zero, y2: y(names.length), stroke: ink.line });
    column.values.forEach((value, row) => {
      if (Number.isNaN(value)) return;
      const w = Math.abs(value) * unit;
      const negative = value < 0;
      marks.push({ is: "rect", x: negative ? zero - w : zero, y: y(row) + 3, w, h: line - 6, fill: negative ? ink.b : ink.a });
      marks.push({ is: "text", x: negative ? zero - w - 4 : zero + w + 4, y: y(row) + line / 2, text: signed(value, places), size: ink.size - 1, fill: ink.soft, anchor: negative ? "end" : "start" });
    });
  });
  const box = ({ row }: Partial<Cell>) => (row === undefined || row < 0 || row >= names.length ? null : { x: 2, y: y(row), w: width - 4, h: line });
  return {
    scene: { width, height: y(names.length) + 4, marks },
    rows: names.length,
    cols: 1,
    box,
    at: (_, py) => {
      const row = Math.floor((py - top) / line);
      return box({ row }) ? { row, col: 0 } : null;
    },
  };
}
