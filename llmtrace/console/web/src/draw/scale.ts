import { number } from "../read/text";

/** 256 colours over an interval: viridis for shares, red - white - blue for what has a sign. */
export interface Scale {
  kind: "share" | "sign";
  lut: Uint8ClampedArray; // 256 x RGBA
  low: number;
  high: number;
}

const VIRIDIS = ["#440154", "#482878", "#3e4989", "#31688e", "#26828e", "#1f9e89", "#35b779", "#6ece58", "#b5de2b", "#fde725"];
const LIGHT = ["#8f0f26", "#c13639", "#de735c", "#f5ac8b", "#fbdccb", "#f6f6f6", "#d3e5f0", "#9bc9e0", "#529dc8", "#2a70b2", "#0b3c72"];
const DARK = ["#ffb09c", "#f0765f", "#c44a41", "#813233", "#482528", "#20242b", "#1d2f47", "#1f4c7c", "#2f72b5", "#5ba4e6", "#a9d5ff"];

const rgb = (hex: string): number[] => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));

function table(stops: string[]): Uint8ClampedArray {
  const lut = new Uint8ClampedArray(256 * 4);
  const colours = stops.map(rgb);
  for (let i = 0; i < 256; i++) {
    const at = (i / 255) * (stops.length - 1);
    const left = Math.min(Math.floor(at), stops.length - 2);
    const [from, to] = [colours[left] as number[], colours[left + 1] as number[]];
    for (let c = 0; c < 3; c++) lut[i * 4 + c] = (from[c] as number) + (at - left) * ((to[c] as number) - (from[c] as number));
    lut[i * 4 + 3] = 255;
  }
  return lut;
}

const LUTS = { share: table(VIRIDIS), light: table(LIGHT), dark: table(DARK) };

export const shares = (high = 1, low = 0): Scale => ({ kind: "share", lut: LUTS.share, low, high: high > low ? high : low + 1 });

export const signs = (most: number, dark: boolean): Scale => {
  const side = most > 0 && Number.isFinite(most) ? most : 1;
  return { kind: "sign", lut: dark ? LUTS.dark : LUTS.light, low: -side, high: side };
};

export function indexOf(scale: Scale, value: number): number {
  const at = ((value - scale.low) / (scale.high - scale.low)) * 255;
  return at <= 0 ? 0 : at >= 255 ? 255 : Math.round(at);
}

export function colour(scale: Scale, value: number): string {
  const i = indexOf(scale, value) * 4;
  return `rgb(${scale.lut[i]},${scale.lut[i + 1]},${scale.lut[i + 2]})`;
}

/** Black or white, whichever is read more easily on the colour of this value. */
export function inkOn(scale: Scale, value: number): string {
  const i = indexOf(scale, value) * 4;
  const linear = (c: number) => ((scale.lut[i + c] as number) / 255) ** 2.2;
  return 0.2126 * linear(0) + 0.7152 * linear(1) + 0.0722 * linear(2) > 0.18 ? "#000" : "#fff";
}

export function largest(values: Iterable<number>): number {
  let most = 0;
  for (const value of values) if (Math.abs(value) > most && Number.isFinite(value)) most = Math.abs(value);
  return most;
}

export const ticksOf = (scale: Scale): string[] => {
  const places = scale.high - scale.low < 0.2 ? 3 : scale.high - scale.low < 20 ? 2 : 1;
  return [scale.low, (scale.low + scale.high) / 2, scale.high].map((value) => number(value, places));
};
