import { shown } from "../read/text";
import { copy, exportAll, whyFixed } from "../state/acts";
import { dispatch, now, useRunA, useRunB, useStore } from "../state/store";
import type { Run } from "../contract";
import type { Theme } from "../state/state";
import { less } from "../state/reduce";
import { linkHere } from "../state/link";
import { Num, Tok } from "./bits";
import { Menu } from "./Menu";
import css from "./TopBar.module.css";

const NEXT: Record<Theme, Theme> = { auto: "light", light: "dark", dark: "auto" };

export function runName(run: Run, names: Record<string, string>): string {
  return names[run.id] || run.name || shown(run.clean.prompt.slice(0, 40));
}

function RunPick({ label, value, none, onPick }: { label: string; value: string | null; none?: string; onPick: (id: string | null) => void }) {
  const runs = useStore((s) => s.runs);
  const order = useStore((s) => s.order);
  const names = useStore((s) => s.names);
  return (
    <label className={css.pick}>
      <b className={label === "A" ? css.a : css.b}>{label}</b>
      <select aria-label={`Run ${label}`} value={value ?? ""} onChange={(event) => onPick(event.target.value || null)}>
        {none && <option value="">{none}</option>}
        {order.map((id) => {
          const run = runs[id];
          return (
            run && (
              <option key={id} value={id}>
                {runName(run, names)}
                {run.edits.length ? ` · ${run.edits.length} ${run.edits.length === 1 ? "edit" : "edits"}` : ""}
              </option>
            )
          );
        })}
      </select>
    </label>
  );
}

function Difference({ run }: { run: Run }) {
  const edited = run.edits.length > 0;
  return (
    <div className={css.metric} aria-live="polite">
      <span className={css.words} title={`logit of the answer minus logit of the foil at the last token of the clean prompt (metric: ${run.metric})`}>
        logit difference
        <span className={css.pair}>
          <Tok text={run.correct?.text} /> − <Tok text={run.wrong?.text} />
        </span>
      </span>
      <strong className={css.value}>
        <Num value={run.value} id="value" />
      </strong>
      <span className={css.before}>
        {edited ? (
          <>
            was <Num value={run.before} id="before" />, change <Num value={less(run.value, run.before)} sign id="change" />
          </>
        ) : (
          run.value === null ? "not saved" : "no edits; in logits"
        )}
      </span>
    </div>
  );
}

export function TopBar() {
  const meta = useStore((s) => s.meta);
  const [a, b] = [useRunA(), useRunB()];
  const [past, future] = [useStore((s) => s.past.length), useStore((s) => s.future.length)];
  const theme = useStore((s) => s.theme);
  const busy = useStore((s) => s.busy);
  const running = useStore((s) => Object.values(s.jobs).filter(({ job }) => job.state === "running" || job.state === "waiting").length);
  const open = (dialog: "keys" | "find" | "new") => dispatch({ do: "set", part: { dialog } });
  const fixed = whyFixed();
  return (
    <header className={css.bar}>
      <div className={css.model}>
        <strong>{meta?.model?.name ?? meta?.title ?? "LLM-Trace"}</strong>
        <small>
          {meta?.model ? `${meta.model.n_layers} layers × ${meta.model.n_heads} heads · ${meta.model.dtype} on ${meta.model.device}` : "no model"}
          {meta && meta.mode !== "live" && ` · ${meta.mode}, read only`}
        </small>
      </div>
      <div className={css.runs}>
        <RunPick label="A" value={a?.id ?? null} onPick={(id) => id && dispatch({ do: "show", run: id })} />
        <button type="button" className="quiet" disabled={!b} aria-label="Swap runs A and B" title="Swap A and B" onClick={() => dispatch({ do: "swap" })}>
          ⇄
        </button>
        <RunPick label="B" value={b?.id ?? null} none="none" onPick={(id) => dispatch({ do: "against", run: id })} />
        <button type="button" disabled={Boolean(fixed)} title={fixed ?? "Other prompts, another answer"} onClick={() => open("new")}>
          New run
        </button>
      </div>
      {a && (a.value !== null || a.correct) && <Difference run={a} />}
      <div className={css.ways}>
        <button type="button" className="quiet" disabled={!past} title="Undo: the run before (Ctrl+Z)" onClick={() => dispatch({ do: "undo" })}>
          ↶ Undo
        </button>
        <button type="button" className="quiet" disabled={!future} title="Redo (Ctrl+Shift+Z)" onClick={() => dispatch({ do: "redo" })}>
          ↷ Redo
        </button>
        <button type="button" className="quiet" title="Find a token, head or panel (/)" onClick={() => open("find")}>
          Find
        </button>
        <Menu
          label="Share"
          items={[
            { name: "Copy link to this view", act: () => void copy(linkHere()) },
            { name: "HTML file, opens offline", act: () => void exportAll("html"), off: meta?.mode === "file" ? "This page is that file: hand it over as it is." : null },
            { name: "JSON of all answers", act: () => void exportAll("json") },
            { name: "Copy run as Python", act: () => void copy(now().runs[now().a ?? ""]?.python ?? "") },
          ]}
        />
        <button type="button" className="quiet" title="Light, dark, or as the system says" onClick={() => dispatch({ do: "set", part: { theme: NEXT[theme] } })}>
          Theme: {theme}
        </button>
        <button type="button" className="quiet" title="All keys (?)" onClick={() => open("keys")}>
          Keys
        </button>
        <span className={css.queue} role="status">
          {busy ? `running: ${busy} …` : running ? `${running} ${running === 1 ? "job" : "jobs"} …` : ""}
        </span>
      </div>
    </header>
  );
}
