import type { Cell, Drawn } from "./drawn";
import type { Ink } from "./ink";
import { legend, legendHeight } from "./legend";
import { colour, inkOn, type Scale } from "./scale";
import { fit, wide, type Mark } from "./scene";

/** Tokens as running text, each shaded by a number; a bar below each repeats the number as a length. */
export function flow(tokens: string[], values: number[], scale: Scale, unit: string, width: number, ink: Ink): Drawn {
  const size = ink.size + 1;
  const tall = Math.round(size * 1.55);
  const boxes: { x: number; y: number; w: number; h: number }[] = [];
  const marks: Mark[] = [];
  let [x, y] = [2, 4];
  const most = Math.max(Math.abs(scale.low), Math.abs(scale.high));
  tokens.forEach((token, i) => {
    const text = fit(token, size, width - 20);
    const w = Math.max(14, wide(text, size) + 8);
    if (x + w > width - 2 && x > 2) [x, y] = [2, y + tall + 9];
    boxes.push({ x, y, w, h: tall });
    const value = values[i] ?? NaN;
    const known = !Number.isNaN(value);
    marks.push({ is: "rect", x, y, w, h: tall, fill: known ? colour(scale, value) : undefined, stroke: ink.line });
    marks.push({ is: "text", x: x + w / 2, y: y + tall / 2, text, size, fill: known ? inkOn(scale, value) : ink.soft, anchor: "middle" });
    if (known && most) marks.push({ is: "rect", x, y: y + tall + 1, w: Math.min(1, Math.abs(value) / most) * w, h: 3, fill: value < 0 ? ink.b : ink.a });
    x += w + 3;
  });
  const bottom = y + tall + 14;
  marks.push(...legend(scale, unit, 2, bottom, ink));
  const at = (px: number, py: number): Cell | null => {
    const col = boxes.findIndex((box) => px >= box.x && px < box.x + box.w + 3 && py >= box.y && py < box.y + box.h + 6);
    return col < 0 ? null : { row: 0, col };
  };
  return {
    scene: { width, height: bottom + legendHeight(ink), marks },
    rows: 1,
    cols: tokens.length,
    at,
    box: ({ col }) => (col === undefined ? null : (boxes[col] ?? null)),
  };
}
