/** What charts are drawn with. */
export interface Ink {
  dark: boolean;
  text: string;
  soft: string;
  line: string;
  page: string;
  lock: string;
  a: string;
  b: string;
  size: number; // of letters, in px
}

const LIGHT: Omit<Ink, "size"> = {
  dark: false, text: "#16191d", soft: "#565e69", line: "#d5d9df", page: "#ffffff", lock: "#b3400a", a: "#1f5fa8", b: "#b3400a",
}; // prettier-ignore
const DARK: Omit<Ink, "size"> = {
  dark: true, text: "#e6e9ee", soft: "#a2abb8", line: "#39404b", page: "#15181d", lock: "#ffab6b", a: "#79b4f2", b: "#ffab6b",
}; // prettier-ignore

export const inkOf = (dark: boolean, size: number): Ink => ({ ...(dark ? DARK : LIGHT), size });
