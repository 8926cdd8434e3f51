import type { Job, Meta, Run } from "../contract";
import type { Place } from "./place";

export const TABS = ["overview", "attention", "lens", "attribution", "patch", "circuit", "compare", "generation", "findings"] as const;
export type Tab = (typeof TABS)[number];
/** The tab to open with: the first whose view the source can give. */
export const firstTab = (meta: Meta): Tab => TABS.find((tab) => tab !== "compare" && tab !== "findings" && !(tab in meta.missing)) ?? "overview";

export type Shown = "a" | "b" | "diff";
export type Theme = "auto" | "light" | "dark";
export type Dialog = "keys" | "find" | "new" | "export" | "text" | null;

/** What a person points at without clicking. */
export interface Hover {
  place?: Place | null;
  query?: number | null;
  key?: number | null;
}

/** One thing that was done, with the Python that does the same. */
export interface Entry {
  id: number;
  what: string;
  run: string;
  value: number | null;
  change: number | null; // against the run it was made from
  python: string;
}

export interface Working {
  job: Job;
  run: string;
  rows: Record<number, number[]>;
}

export interface State {
  meta: Meta | null;
  runs: Record<string, Run>;
  order: string[]; // of the runs, as they came
  names: Record<string, string>; // given on this page
  a: string | null;
  b: string | null;
  shown: Shown;
  past: string[];
  future: string[];
  tab: Tab;
  place: Place | null;
  query: number | null;
  key: number | null;
  hover: Hover;
  pins: string[];
  table: boolean;
  full: string | null; // the panel that fills the page
  theme: Theme;
  dialog: Dialog;
  copied: string; // text that could not be put on the clipboard, to be copied by hand
  log: Entry[];
  jobs: Record<string, Working>;
  busy: string | null;
  problem: string | null;
  options: Record<string, string>; // what the panels' pickers say
}

export const START: State = {
  meta: null,
  runs: {},
  order: [],
  names: {},
  a: null,
  b: null,
  shown: "a",
  past: [],
  future: [],
  tab: "overview",
  place: null,
  query: null,
  key: null,
  hover: {},
  pins: [],
  table: false,
  full: null,
  theme: "auto",
  dialog: null,
  copied: "",
  log: [],
  jobs: {},
  busy: null,
  problem: null,
  options: {},
};

export type Action =
  | { do: "meta"; meta: Meta }
  | { do: "runs"; runs: Run[] }
  | { do: "restore"; part: Partial<State> }
  | { do: "made"; run: Run; what: string }
  | { do: "show"; run: string }
  | { do: "undo" }
  | { do: "redo" }
  | { do: "against"; run: string | null }
  | { do: "swap" }
  | { do: "shown"; shown: Shown }
  | { do: "turn" }
  | { do: "tab"; tab: Tab }
  | { do: "select"; place: Place | null }
  | { do: "lock"; query?: number | null; key?: number | null }
  | { do: "hover"; hover: Hover }
  | { do: "release" }
  | { do: "pin"; name: string }
  | { do: "name"; run: string; name: string }
  | { do: "option"; name: string; value: string }
  | { do: "job"; working: Working }
  | { do: "set"; part: Partial<Pick<State, "table" | "full" | "theme" | "dialog" | "busy" | "problem" | "copied">> };
