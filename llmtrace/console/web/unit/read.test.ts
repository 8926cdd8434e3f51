import { describe, expect, it } from "vitest";
import { averageHead, decoded, minus, packedSize, square } from "../src/read/packed";
import { readOne, readSafetensors } from "../src/read/safetensors";
import { number, shown, signed } from "../src/read/text";

function file(header: object, data: Uint8Array): ArrayBuffer {
  const head = new TextEncoder().encode(JSON.stringify(header));
  const whole = new Uint8Array(8 + head.length + data.length);
  new DataView(whole.buffer).setBigUint64(0, BigInt(head.length), true);
  whole.set(head, 8);
  whole.set(data, 8 + head.length);
  return whole.buffer;
}

describe("safetensors", () => {
  it("reads bytes in place and floats also where they are not aligned", () => {
    const floats = new Uint8Array(Float32Array.of(1.5, -2).buffer);
    const read = readSafetensors(file({ __metadata__: { a: "b" }, u: { dtype: "U8", shape: [3], data_offsets: [0, 3] }, f: { dtype: "F32", shape: [1, 2], data_offsets: [3, 11] } }, Uint8Array.of(7, 8, 9, ...floats)));
    expect([...(read["u"]?.data ?? [])]).toEqual([7, 8, 9]);
    expect([...(read["f"]?.data ?? [])]).toEqual([1.5, -2]);
    expect(read["f"]?.shape).toEqual([1, 2]);
    expect(Object.keys(read)).toEqual(["u", "f"]);
  });
  it("refuses what is cut, too long or of another type", () => {
    const entry = (dtype: string, end: number) => ({ x: { dtype, shape: [end], data_offsets: [0, end] } });
    expect(() => readOne(file(entry("U8", 4), Uint8Array.of(1)))).toThrow("cut");
    expect(() => readOne(file(entry("F16", 2), Uint8Array.of(1, 2)))).toThrow("F16");
    expect(() => readOne(new Uint8Array(9).fill(255).buffer)).toThrow();
    expect(() => readOne(file({}, new Uint8Array()))).toThrow("no tensor");
  });
});

describe("packed attention", () => {
  const n = 5;
  const byte = (share: number) => Math.round(255 * Math.sqrt(share));
  const heads = [0, 1].map((h) => Array.from({ length: n }, (_, q) => Array.from({ length: q + 1 }, (_, k) => ((q * 7 + k * 3 + h) % 11) / 11)));
  const bytes = Uint8Array.from(heads.flat(2).map(byte));
  it("gives every value back to 0.004, and nothing above the diagonal", () => {
    expect(bytes.length).toBe(2 * packedSize(n));
    for (const head of [0, 1]) {
      const map = square(bytes, head, n);
      for (let q = 0; q < n; q++)
        for (let k = 0; k < n; k++)
          if (k > q) expect(map[q * n + k]).toBeNaN();
          else expect(Math.abs((map[q * n + k] as number) - (heads[head]?.[q]?.[k] as number))).toBeLessThan(0.004);
    }
  });
  it("errs by at most 0.004 anywhere, and is exact at 0 and 1", () => {
    for (let share = 0; share <= 1; share += 0.0007) expect(Math.abs(decoded(byte(share)) - share)).toBeLessThan(0.004);
    expect([decoded(0), decoded(255)]).toEqual([0, 1]);
  });
  it("averages heads, and takes maps from one another", () => {
    const mean = averageHead(bytes, 2, n);
    const [a, b] = [square(bytes, 0, n), square(bytes, 1, n)];
    expect(mean[n * 3 + 1]).toBeCloseTo(((a[n * 3 + 1] as number) + (b[n * 3 + 1] as number)) / 2, 6);
    expect(minus(a, a)[n]).toBe(0);
    expect(() => minus(a, new Float32Array(3))).toThrow("two sizes");
  });
});

describe("text", () => {
  it("shows white space and names marks that steer direction", () => {
    expect(shown(" a\nb\tc")).toBe("·a↵b⇥c");
    expect(shown("\u202Eabc\u200F")).toBe("⟨U+202E⟩abc⟨U+200F⟩");
    expect(shown("")).toBe("⟨empty⟩");
    expect(shown("</script>")).toBe("</script>");
  });
  it("writes numbers with a true minus, and no minus on a zero", () => {
    expect([number(-1.25, 2), number(-0.0001, 2), signed(0.5, 1), signed(-0.5, 1), signed(0.0001, 2), number(null), number(NaN), number(-Infinity)]).toEqual(["−1.25", "0.00", "+0.5", "−0.5", "0.00", "–", "–", "−∞"]);
  });
});
