import { KIND, SCHEMA_VERSION, type Meta, type Tape } from "../contract";
import { keyOf, Missing, type Query, type Source } from "./source";

const LIVE = "This page is a file: it shows answers that were kept, and has no model to ask. Start `llmtrace console MODEL` for more.";

/** Answers that Python wrote into the page. */
export class TapeSource implements Source {
  readonly kind = "tape";
  private readonly tape: Tape;

  constructor(tape: Tape) {
    if (tape.kind !== KIND || tape.schema_version !== SCHEMA_VERSION)
      throw new Error(`This page reads ${KIND} version ${SCHEMA_VERSION}; it was given ${tape.kind} version ${tape.schema_version}.`);
    this.tape = tape;
  }

  private find<T>(kept: Record<string, T>, view: string, query: Query): T {
    const key = keyOf(view, query);
    for (const spelled of [key, `/api/v1/${key}`, `GET ${key}`, `GET /api/v1/${key}`])
      if (Object.hasOwn(kept, spelled)) return kept[spelled] as T;
    const meta = view === "meta" ? null : (this.find(this.tape.answers, "meta", {}) as Meta);
    throw new Missing(meta?.missing[view] ?? `Not among the answers that were kept in this file. ${LIVE}`);
  }

  async json<T>(view: string, query: Query): Promise<T> {
    return this.find(this.tape.answers, view, query) as T;
  }

  async bytes(view: string, query: Query): Promise<ArrayBuffer> {
    const text = atob(this.find(this.tape.bytes, view, query));
    return Uint8Array.from(text, (letter) => letter.charCodeAt(0)).buffer;
  }

  async newRun(): Promise<never> {
    throw new Missing(LIVE);
  }
  async newJob(): Promise<never> {
    throw new Missing(LIVE);
  }
  async events(): Promise<never> {
    throw new Missing(LIVE);
  }
  async cancel(): Promise<never> {
    throw new Missing(LIVE);
  }

  async export(format: "html" | "json"): Promise<Blob> {
    if (format === "html") throw new Missing("This page is the file already: hand over the file itself.");
    return new Blob([JSON.stringify(this.tape)], { type: "application/json" });
  }
}
