/** The names of the contract: what llmtrace/console/schemas.py says, as generated into schema.d.ts. */
import type { components } from "./schema";

type All = components["schemas"];
export type Meta = All["Meta"];
export type Run = All["Run"];
export type Side = All["Side"];
export type Token = All["Token"];
export type Edit = Run["edits"][number];
export type HeadMap = All["HeadMap"];
export type Overview = All["Overview"];
export type PathMap = All["PathMap"];
export type Row = All["Row"];
export type HeadCard = All["HeadCard"];
export type Lens = All["Lens"];
export type Attribution = All["Attribution"];
export type Span = All["Span"];
export type Sweep = All["Sweep"];
export type CircuitView = All["CircuitView"];
export type GenerationView = All["GenerationView"];
export type Job = All["Job"];
export type JobEvent = All["Event"];
export type Problem = All["Problem"];
export type Tape = All["Tape"];

/** What is sent: fields with a default may be left out. */
export type NewRun = Partial<All["NewRun"]> & { prompt: string };
export type NewJob = Partial<All["NewJob"]> & Pick<All["NewJob"], "view" | "run">;

export const KIND = "llmtrace.console";
export const SCHEMA_VERSION = 1;
