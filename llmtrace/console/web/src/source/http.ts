import type { Job, JobEvent, NewJob, NewRun, Problem, Run } from "../contract";
import { keyOf, NotYet, type Query, type Source } from "./source";

const API = "/api/v1/";

/** A service on this machine; every call carries the token of the process. */
export class HttpSource implements Source {
  readonly kind = "http";
  readonly token: string;

  constructor(token: string) {
    this.token = token;
  }

  private async call(path: string, options: RequestInit = {}): Promise<Response> {
    const headers: Record<string, string> = { "X-Llmtrace-Token": this.token };
    if (options.body) headers["Content-Type"] = "application/json";
    let answer: Response;
    try {
      answer = await fetch(API + path, { ...options, headers });
    } catch {
      throw new Error("The service does not answer: has `llmtrace console` ended? Start it again and open its new address.");
    }
    if (answer.ok) return answer;
    const problem = (await answer.json().catch(() => null)) as Problem | null;
    const says = problem?.detail ?? problem?.title ?? `The service answered ${answer.status}.`;
    if (answer.status === 401 || answer.status === 403)
      throw new Error(`${says} Open the whole address that \`llmtrace console\` printed, with its #token.`);
    if (answer.status === 404 || answer.status === 409) throw new NotYet(says);
    const wait = answer.headers.get("Retry-After");
    throw new Error(wait ? `${says} Try again in ${wait} s.` : says);
  }

  async json<T>(view: string, query: Query): Promise<T> {
    return (await this.call(keyOf(view, query))).json() as Promise<T>;
  }

  async bytes(view: string, query: Query): Promise<ArrayBuffer> {
    return (await this.call(keyOf(view, query))).arrayBuffer();
  }

  async newRun(body: NewRun): Promise<Run> {
    return (await this.call("runs", { method: "POST", body: JSON.stringify(body) })).json() as Promise<Run>;
  }

  async newJob(body: NewJob): Promise<Job> {
    return (await this.call("jobs", { method: "POST", body: JSON.stringify(body) })).json() as Promise<Job>;
  }

  async cancel(id: string): Promise<void> {
    await this.call(`jobs/${encodeURIComponent(id)}`, { method: "DELETE" });
  }

  async export(format: "html" | "json"): Promise<Blob> {
    return (await this.call(keyOf("export", { format }))).blob();
  }

  async events(id: string, each: (event: JobEvent) => void): Promise<void> {
    const answer = await this.call(`jobs/${encodeURIComponent(id)}/events`);
    const reader = answer.body?.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    while (reader) {
      const { value, done } = await reader.read();
      const lines = (rest + (value ?? "")).split("\n");
      rest = done ? "" : (lines.pop() ?? "");
      for (const line of lines) if (line.trim()) each(JSON.parse(line) as JobEvent);
      if (done) return;
    }
  }
}
