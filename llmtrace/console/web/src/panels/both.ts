import { useBytes, useView, type Got } from "../source/answers";
import type { Query } from "../source/source";
import type { Run } from "../contract";
import type { Shown } from "../state/state";
import { useRunA, useRunB, useStore } from "../state/store";

export interface Both<T> {
  shown: Shown;
  one: Got<T>; // A, or B where B is shown
  two: Got<T> | null; // B, where the difference is shown
  run: Run | null; // the one that `one` is of
}

function sides(a: Run | null, b: Run | null, shown: Shown): { first: Run | null; second: Run | null } {
  return { first: shown === "b" ? b : a, second: shown === "diff" ? b : null };
}

/** A view of the run that is shown, and of the other one where their difference is. */
export function useBoth<T>(view: string, query: Query | null): Both<T> {
  const [a, b, shown] = [useRunA(), useRunB(), useStore((s) => s.shown)];
  const { first, second } = sides(a, b, shown);
  const one = useView<T>(view, query && first && { ...query, run: first.id });
  const two = useView<T>(view, query && second && { ...query, run: second.id });
  return { shown, one, two: second ? two : null, run: first };
}

export function useBothBytes(view: string, query: Query | null): Both<ArrayBuffer> {
  const [a, b, shown] = [useRunA(), useRunB(), useStore((s) => s.shown)];
  const { first, second } = sides(a, b, shown);
  const one = useBytes(view, query && first && { ...query, run: first.id });
  const two = useBytes(view, query && second && { ...query, run: second.id });
  return { shown, one, two: second ? two : null, run: first };
}

/** What is not there yet of the two, or null where all is. */
export function lacking<T>({ one, two }: Both<T>): Got<T> | null {
  if (one.state !== "ready") return one;
  return two && two.state !== "ready" ? two : null;
}

/** The heading of what is shown. */
export const sideName = (shown: Shown): string => (shown === "a" ? "run A" : shown === "b" ? "run B" : "run A − run B");
