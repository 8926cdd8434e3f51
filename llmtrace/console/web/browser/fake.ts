/** A tape of a model that does not exist: any size, hostile text, no service. Numbers follow from their place alone. */
import { readFileSync } from "node:fs";
import type { Attribution, CircuitView, GenerationView, HeadCard, HeadMap, Lens, Meta, Overview, Row, Run, Side, Sweep, Tape, Token } from "../src/contract";

export const HOSTILE = ["</script><script>document.title='owned'</script>", "<!--", "<img src=x onerror=\"document.title='owned'\">", "\u202Eabc", "שלום", "\n", " "];

const WORDS = "When| Mary| and| John| went| to| the| store|,| John| gave| a| drink| to".split("|");

const wave = (...at: number[]): number => Math.sin(at.reduce((sum, x, i) => sum + (x + 1) * (i * 2.7 + 1.3), 0));

export interface Size {
  layers: number;
  heads: number;
  tokens: number;
  hostile?: boolean;
}

const word = (i: number, { hostile }: Size): string => {
  const list = hostile ? [...WORDS.slice(0, 4), ...HOSTILE, ...WORDS.slice(4)] : WORDS;
  return list[i % list.length] as string;
};
const token = (id: number, text: string): Token => ({ id, text });

function side(size: Size, shift: number): Side {
  const tokens = Array.from({ length: size.tokens }, (_, i) => token(i + (i === 9 ? shift : 0), i === 9 && shift ? " Mary" : word(i, size)));
  return {
    prompt: tokens.map((one) => one.text).join(""),
    tokens,
    log_probability: tokens.map((_, i) => (i ? -2 - 2 * Math.abs(wave(i, shift)) : null)),
    top: [" Mary", " John", " the", " her", " him", " a", " them", " it"].map((text, i) => ({ token: token(900 + i, text), probability: 0.62 / (i * i + 1), logit: 16 - i * 1.3 - shift })),
    metric: 3.2 - 5 * shift,
    entropy: 1.31 + shift / 10,
  };
}

function run(id: string, size: Size, edited: boolean): Run {
  return {
    id, parent: edited ? "r0" : null, name: edited ? "ablated 1.2" : "ioi", clean: { ...side(size, 0), metric: edited ? 1.1 : 3.2 }, against: side(size, 1),
    correct: token(900, " Mary"), wrong: token(901, " John"), metric: "logit_diff", value: edited ? 1.104 : 3.2071, before: 3.2071,
    edits: edited ? [{ kind: "ablate", node: "a1.h2", how: "zero", positions: null }] : [], python: 'import llmtrace as lt\nmodel = lt.load("fake")', provenance: {},
  }; // prettier-ignore
}

const map = (size: Size, shift: number): HeadMap => ({
  title: "Direct logit attribution", unit: "logits", what: "What each head and MLP adds to logit(answer) − logit(foil) at END through the residual stream alone. Positive speaks for the answer. Blind to what a head does through later ones.",
  heads: Array.from({ length: size.layers }, (_, l) => Array.from({ length: size.heads }, (_, h) => 2 * wave(l, h, shift) ** 5)),
  mlps: Array.from({ length: size.layers }, (_, l) => wave(l, 3) ** 3), refused: null, python: "lt.direct_logit_attribution(trace)",
}); // prettier-ignore

const look = (l: number, h: number, n: number, q: number): number[] => {
  const raw = Array.from({ length: q + 1 }, (_, k) => Math.exp(3 * wave(l, h, q - k) + (k === 0 ? 2 : 0) + (h % 3 === 0 && q - k === 1 ? 4 : 0) + (h % 4 === 1 && (q - k) % 8 === 7 ? 4 : 0)));
  const sum = raw.reduce((a, b) => a + b, 0);
  return raw.map((value) => value / (sum || n));
};

const byte = (share: number): number => Math.round(255 * Math.sqrt(share));

function safetensors(name: string, shape: number[], data: Uint8Array): string {
  const header = JSON.stringify({ [name]: { dtype: "U8", shape, data_offsets: [0, data.length] } });
  const head = new TextEncoder().encode(header.padEnd(Math.ceil(header.length / 8) * 8));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(head.length));
  return Buffer.concat([length, head, data]).toString("base64");
}

