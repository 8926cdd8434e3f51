import { indexOf, type Scale } from "./scale";

/** Values as pixels. Where there are more cells than pixels, a pixel shows the largest (by size) of its cells. */
export function raster(
  value: (row: number, col: number) => number,
  [r0, r1]: [number, number],
  [c0, c1]: [number, number],
  scale: Scale,
  room: { rows: number; cols: number },
  upward = false,
): { rgba: Uint8ClampedArray; rows: number; cols: number; pooled: number } {
  const pooled = Math.max(1, Math.ceil((r1 - r0) / room.rows), Math.ceil((c1 - c0) / room.cols));
  const [rows, cols] = [Math.ceil((r1 - r0) / pooled), Math.ceil((c1 - c0) / pooled)];
  const rgba = new Uint8ClampedArray(rows * cols * 4);
  for (let row = 0; row < rows; row++)
    for (let col = 0; col < cols; col++) {
      let found = NaN;
      for (let r = r0 + row * pooled; r < Math.min(r1, r0 + (row + 1) * pooled); r++)
        for (let c = c0 + col * pooled; c < Math.min(c1, c0 + (col + 1) * pooled); c++) {
          const here = value(r, c);
          if (!(Math.abs(here) <= Math.abs(found))) found = Number.isNaN(here) ? found : here;
        }
      if (Number.isNaN(found)) continue;
      const from = indexOf(scale, found) * 4;
      const to = ((upward ? rows - 1 - row : row) * cols + col) * 4;
      rgba[to] = scale.lut[from] as number;
      rgba[to + 1] = scale.lut[from + 1] as number;
      rgba[to + 2] = scale.lut[from + 2] as number;
      rgba[to + 3] = 255;
    }
  return { rgba, rows, cols, pooled };
}
