import { number } from "../read/text";
import type { Cell, Drawn } from "./drawn";
import type { Ink } from "./ink";
import { fit, wide, type Mark } from "./scene";

export interface Series {
  name: string;
  x: number[];
  y: number[];
  second?: boolean; // the other colour, dashed, with hollow points
}

interface Given {
  series: Series[];
  xTitle: string;
  yTitle: string;
  xName?: (x: number) => string;
  log?: boolean;
  at?: number | null; // where a line stands upright
  height?: number;
}

function stepOf(low: number, high: number): number {
  const rough = (high - low || 1) / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  return [1, 2, 5, 10].map((k) => k * power).find((s) => s >= rough * 0.999) ?? rough;
}

/** Lines over a numeric axis. Row = series, column = point. */
export function lines(given: Given, width: number, ink: Ink): Drawn {
  const size = ink.size;
  const height = given.height ?? 240;
  const ys = given.series.flatMap((s) => s.y).filter(Number.isFinite);
  const xs = given.series.flatMap((s) => s.x);
  const scaled = (x: number) => (given.log ? Math.log10(Math.max(1, x)) : x);
  let [low, high] = [Math.min(...ys, 0), Math.max(...ys, 0)];
  if (low === high) high = low + 1;
  const step = stepOf(low, high);
  [low, high] = [Math.floor(low / step + 1e-6) * step, Math.ceil(high / step - 1e-6) * step];
  const [x0, x1] = [Math.min(...xs.map(scaled)), Math.max(...xs.map(scaled))];
  const [left, right, top, bottom] = [size * 5, width - 14, size * 2.4, height - size * 4];
  const px = (x: number) => left + ((scaled(x) - x0) / (x1 - x0 || 1)) * (right - left);
  const py = (y: number) => bottom - ((Math.min(high, Math.max(low, y)) - low) / (high - low)) * (bottom - top);
  const marks: Mark[] = [];
  for (let i = 0; low + i * step <= high + step * 1e-6; i++) {
    const tick = low + i * step;
    marks.push({ is: "line", x1: left, y1: py(tick), x2: right, y2: py(tick), stroke: ink.line });
    marks.push({ is: "text", x: left - 6, y: py(tick), text: number(tick, high - low < 2 ? 2 : 1), size, fill: ink.soft, anchor: "end" });
  }
  let last = -1e9;
  for (const x of [...new Set(xs)].sort((a, b) => a - b)) {
    const text = given.xName?.(x) ?? String(x);
    const half = wide(text, size) / 2;
    if (px(x) - half < last + 8) continue;
    marks.push({ is: "text", x: Math.min(px(x), width - half), y: bottom + size * 1.1, text, size, fill: ink.soft, anchor: "middle" });
    last = px(x) + half;
  }
  marks.push({ is: "text", x: (left + right) / 2, y: height - size * 1.2, text: given.xTitle + (given.log ? " (logarithmic)" : ""), size, fill: ink.text, anchor: "middle" });
  marks.push({ is: "text", x: size * 0.7, y: (top + bottom) / 2, text: fit(given.yTitle, size, bottom - top + 20), size, fill: ink.text, anchor: "middle", turn: -90 });
  if (given.at !== null && given.at !== undefined) marks.push({ is: "line", x1: px(given.at), y1: top, x2: px(given.at), y2: bottom, stroke: ink.lock, width: 2 });
  let key = left;
  for (const series of given.series) {
    const stroke = series.second ? ink.b : ink.a;
    const dash = series.second ? [5, 3] : undefined;
    const points = series.x.map((x, i) => ({ x: px(x), y: py(series.y[i] ?? NaN), known: Number.isFinite(series.y[i] ?? NaN) }));
    points.forEach((point, i) => {
      const before = points[i - 1];
      if (before?.known && point.known) marks.push({ is: "line", x1: before.x, y1: before.y, x2: point.x, y2: point.y, stroke, width: 1.6, dash });
    });
    for (const point of points)
      if (point.known) marks.push({ is: "dot", x: point.x, y: point.y, r: 2.6, fill: series.second ? ink.page : stroke, stroke, width: 1.4 });
    marks.push({ is: "line", x1: key, y1: size * 0.9, x2: key + 22, y2: size * 0.9, stroke, width: 2, dash });
    marks.push({ is: "text", x: key + 27, y: size * 0.9, text: series.name, size, fill: ink.text });
    key += 45 + wide(series.name, size);
  }
  const spot = (row: number, col: number) => {
    const series = given.series[row];
    return series?.x[col] === undefined ? null : { x: px(series.x[col] as number), y: py(series.y[col] ?? NaN) };
  };
  return {
    scene: { width, height, marks },
    rows: given.series.length,
    cols: Math.max(0, ...given.series.map((s) => s.x.length)),
    box: ({ row, col }) => {
      const at = row === undefined || col === undefined ? null : spot(row, col);
      return at && { x: at.x - 5, y: at.y - 5, w: 10, h: 10 };
    },
    at: (x, y) => {
      let best: { cell: Cell; far: number } | null = null;
      given.series.forEach((series, row) =>
        series.x.forEach((_, col) => {
          const at = spot(row, col);
          const far = at ? Math.abs(at.x - x) + Math.abs(at.y - y) * 0.4 : 1e9;
          if (far < 30 && far < (best?.far ?? 1e9)) best = { cell: { row, col }, far };
        }),
      );
      return (best as { cell: Cell } | null)?.cell ?? null;
    },
  };
}
