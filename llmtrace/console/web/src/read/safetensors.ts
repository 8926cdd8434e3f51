/** A safetensors file, read in place: 8 bytes of length, a JSON header, then the numbers. */
export interface Tensor {
  shape: number[];
  data: Uint8Array | Float32Array;
}

const ITEM = { U8: 1, F32: 4 } as const;

export function readSafetensors(file: ArrayBuffer): Record<string, Tensor> {
  const length = Number(new DataView(file).getBigUint64(0, true));
  if (8 + length > file.byteLength) throw new Error("safetensors: the header is longer than the file");
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(file, 8, length)));
  const found: Record<string, Tensor> = {};
  for (const [name, entry] of Object.entries<any>(header)) {
    if (name === "__metadata__") continue;
    const size = ITEM[entry.dtype as keyof typeof ITEM];
    if (!size) throw new Error(`safetensors: ${name} is ${entry.dtype}; this page reads U8 and F32`);
    const [start, end] = [8 + length + entry.data_offsets[0], 8 + length + entry.data_offsets[1]];
    const count = entry.shape.reduce((product: number, side: number) => product * side, 1);
    if (end > file.byteLength || end - start !== count * size) throw new Error(`safetensors: ${name} is cut`);
    const data =
      size === 1 ? new Uint8Array(file, start, count)
      : start % 4 === 0 ? new Float32Array(file, start, count)
      : new Float32Array(file.slice(start, end)); // prettier-ignore
    found[name] = { shape: entry.shape, data };
  }
  return found;
}

/** The only tensor of a file that holds one. */
export function readOne(file: ArrayBuffer): Tensor {
  const all = Object.values(readSafetensors(file));
  if (!all[0]) throw new Error("safetensors: the file holds no tensor");
  return all[0];
}
