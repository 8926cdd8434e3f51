import type { Ink } from "./ink";
import { ticksOf, type Scale } from "./scale";
import { type Mark } from "./scene";

/** The colours with their numbers, and the unit. */
export function legend(scale: Scale, unit: string, x: number, y: number, ink: Ink): Mark[] {
  const [w, h, size] = [132, 8, ink.size - 1];
  const ends = ticksOf(scale);
  const marks: Mark[] = [
    { is: "image", x, y, w, h, cols: 256, rows: 1, rgba: scale.lut },
    { is: "rect", x: x + 0.5, y: y + 0.5, w: w - 1, h: h - 1, stroke: ink.line },
  ];
  ends.forEach((text, i) =>
    marks.push({ is: "text", x: x + (w * i) / 2, y: y + h + size * 0.8, text, size, fill: ink.soft, anchor: i === 0 ? "start" : i === 1 ? "middle" : "end" }),
  );
  marks.push({ is: "text", x: x + w + 10, y: y + h / 2, text: unit, size, fill: ink.soft });
  return marks;
}

export const legendHeight = (ink: Ink): number => 10 + ink.size * 1.6;
