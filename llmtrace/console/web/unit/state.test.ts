import { describe, expect, it } from "vitest";
import { fakeTape } from "../browser/fake";
import type { Meta, Run } from "../src/contract";
import { HttpSource } from "../src/source/http";
import { keyOf, Missing } from "../src/source/source";
import { TapeSource } from "../src/source/tape";
import { again, readEdits, wordsOf } from "../src/state/edits";
import { neighbour } from "../src/state/keys";
import { nameOf, parsePlace } from "../src/state/place";
import { reduce } from "../src/state/reduce";
import { firstTab, START, type Action, type State } from "../src/state/state";
import { fromUrl, toUrl } from "../src/state/url";

const tape = fakeTape({ layers: 2, heads: 2, tokens: 12 });
const [clean, edited] = tape.answers["runs"] as [Run, Run];
const more: Run = { ...edited, id: "r2", edits: [...edited.edits, { kind: "knock_out", layer: 0, head: null, query: null, key: 3 }], value: 0.5 };
const act = (state: State, ...actions: Action[]): State => actions.reduce(reduce, state);
const opened = act(START, { do: "runs", runs: [clean] }, { do: "restore", part: { a: clean.id } });

describe("the loop", () => {
  it("an edit is a new run beside the one before it; undo and redo choose runs, and give the very same ones", () => {
    const one = act(opened, { do: "made", run: edited, what: "ablate" });
    expect([one.a, one.b, one.past]).toEqual(["r1", "r0", ["r0"]]);
    const two = act(one, { do: "made", run: more, what: "knock out" });
    expect([two.a, two.b, two.past, two.log.map((entry) => entry.what)]).toEqual(["r2", "r0", ["r0", "r1"], ["knock out", "ablate"]]);
    expect(two.log[0]?.change).toBeCloseTo(0.5 - (edited.value as number));
    const back = act(two, { do: "undo" }, { do: "undo" });
    expect([back.a, back.past, back.future]).toEqual(["r0", [], ["r2", "r1"]]);
    expect(back.runs["r0"]).toBe(clean);
    expect(act(back, { do: "undo" })).toBe(back);
    expect(act(back, { do: "redo" }, { do: "redo" }).a).toBe("r2");
    expect(act(back, { do: "made", run: more, what: "again" }).future).toEqual([]);
  });
  it("the same run again is no step", () => expect(act(opened, { do: "made", run: clean, what: "same" }).past).toEqual([]));
  it("a run B that a person chose stays", () => {
    const state = act(opened, { do: "runs", runs: [more] }, { do: "against", run: "r2" }, { do: "made", run: edited, what: "ablate" });
    expect([state.a, state.b]).toEqual(["r1", "r2"]);
  });
  it("without run B there is no difference to show", () => {
    expect(act(opened, { do: "turn" }).shown).toBe("a");
    const both = act(opened, { do: "made", run: edited, what: "" }, { do: "turn" }, { do: "turn" });
    expect(both.shown).toBe("diff");
    expect(act(both, { do: "undo" }).shown).toBe("a");
  });
  it("Esc closes first, then lets tokens go, then the head", () => {
    let state = act(opened, { do: "select", place: { layer: 1, head: 0 } }, { do: "lock", query: 3, key: 1 }, { do: "set", part: { dialog: "keys" } });
    const seen = [];
    for (let i = 0; i < 3; i++) {
      state = act(state, { do: "release" });
      seen.push([state.dialog, state.query, state.place && nameOf(state.place)]);
    }
    expect(seen).toEqual([[null, 3, "a1.h0"], [null, null, "a1.h0"], [null, null, null]]);
  });
  it("a token that the other run does not have is let go", () => {
    const short: Run = { ...clean, id: "s", clean: { ...clean.clean, tokens: clean.clean.tokens.slice(0, 4) } };
    const state = act(opened, { do: "lock", query: 9, key: 2 }, { do: "runs", runs: [short] }, { do: "show", run: "s" });
    expect([state.query, state.key]).toEqual([null, 2]);
  });
});

describe("the first tab", () => {
  const meta = tape.answers["meta"] as Meta;
  const without = (...views: string[]) => firstTab({ ...meta, missing: Object.fromEntries(views.map((view) => [view, "why"])) });
  it("is the first whose view the source has", () => {
    expect(without("paths")).toBe("overview");
    expect(without("overview")).toBe("attention");
    expect(without("overview", "attention", "lens", "attribution", "patch")).toBe("circuit");
    expect(without("overview", "attention", "lens", "attribution", "patch", "circuit", "generation")).toBe("overview");
  });
});

