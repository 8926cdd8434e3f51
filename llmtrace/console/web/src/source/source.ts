import type { Job, JobEvent, NewJob, NewRun, Run } from "../contract";

export type Query = Record<string, string | number>;

/** Where answers come from: a service (live or over a folder), or a tape written into the page. */
export interface Source {
  readonly kind: "http" | "tape";
  readonly token?: string;
  json<T>(view: string, query: Query): Promise<T>;
  bytes(view: string, query: Query): Promise<ArrayBuffer>;
  newRun(body: NewRun): Promise<Run>;
  newJob(body: NewJob): Promise<Job>;
  events(id: string, each: (event: JobEvent) => void): Promise<void>;
  cancel(id: string): Promise<void>;
  export(format: "html" | "json"): Promise<Blob>;
}

/** The source cannot give this, and says why. */
export class Missing extends Error {}

/** It could, once a job has made it. */
export class NotYet extends Error {}

export function keyOf(view: string, query: Query): string {
  const said = Object.entries(query)
    .map(([name, value]) => [name, String(value)] as [string, string])
    .sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
  return said.length ? `${view}?${new URLSearchParams(said)}` : view;
}
