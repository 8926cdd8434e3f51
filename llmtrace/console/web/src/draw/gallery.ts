import type { Drawn } from "./drawn";
import type { Ink } from "./ink";
import { legend, legendHeight } from "./legend";
import { shares } from "./scale";
import { fit, type Mark } from "./scene";

/** Many small attention maps: a row per layer, a column per head; each pixel is the largest of the cells that it stands for. */
export function gallery(pooled: Uint8Array, [layers, heads, side]: [number, number, number], only: number | null, width: number, ink: Ink): Drawn {
  const rows = only === null ? Array.from({ length: layers }, (_, i) => i) : [only];
  const left = ink.size * 2.6;
  const gap = 5;
  const label = ink.size + 5;
  const across = Math.max(1, Math.min(heads, Math.floor((width - left) / 96)));
  const fold = only === null ? heads : Math.ceil(heads / Math.ceil(heads / across)); // lines of equal length
  const size = Math.max(14, Math.min(only === null ? 110 : 150, Math.floor((width - left - 4) / fold) - gap));
  const lines = Math.ceil(heads / fold);
  const showLabel = size >= 26;
  const tall = size + gap + (showLabel ? label : 0);
  const scale = shares(1);
  const marks: Mark[] = [];
  const place = (layer: number, head: number) => {
    const line = rows.indexOf(layer);
    const from = only === null ? rows.length - 1 - line : Math.floor(head / fold);
    return { x: left + (head % fold) * (size + gap), y: 4 + from * tall };
  };
  for (const layer of rows) {
    if (only === null) marks.push({ is: "text", x: left - 7, y: place(layer, 0).y + size / 2, text: `L${layer}`, size: ink.size, fill: ink.soft, anchor: "end" });
    for (let head = 0; head < heads; head++) {
      const rgba = new Uint8ClampedArray(side * side * 4);
      const from = (layer * heads + head) * side * side;
      for (let i = 0; i < side * side; i++) {
        if (i % side > Math.floor(i / side)) continue; // what a token cannot see
        const shade = Math.round(((pooled[from + i] ?? 0) / 255) ** 2 * 255) * 4;
        rgba.set(scale.lut.subarray(shade, shade + 4), i * 4);
      }
      const { x, y } = place(layer, head);
      marks.push({ is: "image", x, y, w: size, h: size, cols: side, rows: side, rgba });
      marks.push({ is: "rect", x: x - 0.5, y: y - 0.5, w: size + 1, h: size + 1, stroke: ink.line });
      if (showLabel) marks.push({ is: "text", x: x + size / 2, y: y + size + label / 2, text: `${layer}.${head}`, size: ink.size, fill: ink.soft, anchor: "middle" });
    }
  }
  const bottom = 4 + (only === null ? rows.length : lines) * tall + 6;
  marks.push(...legend(scale, fit("~ attention, largest of each pixel's cells", ink.size - 1, width - left - 146), left, bottom, ink));
  return {
    scene: { width, height: bottom + legendHeight(ink), marks },
    rows: layers,
    cols: heads,
    upward: true,
    box: ({ row, col }) => {
      if (row === undefined || col === undefined || !rows.includes(row)) return null;
      return { ...place(row, col), w: size, h: size };
    },
    at: (x, y) => {
      for (const row of rows)
        for (let col = 0; col < heads; col++) {
          const at = place(row, col);
          if (x >= at.x && x < at.x + size + gap && y >= at.y && y < at.y + tall) return { row, col };
        }
      return null;
    },
  };
}
