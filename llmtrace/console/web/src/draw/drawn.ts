import type { Scene } from "./scene";

export interface Cell {
  row: number;
  col: number;
}

export interface Box {
  x: number;
  y: number;
  w: number;
  h: number;
}

/** What a chart needs to know of its picture: where each cell is, and which one is under the pointer. */
export interface Drawn {
  scene: Scene;
  rows: number;
  cols: number;
  upward?: boolean; // row 0 is the lowest
  at(x: number, y: number): Cell | null;
  box(cell: Partial<Cell>): Box | null; // a whole row or column where only one is named
}

/** The part of a map that is seen, in cells: from, and up to but not including. */
export interface Window {
  row: [number, number];
  col: [number, number];
}

export const whole = (rows: number, cols: number): Window => ({ row: [0, rows], col: [0, cols] });

function side([from, to]: [number, number], centre: number, factor: number, most: number): [number, number] {
  const length = Math.min(most, Math.max(4, Math.round((to - from) * factor)));
  const start = Math.min(Math.max(0, Math.round(centre - ((centre - from) / Math.max(1, to - from)) * length)), most - length);
  return [start, start + length];
}

/** Nearer (factor < 1) or farther, with the given cell staying where it is. */
export const zoomed = (seen: Window, centre: Cell, factor: number, rows: number, cols: number): Window => ({
  row: side(seen.row, centre.row, factor, rows),
  col: side(seen.col, centre.col, factor, cols),
});

export function panned(seen: Window, rows: number, cols: number, down: number, right: number): Window {
  const move = ([from, to]: [number, number], by: number, most: number): [number, number] => {
    const shift = Math.min(Math.max(by, -from), most - to);
    return [from + shift, to + shift];
  };
  return { row: move(seen.row, down, rows), col: move(seen.col, right, cols) };
}
