import { describe, expect, it } from "vitest";
import { panned, whole, zoomed } from "../src/draw/drawn";
import { heat } from "../src/draw/heat";
import { inkOf } from "../src/draw/ink";
import { raster } from "../src/draw/raster";
import { colour, indexOf, inkOn, largest, shares, signs } from "../src/draw/scale";
import { fit, stack, type Mark } from "../src/draw/scene";
import { toSvg } from "../src/draw/svg";

const ink = inkOf(false, 11);

const luminance = (rgb: string): number => {
  const [r, g, b] = rgb.startsWith("#") ? (rgb === "#000" ? [0, 0, 0] : [255, 255, 255]) : (rgb.match(/\d+/g) ?? []).map(Number);
  const linear = (c: number | undefined) => (((c ?? 0) / 255 <= 0.03928 ? (c ?? 0) / 255 / 12.92 : (((c ?? 0) / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
};

describe("colour scales", () => {
  it("begin and end where viridis does", () => {
    expect([colour(shares(), 0), colour(shares(), 1)]).toEqual(["rgb(68,1,84)", "rgb(253,231,37)"]);
  });
  it("are clamped, and a sign's zero is the middle", () => {
    const scale = signs(2, false);
    expect([indexOf(scale, -9), indexOf(scale, 9), indexOf(scale, 0)]).toEqual([0, 255, 128]);
    expect(colour(scale, 0)).toMatch(/^rgb\(24[56],246,246\)$/);
    expect(signs(0, false).high).toBe(1);
  });
  it("carry text that can be read: contrast 4 to 1 at least, in every colour", () => {
    for (const scale of [shares(), signs(1, false), signs(1, true)])
      for (let i = 0; i <= 100; i++) {
        const value = scale.low + ((scale.high - scale.low) * i) / 100;
        const [a, b] = [luminance(colour(scale, value)), luminance(inkOn(scale, value))];
        expect((Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)).toBeGreaterThan(4);
      }
  });
  it("the largest is by size, and what is no number does not count", () => expect(largest([1, -3, NaN, -Infinity])).toBe(3));
});

describe("raster", () => {
  it("shows the largest where there are more cells than pixels, signs kept", () => {
    const values = [0, 0, -5, 1, 0, 0, 0, 2];
    const image = raster((_, col) => values[col] as number, [0, 1], [0, 8], signs(5, false), { rows: 1, cols: 2 });
    expect([image.cols, image.pooled]).toEqual([2, 4]);
    expect([...image.rgba.slice(0, 3)]).toEqual([143, 15, 38]);
  });
  it("leaves out what is not there", () => expect(raster(() => NaN, [0, 1], [0, 1], shares(), { rows: 9, cols: 9 }).rgba[3]).toBe(0));
});

describe("heat map", () => {
  const names = (count: number) => Array.from({ length: count }, () => "same");
  const drawn = heat({ rows: names(3), cols: names(4), rowTitle: "r", colTitle: "c", value: (r, c) => r * 10 + c, scale: shares(40), unit: "u", text: (r, c) => `${r}${c}`, upward: true, gapBefore: 3 }, 500, ink);
  it("finds each cell again where it is drawn, past a gap and upward; equal names stay apart", () => {
    for (let row = 0; row < 3; row++)
      for (let col = 0; col < 4; col++) {
        const box = drawn.box({ row, col });
        expect(box && drawn.at(box.x + box.w / 2, box.y + box.h / 2)).toEqual({ row, col });
      }
    expect((drawn.box({ row: 0, col: 0 })?.y ?? 0) > (drawn.box({ row: 2, col: 0 })?.y ?? 0)).toBe(true);
    expect(drawn.at(0, 0)).toBeNull();
  });
  it("zooms about a cell and never leaves the map", () => {
    const seen = zoomed(whole(1000, 1000), { row: 990, col: 10 }, 0.1, 1000, 1000);
    expect([seen.row[1] - seen.row[0], seen.row[0] <= 990 && 990 < seen.row[1], seen.col[0] <= 10 && 10 < seen.col[1]]).toEqual([100, true, true]);
    expect(panned(seen, 1000, 1000, 99999, -99999)).toEqual({ row: [900, 1000], col: [0, 100] });
  });
});

describe("pictures", () => {
  const marks: Mark[] = [{ is: "text", x: 1, y: 2, text: '</text><script>"&', size: 10, fill: "#000" }];
  it("are SVG in which text is text", () => {
    const svg = toSvg({ width: 10, height: 10, marks }, "#fff", () => "");
    expect(svg).not.toContain("<script>");
    expect(svg).toContain("&#60;script&#62;&#34;&#38;");
  });
  it("stand under one another in a file", () => {
    const both = stack([{ width: 10, height: 5, marks }, { width: 20, height: 5, marks }], 3);
    expect([both.width, both.height, both.marks.map((mark) => (mark.is === "text" ? mark.y : 0))]).toEqual([20, 13, [2, 10]]);
  });
  it("cut long text with an ellipsis", () => expect(fit("abcdefghij", 10, 30).endsWith("…")).toBe(true));
});
