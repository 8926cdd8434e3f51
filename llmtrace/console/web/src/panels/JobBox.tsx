import type { NewJob } from "../contract";
import type { Got } from "../source/answers";
import { cancelJob, startJob, whyFixed } from "../state/acts";
import { useStore } from "../state/store";
import { Words } from "../parts/Words";
import css from "./panels.module.css";

interface Props {
  body: NewJob;
  got: Got<unknown>;
  label: string; // of the button
  costs: string; // a sentence
  off?: string | null;
}

/** The work in progress that will give this view, if there is any. */
export function useWorking(body: NewJob) {
  return useStore((s) =>
    Object.values(s.jobs).findLast(
      ({ job, run }) =>
        job.view === body.view && run === body.run &&
        (["site", "method", "edges", "tokens"] as const).every((name) => body[name] === undefined || body[name] === null || !(name in job.query) || job.query[name] === String(body[name])),
    ) ?? null, // prettier-ignore
  );
}

/** Starts a heavy view, shows how far it is, and stops it. */
export function JobBox({ body, got, label, costs, off }: Props) {
  const working = useWorking(body);
  const job = working?.job;
  const going = job && (job.state === "running" || job.state === "waiting");
  const why = off ?? (whyFixed() && "why" in got ? got.why : whyFixed());
  if (got.state === "ready") return null;
  return (
    <div className={css.job}>
      {going ? (
        <>
          <progress max={job.total || 1} value={job.done} aria-label={`Progress of ${label}`} />
          <span role="status">
            {job.state === "waiting" ? "waiting for its turn" : `${job.done} of ${job.total}`}
          </span>
          <button type="button" onClick={() => void cancelJob(job.id)}>Cancel</button>
        </>
      ) : (
        <>
          <button type="button" className="main" disabled={Boolean(why)} onClick={() => void startJob(body)}>{label}</button>
          <span className="soft"><Words text={why ?? costs} /></span>
          {job?.state === "cancelled" && <span role="status">Cancelled; nothing was kept.</span>}
          {job?.state === "failed" && <span className="problem" role="alert">{job.problem}</span>}
        </>
      )}
    </div>
  );
}
