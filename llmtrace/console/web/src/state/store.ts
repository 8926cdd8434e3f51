import { useSyncExternalStore } from "react";
import { reduce } from "./reduce";
import { START, type Action, type State } from "./state";

let state: State = START;
const listeners = new Set<() => void>();

export const now = (): State => state;

export function dispatch(action: Action): void {
  const next = reduce(state, action);
  if (next === state) return;
  state = next;
  for (const listener of listeners) listener();
}

export function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** A part of the state; the component is drawn again when that part changes. */
export const useStore = <T>(part: (state: State) => T): T => useSyncExternalStore(subscribe, () => part(state));

export const useRunA = () => useStore((s) => (s.a ? (s.runs[s.a] ?? null) : null));
export const useRunB = () => useStore((s) => (s.b ? (s.runs[s.b] ?? null) : null));