describe("places and edits", () => {
  it("are named as in files", () => {
    for (const name of ["a0.h11", "m3"]) expect(nameOf(parsePlace(name) as never)).toBe(name);
    expect([parsePlace("m2.n5"), parsePlace("x"), parsePlace("a1")]).toEqual([{ layer: 2, head: null }, null, null]);
  });
  it("the head after the last is the MLP, then the first", () => {
    expect(neighbour({ layer: 0, head: 1 }, 2, 2, 0, 1)).toEqual({ layer: 0, head: null });
    expect(neighbour({ layer: 0, head: null }, 2, 2, 0, 1)).toEqual({ layer: 0, head: 0 });
    expect(neighbour({ layer: 1, head: 0 }, 2, 2, 1, 0)).toEqual({ layer: 1, head: 0 });
  });
  it("are said in words, sent again and read from a file", () => {
    expect(more.edits.map(wordsOf)).toEqual(["ablate a1.h2 (zero)", "knock out attention of all heads of layer 0 from every query to token 3"]);
    expect(again(clean, more.edits)).toMatchObject({ prompt: clean.clean.prompt, against: clean.against?.prompt, correct: " Mary", wrong: " John" });
    expect(readEdits(JSON.stringify({ kind: "llmtrace.console.edits", run: { prompt: "x" } })).run.prompt).toBe("x");
    expect(() => readEdits("{")).toThrow("not JSON");
    expect(() => readEdits('{"kind":"other"}')).toThrow("llmtrace.console.edits");
  });
});

describe("address", () => {
  it("drops what is as it starts, and comes back the same", () => {
    expect(toUrl({ ...START, a: "r0" }, "r0")).toBe("");
    const state: State = { ...START, a: "r1", b: "r0", tab: "lens", place: { layer: 1, head: null }, query: 3, key: 0, shown: "diff", table: true, options: { method: "decompx", empty: "" } };
    const url = toUrl(state, "r0");
    expect(url).toBe("?run=r1&b=r0&tab=lens&at=m1&q=3&k=0&show=diff&table=1&o.method=decompx");
    expect(fromUrl(url)).toEqual({ a: "r1", b: "r0", tab: "lens", place: { layer: 1, head: null }, query: 3, key: 0, shown: "diff", table: true, options: { method: "decompx" } });
  });
  it("takes no nonsense", () => expect(fromUrl("?tab=evil&q=-1&k=1e9&at=<b>&show=x&table=yes")).toEqual({}));
});

describe("sources", () => {
  it("ask under sorted names, as Python does", () => expect(keyOf("head", { run: "r 1", layer: 3, head: 0 })).toBe("head?head=0&layer=3&run=r+1"));
  it("a tape gives what was kept, and says why it cannot give the rest", async () => {
    const source = new TapeSource(tape);
    expect(await source.json("runs", {})).toHaveLength(2);
    expect((await source.bytes("attention", { run: "r0" })).byteLength).toBeGreaterThan(8);
    await expect(source.json("paths", { run: "r0" })).rejects.toThrow("was not asked for when this file was made");
    await expect(source.json("lens", { run: "none" })).rejects.toBeInstanceOf(Missing);
    await expect(source.newRun()).rejects.toThrow("no model to ask");
    expect(() => new TapeSource({ ...tape, schema_version: 9 })).toThrow("version 9");
  });
  it("a stream of events may be cut anywhere", async () => {
    const lines = [1, 2, 3].map((done) => JSON.stringify({ job: { id: "j", done }, rows: { [done]: [done] } })).join("\n");
    const chunks = lines.match(/.{1,7}|\n/gs) ?? [];
    const body = new ReadableStream({ start: (to) => (chunks.forEach((chunk) => to.enqueue(new TextEncoder().encode(chunk))), to.close()) });
    const before = globalThis.fetch;
    let sent: HeadersInit | undefined;
    globalThis.fetch = async (_, options) => ((sent = options?.headers), new Response(body));
    const seen: number[] = [];
    await new HttpSource("secret").events("j", (event) => seen.push(event.job.done));
    globalThis.fetch = before;
    expect(seen).toEqual([1, 2, 3]);
    expect(sent).toMatchObject({ "X-Llmtrace-Token": "secret" });
  });
});
