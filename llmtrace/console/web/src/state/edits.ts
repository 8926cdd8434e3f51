import type { Edit, NewRun, Run } from "../contract";

const at = (positions: number[] | null | undefined): string =>
  positions?.length ? ` at token ${positions.join(", ")}` : "";

/** One edit in words. */
export function wordsOf(edit: Edit): string {
  switch (edit.kind) {
    case "ablate":
      return `ablate ${edit.node} (${edit.how})${at(edit.positions)}`;
    case "patch":
      return `patch ${edit.node} from the other prompt${at(edit.positions)}`;
    case "knock_out":
      return (
        `knock out attention of ${edit.head === null ? `all heads of layer ${edit.layer}` : `a${edit.layer}.h${edit.head}`}` +
        ` from ${edit.query === null ? "every query" : `token ${edit.query}`} to token ${edit.key}`
      );
    case "steer":
      return `steer layer ${edit.layer} by ${edit.coefficient} × the prompts' difference`;
  }
}

/** What asks for this run again, with other edits. */
export const again = (run: Run, edits: Edit[]): NewRun => ({
  prompt: run.clean.prompt,
  against: run.against?.prompt ?? null,
  correct: run.correct?.text ?? null,
  wrong: run.wrong?.text ?? null,
  edits,
});

export const EDITS_KIND = "llmtrace.console.edits";

export interface EditsFile {
  kind: typeof EDITS_KIND;
  schema_version: 1;
  name: string;
  run: NewRun;
}

export function readEdits(text: string): EditsFile {
  let file: EditsFile;
  try {
    file = JSON.parse(text) as EditsFile;
  } catch {
    throw new Error("The file is not JSON; a list of edits is saved by this page as JSON.");
  }
  if (file?.kind !== EDITS_KIND || typeof file.run?.prompt !== "string")
    throw new Error(`The file is not a list of edits: its kind must be "${EDITS_KIND}".`);
  return file;
}
