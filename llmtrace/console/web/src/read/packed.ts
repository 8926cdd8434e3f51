/** Attention as it travels: one byte a value on a square-root scale, causal rows one after another. */
const VALUE = Float32Array.from({ length: 256 }, (_, byte) => (byte / 255) ** 2);

export const decoded = (byte: number): number => VALUE[byte] ?? NaN;

/** How many bytes a causal map of n tokens has. */
export const packedSize = (n: number): number => (n * (n + 1)) / 2;

/** One head of a layer's packed bytes as a full n x n map; what a token cannot see is NaN. */
export function square(bytes: Uint8Array, head: number, n: number): Float32Array {
  const map = new Float32Array(n * n).fill(NaN);
  let at = head * packedSize(n);
  for (let query = 0; query < n; query++)
    for (let key = 0; key <= query; key++) map[query * n + key] = VALUE[bytes[at++] ?? 0] ?? 0;
  return map;
}

/** The mean over all heads of a layer. */
export function averageHead(bytes: Uint8Array, heads: number, n: number): Float32Array {
  const map = new Float32Array(n * n).fill(NaN);
  const size = packedSize(n);
  let at = 0;
  for (let query = 0; query < n; query++)
    for (let key = 0; key <= query; key++, at++) {
      let sum = 0;
      for (let head = 0; head < heads; head++) sum += VALUE[bytes[head * size + at] ?? 0] ?? 0;
      map[query * n + key] = sum / heads;
    }
  return map;
}

export function minus(a: Float32Array, b: Float32Array): Float32Array {
  if (a.length !== b.length) throw new Error("maps of two sizes have no difference");
  return a.map((value, i) => value - (b[i] as number));
}
