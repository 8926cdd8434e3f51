import { theAnswers } from "../source/answers";
import { now } from "./store";
import { toUrl } from "./url";

/** The run that an address without one means: a file's first one without edits. A service lists its runs by use, so there none is meant. */
export const firstRun = (): string | null => (theAnswers().source.kind === "tape" ? (now().order.find((id) => !now().runs[id]?.parent) ?? null) : null);

/** The address of what is seen now. A service's link works on this machine while the service runs: it holds its token. */
export function linkHere(): string {
  const { source } = theAnswers();
  const token = source.kind === "http" && source.token ? `#token=${encodeURIComponent(source.token)}` : "";
  return location.href.split(/[?#]/)[0] + toUrl(now(), firstRun()) + token;
}
