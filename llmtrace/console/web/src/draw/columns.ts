import type { Cell, Drawn } from "./drawn";
import type { Ink } from "./ink";
import { fit, type Mark } from "./scene";

interface Given {
  tokens: string[];
  from: number; // the first token that is shown
  count: number;
  value: (query: number, key: number) => number; // NaN: cannot be seen
  query: number | null; // only this one's lines, where one is chosen
  signed: boolean;
  least: number; // a line below this is not drawn
}

/** Queries on the left, keys on the right, a line for each look: thick and dark is much. Column 0 queries, column 1 keys. */
export function columns(given: Given, width: number, ink: Ink): Drawn & { drawn: number; left: number } {
  const { tokens, from, query } = given;
  const to = Math.min(tokens.length, from + given.count);
  const line = Math.round(ink.size * 1.75);
  const top = line * 1.3;
  const side = Math.min(width * 0.36, 190);
  const x = (col: number) => (col === 0 ? side : width - side);
  const y = (token: number) => top + (token - from + 0.5) * line;
  const marks: Mark[] = [];
  let [drawn, leftOut] = [0, 0];
  const heading = (text: string, at: number, anchor: "start" | "end") =>
    marks.push({ is: "text", x: at, y: line * 0.6, text, size: ink.size, fill: ink.text, anchor, bold: true });
  heading("query (looks)", x(0) - 4, "end");
  heading("key (is looked at)", x(1) + 4, "start");
  const queries = query !== null && query >= from && query < to ? [query] : Array.from({ length: to - from }, (_, i) => from + i);
  for (const q of queries)
    for (let k = 0; k <= q; k++) {
      const value = given.value(q, k);
      if (!(Math.abs(value) >= given.least)) continue;
      if (k < from) {
        leftOut += 1;
        continue;
      }
      drawn += 1;
      const middle = (x(1) - x(0)) * 0.45;
      const strength = Math.min(1, Math.abs(value));
      marks.push({
        is: "curve",
        points: [x(0), y(q), x(0) + middle, y(q), x(1) - middle, y(k), x(1), y(k)],
        stroke: value < 0 ? ink.b : ink.a,
        width: 0.6 + 3.4 * strength,
        alpha: Math.min(1, 0.12 + strength),
        dash: value < 0 ? [4, 3] : undefined,
      });
    }
  for (let token = from; token < to; token++)
    for (const col of [0, 1]) {
      const text = fit(tokens[token] ?? "", ink.size, side - ink.size * 3.4);
      const number = String(token);
      const bold = col === 0 && token === query;
      const at = col === 0 ? x(0) - 6 : x(1) + 6;
      marks.push({ is: "dot", x: x(col), y: y(token), r: 2, fill: ink.soft });
      marks.push({ is: "text", x: at, y: y(token), text, size: ink.size, fill: ink.text, anchor: col === 0 ? "end" : "start", bold });
      marks.push({ is: "text", x: col === 0 ? 2 : width - 2, y: y(token), text: number, size: ink.size - 2, fill: ink.soft, anchor: col === 0 ? "start" : "end" });
    }
  const box = ({ row, col }: Partial<Cell>) =>
    row === undefined || col === undefined || row < from || row >= to ? null : { x: col === 0 ? 1 : x(1) - 2, y: y(row) - line / 2, w: side, h: line };
  const at = (px: number, py: number): Cell | null => {
    const row = Math.floor((py - top) / line) + from;
    const col = px < x(0) + 6 ? 0 : px > x(1) - 6 ? 1 : null;
    return col === null || row < from || row >= to ? null : { row, col };
  };
  return { scene: { width, height: top + (to - from) * line + 6, marks }, rows: tokens.length, cols: 2, box, at, drawn, left: leftOut };
}
