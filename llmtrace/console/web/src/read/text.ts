/** Token text as it is shown: a space is `·`, a newline `↵`, and marks that steer direction are named, not obeyed. */
const NAMED = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g;

export function shown(text: string): string {
  if (text === "") return "⟨empty⟩";
  return text
    .replaceAll("\n", "↵")
    .replaceAll("\t", "⇥")
    .replaceAll(" ", "·")
    .replace(NAMED, (mark) => `⟨U+${mark.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`);
}

const MINUS = "\u2212";

/** A number to a fixed count of places, with a true minus. */
export function number(value: number | null | undefined, places = 3): string {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : `${MINUS}∞`;
  const text = Math.abs(value).toFixed(places);
  return value < 0 && Number(text) !== 0 ? MINUS + text : text;
}

/** The same with its sign always written: for differences. */
export function signed(value: number | null | undefined, places = 3): string {
  const text = number(value, places);
  return value !== null && value !== undefined && value > 0 && Number(text) !== 0 ? `+${text}` : text;
}

export const percent = (value: number, places = 1): string => `${number(value * 100, places)} %`;
