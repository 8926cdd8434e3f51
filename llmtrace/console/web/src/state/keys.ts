import { edit, whyFixed } from "./acts";
import { nameOf, type Place } from "./place";
import { TABS, type State } from "./state";
import { dispatch, now } from "./store";

export const KEYS: [string, string][] = [
  ["1 … 9", "tabs"],
  ["[ ]", "layer down, up"],
  [", .", "head before, after"],
  ["← →", "query token before, after"],
  ["Shift+← Shift+→", "key token before, after"],
  ["a", "ablate the chosen head or MLP"],
  ["p", "pin it"],
  ["c", "show A, B, A − B"],
  ["t", "tables instead of charts"],
  ["f", "fill the page with a panel"],
  ["/", "find"],
  ["Ctrl+Z", "undo"],
  ["Ctrl+Shift+Z", "redo"],
  ["?", "this sheet"],
  ["Esc", "close, let go"],
];

const around = (value: number, count: number): number => ((value % count) + count) % count;

/** The neighbour in layer or head; past the last head comes the MLP, then the first head again. */
export function neighbour(place: Place | null, layers: number, heads: number, dl: number, dh: number): Place {
  if (!place) return { layer: dl < 0 ? layers - 1 : 0, head: 0 };
  const layer = Math.min(layers - 1, Math.max(0, place.layer + dl));
  if (!dh) return { layer, head: place.head };
  const head = around((place.head ?? heads) + dh, heads + 1);
  return { layer, head: head === heads ? null : head };
}

function shift(state: State, which: "query" | "key", by: number): void {
  const last = (state.runs[state.a ?? ""]?.clean.tokens.length ?? 1) - 1;
  const at = Math.min(last, Math.max(0, (state[which] ?? (by > 0 ? -1 : last + 1)) + by));
  dispatch(which === "query" ? { do: "lock", query: at } : { do: "lock", key: at });
}

function ablate(state: State): void {
  const why = whyFixed() ?? (state.place ? null : "Choose a head or an MLP first, then ablate it.");
  if (why) dispatch({ do: "set", part: { problem: why } });
  else if (state.place) void edit({ kind: "ablate", node: nameOf(state.place), how: state.options["how"] ?? "zero", positions: null });
}

/** What a key does; true where it did something. `frame` is the panel that was touched last. */
export function press(event: KeyboardEvent, frame: string | null): boolean {
  const state = now();
  const within = event.target as HTMLElement | null;
  if (event.key === "Escape") return dispatch({ do: "release" }), true;
  if (state.dialog || within?.closest?.("input[type=text], textarea, select, dialog")) return false;
  const control = event.ctrlKey || event.metaKey;
  if (control && event.key.toLowerCase() === "z") return dispatch({ do: event.shiftKey ? "redo" : "undo" }), true;
  if (control && event.key.toLowerCase() === "y") return dispatch({ do: "redo" }), true;
  if (control || event.altKey) return false;
  const model = state.meta?.model;
  const select = (dl: number, dh: number) => {
    if (model) dispatch({ do: "select", place: neighbour(state.place, model.n_layers, model.n_heads, dl, dh) });
  };
  const tab = TABS[Number(event.key) - 1];
  if (/^[1-9]$/.test(event.key) && tab) return dispatch({ do: "tab", tab }), true;
  const acts: Record<string, () => void> = {
    "[": () => select(-1, 0),
    "]": () => select(1, 0),
    ",": () => select(0, -1),
    ".": () => select(0, 1),
    ArrowLeft: () => shift(state, event.shiftKey ? "key" : "query", -1),
    ArrowRight: () => shift(state, event.shiftKey ? "key" : "query", 1),
    a: () => ablate(state),
    p: () => state.place && dispatch({ do: "pin", name: nameOf(state.place) }),
    c: () => dispatch({ do: "turn" }),
    t: () => dispatch({ do: "set", part: { table: !state.table } }),
    f: () => dispatch({ do: "set", part: { full: state.full ? null : frame } }),
    "/": () => dispatch({ do: "set", part: { dialog: "find" } }),
    "?": () => dispatch({ do: "set", part: { dialog: "keys" } }),
  };
  const act = acts[event.key];
  if (!act || (within?.closest?.("input") && event.key.startsWith("Arrow"))) return false;
  act();
  return true;
}
