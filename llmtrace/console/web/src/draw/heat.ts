import type { Box, Cell, Drawn, Window } from "./drawn";
import { whole } from "./drawn";
import type { Ink } from "./ink";
import { legend, legendHeight } from "./legend";
import { raster } from "./raster";
import { inkOn, type Scale } from "./scale";
import { fit, wide, type Mark } from "./scene";

export interface HeatGiven {
  rows: string[];
  cols: string[];
  rowTitle: string;
  colTitle: string;
  value: (row: number, col: number) => number; // NaN: there is none
  scale: Scale;
  unit: string;
  text?: (row: number, col: number, places: number) => string; // with two decimals, or with one where there is less room
  cut?: boolean; // whether text that does not fit is cut; else no cell has any
  upward?: boolean; // row 0 is the lowest
  gapBefore?: number; // a column that stands apart, with those after it
  square?: boolean;
  seen?: Window;
  most?: number; // the tallest that the cells may be together
  cellMost?: number;
  ratio?: number;
}

const NEAT = 600; // cells with text in them

/** A map of cells with named rows and columns on numeric axes: equal names never merge. */
export function heat(given: HeatGiven, width: number, ink: Ink): Drawn {
  const { rows, cols, scale } = given;
  const seen = given.seen ?? whole(rows.length, cols.length);
  const [r0, r1] = seen.row;
  const [c0, c1] = seen.col;
  const [nr, nc] = [r1 - r0, c1 - c0];
  const size = ink.size;
  const gap = given.gapBefore !== undefined && given.gapBefore > c0 && given.gapBefore < c1 ? 8 : 0;
  const longest = (names: string[], from: number, to: number, most: number) =>
    Math.min(most, Math.max(8, ...names.slice(from, Math.min(to, from + 300)).map((name) => wide(name, size))));
  const left = size * 1.6 + longest(rows, r0, r1, Math.min(150, width * 0.26)) + 8;
  const room = Math.max(40, width - left - 6 - gap);
  const most = given.most ?? 480;
  let cw = Math.min(given.cellMost ?? size * (size > 12 ? 9 : 7), room / nc);
  let ch = Math.min(given.square ? cw : Math.max(size * 1.9, Math.min(cw * 0.62, size * 4)), most / nr);
  if (given.square) cw = ch = Math.min(cw, ch);
  const [w, h] = [cw * nc + gap, ch * nr];
  const top = 6;
  const xOf = (col: number) => left + (col - c0) * cw + (gap && col >= (given.gapBefore as number) ? gap : 0);
  const yOf = (row: number) => top + (given.upward ? r1 - 1 - row : row - r0) * ch;
  const marks: Mark[] = [];
  const ratio = given.ratio ?? 1;
  const parts: [number, number][] = gap ? [[c0, given.gapBefore as number], [given.gapBefore as number, c1]] : [[c0, c1]]; // prettier-ignore
  let pooled = 1;
  for (const [from, to] of parts) {
    const space = { rows: Math.max(1, Math.round(h * ratio)), cols: Math.max(1, Math.round((to - from) * cw * ratio)) };
    const image = raster(given.value, seen.row, [from, to], scale, space, given.upward);
    pooled = Math.max(pooled, image.pooled);
    marks.push({ is: "image", x: xOf(from), y: top, w: (to - from) * cw, h, cols: image.cols, rows: image.rows, rgba: image.rgba });
    marks.push({ is: "rect", x: xOf(from) - 0.5, y: top - 0.5, w: (to - from) * cw + 1, h: h + 1, stroke: ink.line });
  }
  if (nr * nc <= NEAT && cw >= 22 && ch >= size * 1.15 && given.text) {
    const small = Math.min(size, cw / 2.6);
    const cells: { row: number; col: number; value: number }[] = [];
    for (let row = r0; row < r1; row++)
      for (let col = c0; col < c1; col++) {
        const value = given.value(row, col);
        if (!Number.isNaN(value)) cells.push({ row, col, value });
      }
    const { text } = given;
    const fits = (places: number) => (at: Cell) => wide(text(at.row, at.col, places), small) <= cw - 2;
    const most = (places: number) => cells.filter(fits(places)).length >= cells.length * 0.9;
    const places = given.cut || most(2) ? 2 : most(1) ? 1 : null;
    for (const { row, col, value } of places === null ? [] : cells) {
      const least = [places as number, 1, 0].find((one) => fits(one)({ row, col })) ?? 0; // a few long ones have fewer decimals
      const said = fit(text(row, col, given.cut ? 2 : least), small, cw - 2);
      marks.push({ is: "text", x: xOf(col) + cw / 2, y: yOf(row) + ch / 2, text: said, size: small, fill: inkOn(scale, value), anchor: "middle" });
    }
  }
  const every = (cell: number) => Math.max(1, Math.ceil((size * 1.15) / cell));
  for (let row = r0; row < r1; row += every(ch))
    marks.push({ is: "text", x: left - 6, y: yOf(row) + ch / 2, text: fit(rows[row] ?? "", size, left - size * 1.6 - 8), size, fill: ink.soft, anchor: "end" });
  const tallest = longest(cols, c0, c1, 110);
  const flat = tallest + 6 <= cw * 1.02 || tallest < size * 1.3;
  const step = flat ? Math.max(1, Math.ceil((tallest + 5) / cw)) : every(cw);
  for (let col = c0; col < c1; col += step) {
    const text = fit(cols[col] ?? "", size, 110);
    const x = xOf(col) + cw / 2;
    if (flat) marks.push({ is: "text", x, y: top + h + size * 0.9, text, size, fill: ink.soft, anchor: "middle" });
    else marks.push({ is: "text", x, y: top + h + 6, text, size, fill: ink.soft, anchor: "end", turn: -90 });
  }
  const under = top + h + (flat ? size * 1.8 : tallest + 12);
  marks.push({ is: "text", x: left + w / 2, y: under + size * 0.5, text: given.colTitle, size, fill: ink.text, anchor: "middle" });
  marks.push({ is: "text", x: size * 0.6, y: top + h / 2, text: fit(given.rowTitle, size, Math.max(h, 40)), size, fill: ink.text, anchor: "middle", turn: -90 });
  const unit = pooled > 1 ? `${given.unit} · a pixel shows the largest of ${pooled} × ${pooled}` : given.unit;
  marks.push(...legend(scale, fit(unit, size - 1, Math.max(60, width - 160)), Math.min(left, Math.max(4, width - 300)), under + size * 1.6, ink));
  const height = under + size * 1.6 + legendHeight(ink);

  const inside = (value: number, from: number, to: number) => value >= from && value < to;
  const box = (cell: Partial<Cell>): Box | null => {
    if (cell.row !== undefined && !inside(cell.row, r0, r1)) return null;
    if (cell.col !== undefined && !inside(cell.col, c0, c1)) return null;
    const x = cell.col === undefined ? left : xOf(cell.col);
    const y = cell.row === undefined ? top : yOf(cell.row);
    return { x, y, w: cell.col === undefined ? w : cw, h: cell.row === undefined ? h : ch };
  };
  const at = (x: number, y: number): Cell | null => {
    const past = gap && x >= xOf(given.gapBefore as number) ? gap : 0;
    const col = Math.floor((x - left - past) / cw) + c0;
    const line = Math.floor((y - top) / ch);
    const row = given.upward ? r1 - 1 - line : r0 + line;
    return inside(row, r0, r1) && inside(col, c0, c1) ? { row, col } : null;
  };
  return { scene: { width, height, marks }, rows: rows.length, cols: cols.length, upward: given.upward, at, box };
}