export function fakeTape(size: Size, mode: Meta["mode"] = "file"): Tape {
  const { layers, heads, tokens: n } = size;
  const model = { name: "fake", n_layers: layers, n_heads: heads, n_key_value_heads: heads, d_model: 64, n_ctx: 2048, vocabulary: 1000, has_mlp: true, device: "cpu", dtype: "float32", weights: "00" };
  const meta: Meta = {
    kind: "llmtrace.console", schema_version: 1, mode, title: "fake model", model, limits: { tokens: 2048, prompt_characters: 20000, body_bytes: 100000, edges_sent: 2000, edits: 32 },
    choices: { token_methods: { decompx: "decomposed vectors", occlusion: "each token taken away" }, edge_methods: { eap_ig: "edge attribution patching, integrated" }, ablations: { zero: "nothing is written", mean: "the mean", resample: "another prompt's" }, sites: { resid_pre: "the residual stream before each layer", z: "heads" } },
    missing: mode === "live" ? {} : { paths: "Path patching was not asked for when this file was made.", edit: "This file has no model: edits need `llmtrace console MODEL`." }, versions: {},
  }; // prettier-ignore
  const runs = [run("r0", size, false), run("r1", size, true)];
  const answers: Tape["answers"] = { meta, runs };
  const bytes: Tape["bytes"] = {};
  const side_ = Math.min(64, Math.ceil(n / Math.ceil(n / 64)));
  const block = Math.ceil(n / 64);
  for (const [shift, one] of runs.entries()) {
    const id = one.id;
    answers[`overview?run=${id}`] = { run: id, maps: [map(size, shift)], explained: 3.31, python: "" } satisfies Overview;
    const pooled = new Uint8Array(layers * heads * side_ * side_);
    for (let l = 0; l < layers; l++) {
      const packed: number[] = [];
      for (let h = 0; h < heads; h++) {
        const at = (l * heads + h) * side_ * side_;
        for (let q = 0; q < n; q++) {
          const row = look(l, h + shift * 0.1, n, q);
          row.forEach((value, k) => {
            packed.push(byte(value));
            const to = at + Math.floor(q / block) * side_ + Math.floor(k / block);
            pooled[to] = Math.max(pooled[to] as number, byte(value));
          });
        }
        answers[`attention/row?${new URLSearchParams({ head: String(h), layer: String(l), query: String(n - 1), run: id })}`] = { run: id, layer: l, head: h, query: n - 1, attention: look(l, h + shift * 0.1, n, n - 1) } satisfies Row;
        answers[`head?${new URLSearchParams({ head: String(h), layer: String(l), run: id })}`] = {
          run: id, layer: l, head: h, key_value_head: h, direct: map(size, shift).heads?.[l]?.[h] ?? 0, rank: l * heads + h + 1,
          behaviour: { previous_token: 0.7, duplicate_token: 0.1, induction: 0.32, sink: 0.4, self: 0.05, entropy: 1.2 },
          top_pairs: [[n - 1, 1, 0.83], [9, 3, 0.4]], writes: [[" Mary", 2.1], [" John", -0.4]], refused: null, python: "lt.head(...)",
        } satisfies HeadCard; // prettier-ignore
      }
      if (n <= 128 || l === 0) bytes[`attention/layer?${new URLSearchParams({ layer: String(l), run: id })}`] = safetensors("attention", [heads, (n * (n + 1)) / 2], Uint8Array.from(packed));
    }
    bytes[`attention?run=${id}`] = safetensors("attention", [layers, heads, side_, side_], pooled);
    const stages = ["embed", ...Array.from({ length: layers }, (_, l) => `layer ${l}`)];
    answers[`lens?run=${id}`] = {
      run: id, stages, top: stages.map((_, s) => one.clean.tokens.map((_, i) => token(s * i, word(s * 3 + i, size)))), probability: stages.map((_, s) => one.clean.tokens.map((_, i) => Math.abs(wave(s, i)) * ((s + 1) / stages.length))),
      correct: stages.map((_, s) => -9 + s * 1.7), wrong: stages.map((_, s) => -9 + s * 1.2), correct_rank: stages.map((_, s) => Math.max(1, 900 - 240 * s)), wrong_rank: stages.map((_, s) => Math.max(2, 800 - 200 * s)), python: "lt.logit_lens(trace)",
    } satisfies Lens; // prettier-ignore
    for (const method of ["decompx", "occlusion"])
      answers[`attribution?${new URLSearchParams({ method, run: id })}`] = {
        run: id, method, what: "Share of the logit difference that comes through each token, in logits.", scores: one.clean.tokens.map((_, i) => 2 * wave(i, shift) ** 3), gap: 0.02,
        occlusion: one.clean.tokens.map((_, i) => 1.5 * wave(i, shift, 0.1) ** 3), correlation: 0.71, spans: [{ name: "S1 <b>", start: 3, end: 4, score: -1.2 }, { name: "IO", start: 1, end: 2, score: 2.1 }], refused: null, python: "lt.attribute(...)",
      } satisfies Attribution; // prettier-ignore
    answers[`patch?${new URLSearchParams({ run: id, site: "resid_pre" })}`] = {
      run: id, site: "resid_pre", rows: Array.from({ length: layers }, (_, l) => `resid_pre.${l}`), columns: one.clean.tokens.map((t) => t.text), values: Array.from({ length: layers }, (_, l) => one.clean.tokens.map((_, i) => -4 * wave(l, i) ** 6)),
      before: 3.2, against: -1.8, passes: layers * n, python: "lt.patch(...)",
    } satisfies Sweep; // prettier-ignore
  }
  const nodes: CircuitView["nodes"] = [{ name: "input", layer: -1, x: 0.5, role: null }, { name: "logits", layer: layers, x: 0.5, role: null }];
  for (let l = 0; l < layers; l++) {
    for (let h = 0; h < heads; h++) nodes.push({ name: `a${l}.h${h}`, layer: l, x: h / (heads + 1), role: l === 1 && h === 2 ? "name mover" : null });
    nodes.push({ name: `m${l}`, layer: l, x: 1, role: null });
  }
  const edges: CircuitView["edges"] = [];
  for (const a of nodes) for (const b of nodes) if (a.layer < b.layer && b.layer > -1 && a.name !== "logits") edges.push({ sender: a.name, receiver: b.name.startsWith("a") ? `${b.name}<v>` : b.name, score: wave(a.layer, a.x * 9, b.layer, b.x * 7) ** 5, kept: false });
  edges.sort((x, y) => Math.abs(y.score) - Math.abs(x.score));
  const sent = edges.slice(0, 200).map((edge, i) => ({ ...edge, kept: i < 40 }));
  answers[`circuit?${new URLSearchParams({ edges: "100", method: "eap_ig", run: "r0" })}`] = { run: "r0", method: "eap_ig", nodes, edges: sent, edges_total: edges.length, edges_cut: Math.max(0, edges.length - 200), faithfulness: 0.87, curve: [1, 3, 10, 30, 100, 300].map((k) => [k, 1 - Math.exp(-k / 30)]), python: "lt.discover(...)" } satisfies CircuitView; // prettier-ignore
  answers[`generation?${new URLSearchParams({ method: "decompx", run: "r0", tokens: "8" })}`] = { run: "r0", method: "decompx", tokens: [" Mary", " and", " then", " they", " went", " home", ".", "\n"].map((text, i) => ({ token: token(i, text), probability: 0.9 - i / 12, scores: Array.from({ length: n }, (_, k) => wave(i, k) ** 3), spans: [{ name: "IO", start: 1, end: 2, score: 1.4 - i / 5 }] })), python: "lt.generate(...)" } satisfies GenerationView; // prettier-ignore
  return { kind: "llmtrace.console", schema_version: 1, answers, bytes };
}

const PAGE = `${import.meta.dirname}/../../static/console.html`;

/** The page with a tape in it, as Python writes it: no `<` in the JSON can end the block that it stands in. */
export function pageWith(tape: Tape): string {
  const safe = JSON.stringify(tape).replaceAll("<", "\\u003c").replaceAll("\u2028", "\\u2028").replaceAll("\u2029", "\\u2029");
  return readFileSync(PAGE, "utf8").replace('id="tape"></script>', () => `id="tape">${safe}</script>`);
}
