import { useRef, useState } from "react";
import { cancelJob, copy, makeRun, saveEdits, whyFixed, withoutEdit } from "../state/acts";
import { readEdits, wordsOf } from "../state/edits";
import { dispatch, useRunA, useStore } from "../state/store";
import { Num } from "./bits";
import css from "./Drawer.module.css";
import { Words } from "./Words";
import { runName } from "./TopBar";

function Edits() {
  const run = useRunA();
  const names = useStore((s) => s.names);
  const busy = useStore((s) => s.busy);
  const file = useRef<HTMLInputElement>(null);
  if (!run) return null;
  const name = runName(run, names);
  const fixed = whyFixed();
  const load = async (picked: File | undefined) => {
    if (!picked) return;
    try {
      const read = readEdits(await picked.text());
      const made = await makeRun(read.run, `edits of ${picked.name}`);
      if (made && read.name) dispatch({ do: "name", run: made.id, name: read.name });
    } catch (problem) {
      dispatch({ do: "set", part: { problem: (problem as Error).message } });
    }
  };
  return (
    <section className={css.part} aria-label="Edits of run A">
      <div className="row">
        <h2>Edits of run A</h2>
        <input type="text" aria-label="Name of this run" className={css.name} value={names[run.id] ?? run.name} onChange={(event) => dispatch({ do: "name", run: run.id, name: event.target.value })} />
        <button type="button" className="quiet" onClick={() => saveEdits(run, name)}>Save JSON</button>
        <button type="button" className="quiet" disabled={Boolean(fixed)} title={fixed ?? "Run a saved list of edits"} onClick={() => file.current?.click()}>Load JSON</button>
        <input ref={file} type="file" accept="application/json,.json" hidden onChange={(event) => (void load(event.target.files?.[0]), (event.target.value = ""))} />
        <button type="button" className="quiet" onClick={() => void copy(run.python)}>Copy as Python</button>
      </div>
      {run.edits.length ? (
        <ol className={css.list} data-testid="edits">
          {run.edits.map((made, i) => (
            <li key={i}>
              {wordsOf(made)}
              <button type="button" className="quiet" disabled={Boolean(fixed ?? busy)} aria-label={`Remove: ${wordsOf(made)}`} onClick={() => void withoutEdit(i)}>×</button>
            </li>
          ))}
        </ol>
      ) : (
        <p className="note">{fixed ? <>None. <Words text={fixed} /></> : "None: this is the clean run. Choose a head and ablate, patch, knock out or steer; each edit makes a new run beside this one."}</p>
      )}
    </section>
  );
}

function Log() {
  const log = useStore((s) => s.log);
  const [open, setOpen] = useState<number | null>(null);
  if (!log.length && whyFixed()) return null;
  return (
    <section className={css.part} aria-label="What was done">
      <h2>Done on this page</h2>
      {!log.length && <p className="note">Each act is listed here with its result and the Python that does the same.</p>}
      <ol className={css.list}>
        {log.map((entry) => (
          <li key={entry.id}>
            <button type="button" className="link" title="Show this run" onClick={() => dispatch({ do: "show", run: entry.run })}>{entry.what}</button>
            <span className="soft">logit difference <Num value={entry.value} /> (<Num value={entry.change} sign />)</span>
            <button type="button" className="quiet" aria-expanded={open === entry.id} onClick={() => setOpen(open === entry.id ? null : entry.id)}>Python</button>
            {open === entry.id && (
              <div className={css.code}>
                <pre tabIndex={0}>{entry.python}</pre>
                <button type="button" onClick={() => void copy(entry.python)}>Copy</button>
              </div>
            )}
          </li>
        ))}
      </ol>
    </section>
  );
}

function Jobs() {
  const jobs = useStore((s) => s.jobs);
  const all = Object.values(jobs).reverse();
  if (!all.length) return null;
  return (
    <section className={css.part} aria-label="Jobs">
      <h2>Jobs</h2>
      <ul className={css.list}>
        {all.map(({ job }) => (
          <li key={job.id}>
            {job.view} {Object.entries(job.query).filter(([name]) => name !== "run").map(([, value]) => value).join(", ")}
            <progress max={job.total || 1} value={job.done} aria-label={`Progress of ${job.view}`} />
            <span className="soft">{job.state}{job.total ? `, ${job.done} of ${job.total}` : ""}</span>
            {(job.state === "running" || job.state === "waiting") && <button type="button" className="quiet" onClick={() => void cancelJob(job.id)}>Cancel</button>}
            {job.problem && <span className="problem">{job.problem}</span>}
          </li>
        ))}
      </ul>
    </section>
  );
}

/** The drawer at the bottom: edits, what was done with its Python, jobs. */
export function Drawer() {
  return (
    <footer className={css.drawer}>
      <Edits />
      <Log />
      <Jobs />
    </footer>
  );
}
