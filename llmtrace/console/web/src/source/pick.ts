import type { Tape } from "../contract";
import { HttpSource } from "./http";
import type { Source } from "./source";
import { TapeSource } from "./tape";

const KEPT = "llmtrace.token";

/** The token, from the address bar (and out of it again) or from this tab's own memory. */
export function takeToken(): string {
  const said = new URLSearchParams(location.hash.slice(1)).get("token");
  try {
    if (said) {
      sessionStorage.setItem(KEPT, said);
      history.replaceState(null, "", location.pathname + location.search);
    }
    return said ?? sessionStorage.getItem(KEPT) ?? "";
  } catch {
    return said ?? ""; // a frame without storage
  }
}

export function pickSource(): Source {
  const text = document.getElementById("tape")?.textContent?.trim();
  if (text) return new TapeSource(JSON.parse(text) as Tape);
  if (location.protocol === "file:")
    throw new Error("This is the empty page. `lt.save_html(noun, path)` or Export writes one that holds a trace; `llmtrace console MODEL` serves it.");
  return new HttpSource(takeToken());
}
