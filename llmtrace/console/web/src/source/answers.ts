import { useEffect, useSyncExternalStore } from "react";
import { keyOf, Missing, NotYet, type Query, type Source } from "./source";

export type Got<T> =
  | { state: "idle" | "loading" }
  | { state: "ready"; value: T }
  | { state: "absent" | "missing" | "failed"; why: string };

const IDLE: Got<never> = { state: "idle" };
const LOADING: Got<never> = { state: "loading" };
const BYTES_KEPT = 96 * 2 ** 20;

/** Every answer is asked for once: views are pure, so what came back is kept. */
export class Answers {
  private readonly kept = new Map<string, Got<unknown>>();
  private readonly sizes = new Map<string, number>();
  private readonly listeners = new Set<() => void>();
  readonly source: Source;

  constructor(source: Source) {
    this.source = source;
  }

  readonly subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };

  look<T>(key: string | null): Got<T> {
    return ((key && this.kept.get(key)) || IDLE) as Got<T>;
  }

  async ask(view: string, query: Query, as: "json" | "bytes"): Promise<void> {
    const key = keyOf(view, query);
    if (this.kept.has(key)) return;
    this.put(key, LOADING);
    try {
      const value = await this.source[as](view, query);
      if (value instanceof ArrayBuffer) this.weigh(key, value.byteLength);
      this.put(key, { state: "ready", value });
    } catch (problem) {
      const why = problem instanceof Error ? problem.message : String(problem);
      const state = problem instanceof NotYet ? "absent" : problem instanceof Missing ? "missing" : "failed";
      this.put(key, { state, why });
    }
  }

  forget(key: string): void {
    this.kept.delete(key);
    this.tell();
  }

  /** All answers that did not come, so that they are asked for again. */
  forgetFailures(): void {
    for (const [key, got] of this.kept) if (got.state === "failed") this.kept.delete(key);
    this.tell();
  }

  private weigh(key: string, bytes: number): void {
    this.sizes.set(key, bytes);
    let sum = [...this.sizes.values()].reduce((total, size) => total + size, 0);
    for (const [old, size] of this.sizes) {
      if (sum <= BYTES_KEPT || old === key) break;
      this.sizes.delete(old);
      this.kept.delete(old);
      sum -= size;
    }
  }

  private put(key: string, got: Got<unknown>): void {
    this.kept.set(key, got);
    this.tell();
  }

  private tell(): void {
    for (const listener of this.listeners) listener();
  }
}

let answers: Answers;
export const setAnswers = (given: Answers): void => void (answers = given);
export const theAnswers = (): Answers => answers;

function useAnswer<T>(view: string, query: Query | null, as: "json" | "bytes"): Got<T> {
  const key = query && keyOf(view, query);
  const got = useSyncExternalStore(answers.subscribe, () => answers.look<T>(key));
  useEffect(() => {
    if (query && got.state === "idle") void answers.ask(view, query, as);
  });
  return query && got.state === "idle" ? (LOADING as Got<T>) : got;
}

export const useView = <T>(view: string, query: Query | null): Got<T> => useAnswer<T>(view, query, "json");
export const useBytes = (view: string, query: Query | null): Got<ArrayBuffer> => useAnswer(view, query, "bytes");
