/** What a person does that needs the source: new runs, jobs, saving, copying. */
import type { Edit, NewJob, NewRun, Run } from "../contract";
import { theAnswers } from "../source/answers";
import { keyOf, type Query } from "../source/source";
import { again, EDITS_KIND, wordsOf, type EditsFile } from "./edits";
import { dispatch, now } from "./store";

const tell = (problem: unknown): void =>
  dispatch({ do: "set", part: { busy: null, problem: problem instanceof Error ? problem.message : String(problem) } });

export async function makeRun(body: NewRun, what: string): Promise<Run | null> {
  if (now().busy) return null;
  dispatch({ do: "set", part: { busy: what, problem: null } });
  try {
    const run = await theAnswers().source.newRun(body);
    dispatch({ do: "made", run, what });
    return run;
  } catch (problem) {
    tell(problem);
    return null;
  }
}

const current = (): Run | null => now().runs[now().a ?? ""] ?? null;

/** Nothing asked of the model but one more edit: a new run, beside the one before it. */
export async function edit(added: Edit): Promise<void> {
  const run = current();
  if (run) await makeRun(again(run, [...run.edits, added]), wordsOf(added));
}

export async function withoutEdit(index: number): Promise<void> {
  const run = current();
  const gone = run?.edits[index];
  if (!run || !gone) return;
  const edits = run.edits.filter((_, i) => i !== index);
  const parent = now().runs[run.parent ?? ""];
  if (!edits.length && parent) dispatch({ do: "show", run: parent.id });
  else await makeRun(again(run, edits), `without: ${wordsOf(gone)}`);
}

/** Why this source can make no new run; null where it can. */
export function whyFixed(): string | null {
  const meta = now().meta;
  if (!meta || meta.mode === "live") return null;
  return meta.missing["runs"] ?? meta.missing["edit"] ??
    "This source holds answers and no model: edits need `llmtrace console MODEL`."; // prettier-ignore
}

export async function startJob(body: NewJob): Promise<void> {
  const { source } = theAnswers();
  try {
    let job = await source.newJob(body);
    let rows: Record<number, number[]> = {};
    dispatch({ do: "job", working: { job, run: body.run, rows } });
    if (job.state === "waiting" || job.state === "running")
      await source.events(job.id, (event) => {
        job = event.job;
        rows = { ...rows, ...event.rows };
        dispatch({ do: "job", working: { job, run: body.run, rows } });
      });
    theAnswers().forget(keyOf(job.view, job.query as Query));
    if (job.state === "failed") tell(job.problem ?? `The job ${job.view} failed.`);
  } catch (problem) {
    tell(problem);
  }
}

export const cancelJob = (id: string): Promise<void> => theAnswers().source.cancel(id).catch(tell);

export function saveBlob(blob: Blob, name: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

export const saveJson = (value: unknown, name: string): void =>
  saveBlob(new Blob([JSON.stringify(value, null, 1)], { type: "application/json" }), name);

export async function exportAll(format: "html" | "json"): Promise<void> {
  try {
    saveBlob(await theAnswers().source.export(format), `llmtrace-console.${format}`);
  } catch (problem) {
    tell(problem);
  }
}

/** Where a frame has no clipboard the text is shown, to be copied by hand. */
export async function copy(text: string): Promise<void> {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    dispatch({ do: "set", part: { copied: text, dialog: "text" } });
  }
}

export function saveEdits(run: Run, name: string): void {
  const file: EditsFile = { kind: EDITS_KIND, schema_version: 1, name, run: again(run, run.edits) };
  saveJson(file, `${name.replace(/[^\w-]+/g, "-") || "edits"}.json`);
}
