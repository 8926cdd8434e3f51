import type { Run } from "../contract";
import type { Action, Shown, State } from "./state";

const TURN: Record<Shown, Shown> = { a: "b", b: "diff", diff: "a" };

function keep(state: State, runs: Run[]): Pick<State, "runs" | "order"> {
  const added = runs.filter((run) => !(run.id in state.runs)).map((run) => run.id);
  return {
    runs: { ...state.runs, ...Object.fromEntries(runs.map((run) => [run.id, run])) },
    order: [...state.order, ...added],
  };
}

export const less = (a: number | null, b: number | null): number | null => (a === null || b === null ? null : a - b);

/** Tokens that stay chosen: a position that the new run does not have is let go. */
function within(state: State, id: string): Pick<State, "query" | "key"> {
  const length = state.runs[id]?.clean.tokens.length ?? 0;
  const fits = (at: number | null) => (at !== null && at < length ? at : null);
  return { query: fits(state.query), key: fits(state.key) };
}

/** The run that A is set beside: what it was before its edits, unless a person chose another one. */
function beside(state: State, id: string): Pick<State, "b" | "shown"> {
  const run = state.runs[id];
  const chosen = state.b && state.b !== state.runs[state.a ?? ""]?.parent ? state.b : null;
  const b = chosen ?? run?.parent ?? null;
  const alone = b === null || b === id;
  return { b: alone ? null : b, shown: alone ? "a" : state.shown };
}

function show(state: State, id: string): State {
  if (!(id in state.runs)) return state;
  return { ...state, a: id, ...beside(state, id), ...within(state, id) };
}

function step(state: State, from: "past" | "future"): State {
  const [back, forth] = from === "past" ? [state.past, state.future] : [state.future, state.past];
  const id = back.at(-1);
  if (!id || !state.a) return state;
  const [less, more] = [back.slice(0, -1), [...forth, state.a]];
  return { ...show(state, id), past: from === "past" ? less : more, future: from === "past" ? more : less };
}

export function reduce(state: State, action: Action): State {
  switch (action.do) {
    case "meta":
      return { ...state, meta: action.meta };
    case "runs":
      return { ...state, ...keep(state, action.runs) };
    case "restore":
      return { ...state, ...action.part };
    case "made": {
      const { run, what } = action;
      const from = state.a ? state.runs[state.a] : undefined;
      const known = { ...state, ...keep(state, [run]), busy: null, problem: null };
      const log = [
        { id: (state.log[0]?.id ?? 0) + 1, what, run: run.id, value: run.value, change: less(run.value, from?.value ?? run.value), python: run.python },
        ...state.log,
      ];
      if (run.id === state.a) return { ...known, log };
      return { ...show(known, run.id), log, past: state.a ? [...state.past, state.a] : state.past, future: [] };
    }
    case "show":
      if (action.run === state.a || !(action.run in state.runs)) return state;
      return { ...show(state, action.run), past: state.a ? [...state.past, state.a] : state.past, future: [] };
    case "undo":
      return step(state, "past");
    case "redo":
      return step(state, "future");
    case "against": {
      const alone = action.run === null || action.run === state.a;
      return { ...state, b: alone ? null : action.run, shown: alone ? "a" : state.shown };
    }
    case "swap":
      if (!state.b || !state.a) return state;
      return { ...state, a: state.b, b: state.a, past: [...state.past, state.a], future: [] };
    case "shown":
      return state.b || action.shown === "a" ? { ...state, shown: action.shown } : state;
    case "turn":
      return state.b ? { ...state, shown: TURN[state.shown] } : state;
    case "tab":
      return { ...state, tab: action.tab, full: null };
    case "select":
      return { ...state, place: action.place };
    case "lock":
      return {
        ...state,
        query: action.query === undefined ? state.query : action.query,
        key: action.key === undefined ? state.key : action.key,
      };
    case "hover":
      return { ...state, hover: action.hover };
    case "release":
      if (state.dialog || state.full || state.problem) return { ...state, dialog: null, full: null, problem: null };
      if (state.query !== null || state.key !== null) return { ...state, query: null, key: null, hover: {} };
      return { ...state, place: null, hover: {} };
    case "pin": {
      const held = state.pins.includes(action.name);
      return { ...state, pins: held ? state.pins.filter((name) => name !== action.name) : [...state.pins, action.name] };
    }
    case "name":
      return { ...state, names: { ...state.names, [action.run]: action.name } };
    case "option":
      return { ...state, options: { ...state.options, [action.name]: action.value } };
    case "job":
      return { ...state, jobs: { ...state.jobs, [action.working.job.id]: action.working } };
    case "set":
      return { ...state, ...action.part };
  }
}
