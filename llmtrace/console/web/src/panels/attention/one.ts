import { useMemo } from "react";
import type { Run } from "../../contract";
import { number, shown, signed } from "../../read/text";
import type { Head } from "./head";

/** What the map and the lines of one head are drawn from. */
export interface OneProps {
  head: Head;
  average: boolean;
  map: Float32Array;
  run: Run;
  diff: boolean;
  what: string;
}

/** The tokens as text, and a cell in words. */
export function useWords({ run, map, diff }: OneProps) {
  const names = useMemo(() => run.clean.tokens.map((token) => shown(token.text)), [run]);
  const n = names.length;
  const say = (q: number, k: number) => {
    const value = map[q * n + k] ?? NaN;
    const words = `query ${q} ${names[q]} → key ${k} ${names[k]}`;
    return Number.isNaN(value) ? `${words}: cannot be seen` : `${words}: ~${diff ? signed(value) : number(value)}`;
  };
  return { names, n, say };
}
