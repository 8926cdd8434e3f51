import type { Meta, Run } from "../../contract";
import { nameOf, parsePlace, type Place } from "../../state/place";

/** What stands on one side of the comparison: a head, or the mean of a layer's heads (L3), of run A or B. */
export interface Side {
  spelled: string; // a:a3.h2, b:L3
  run: Run;
  layer: number;
  head: number | null;
  says: string;
}

export function readSide(spelled: string, a: Run, b: Run | null): Side | null {
  const [, which, name] = /^([ab]):(a\d+\.h\d+|L\d+)$/.exec(spelled) ?? [];
  const run = which === "b" ? b : a;
  if (!name || !run) return null;
  const place = parsePlace(name);
  const [layer, head] = place ? [place.layer, place.head] : [Number(name.slice(1)), null];
  const of = b ? `, run ${which?.toUpperCase()}` : "";
  return { spelled, run, layer, head, says: head === null ? `mean of layer ${layer}${of}` : `head ${layer}.${head}${of}` };
}

/** What can stand there: heads that were chosen or pinned, and layers, of each run. */
export function sidesOf(heads: string[], model: Meta["model"], a: Run, b: Run | null): [string, string][] {
  const layers = Array.from({ length: model?.n_layers ?? 0 }, (_, layer) => `L${layer}`);
  const all = (b ? ["a", "b"] : ["a"]).flatMap((which) => [...heads, ...layers].map((name) => `${which}:${name}`));
  return all.map((spelled) => [spelled, readSide(spelled, a, b)?.says ?? spelled]);
}

/** What the two sides say until a person says otherwise: two heads where two are at hand, else one head of both runs. */
export function usual(heads: string[], place: Place | null, model: Meta["model"], b: Run | null): [string, string] {
  const first = heads[0] ?? "a0.h0";
  if (heads[1]) return [`a:${first}`, `a:${heads[1]}`];
  if (b) return [`a:${first}`, `b:${first}`];
  const at = parsePlace(first) ?? place ?? { layer: 0, head: 0 };
  const next = { layer: at.layer, head: ((at.head ?? 0) + 1) % Math.max(1, model?.n_heads ?? 1) };
  return [`a:${first}`, `a:${nameOf(next)}`];
}
