import { useMemo } from "react";
import type { Overview, Run } from "../../contract";
import { averageHead, minus, square } from "../../read/packed";
import { readOne, type Tensor } from "../../read/safetensors";
import { useView } from "../../source/answers";
import { said, type Place } from "../../state/place";
import { useStore } from "../../state/store";
import type { Both } from "../both";
import { mapValues } from "../MapChart";

export type Head = Place & { head: number };

const seconds: WeakMap<ArrayBuffer, Tensor> = new WeakMap();
export function tensorOf(file: ArrayBuffer): Tensor {
  const kept = seconds.get(file) ?? readOne(file);
  seconds.set(file, kept);
  return kept;
}

/** The head that is looked at: the chosen one, or the strongest by direct attribution. */
export function useHead(run: Run | null): { head: Head; why: string | null } {
  const place = useStore((s) => s.place);
  const got = useView<Overview>("overview", run && { run: run.id });
  return useMemo(() => {
    if (place && place.head !== null) return { head: { layer: place.layer, head: place.head }, why: null };
    if (place) return { head: { layer: place.layer, head: 0 }, why: "An MLP is chosen: this is the first head of its layer." };
    const map = got.state === "ready" ? got.value.maps.find((one) => one.heads) : undefined;
    const strongest = map && mapValues(map, null).all.filter((one) => one.place.head !== null).sort((x, y) => Math.abs(y.value) - Math.abs(x.value))[0]; // prettier-ignore
    if (strongest) return { head: strongest.place as Head, why: `No head is chosen: this is ${said(strongest.place)}, the strongest by direct attribution.` };
    return { head: { layer: 0, head: 0 }, why: "No head is chosen: this is the first." };
  }, [place, got]);
}

/** A layer's answer as one square map: of a head, or the mean over all of them. */
export function mapOf(file: ArrayBuffer, head: number | null, n: number): Float32Array {
  const { data, shape } = tensorOf(file);
  const bytes = data as Uint8Array;
  return head === null ? averageHead(bytes, shape[0] ?? 1, n) : square(bytes, head, n);
}

/** The map of one head (or the mean over a layer's), or the difference of two runs'. */
export function useMap(both: Both<ArrayBuffer>, head: number | null, n: number): { map: Float32Array | null; why: string | null } {
  const [one, two] = [both.one.state === "ready" ? both.one.value : null, both.two?.state === "ready" ? both.two.value : null];
  return useMemo(() => {
    if (!one || (both.two && !two)) return { map: null, why: null };
    if (!two) return { map: mapOf(one, head, n), why: null };
    if (tensorOf(one).shape.at(-1) !== tensorOf(two).shape.at(-1)) return { map: null, why: "The runs have prompts of different lengths: their attention has no difference." };
    return { map: minus(mapOf(one, head, n), mapOf(two, head, n)), why: null };
  }, [one, two, head, n]);
}
