import { nameOf, parsePlace } from "./place";
import { TABS, type Shown, type State, type Tab } from "./state";

type Kept = Pick<State, "a" | "b" | "tab" | "place" | "query" | "key" | "shown" | "table" | "options">;

const whole = (text: string | null): number | null => (text !== null && /^\d{1,7}$/.test(text) ? Number(text) : null);

/** The state as a query string; what is as it starts is left out. `first` is the run that the page opens with. */
export function toUrl(state: Kept, first: string | null): string {
  const said = new URLSearchParams();
  const put = (name: string, value: string | number | null, unless: string | number | null = null) => {
    if (value !== null && value !== unless) said.set(name, String(value));
  };
  put("run", state.a, first);
  put("b", state.b);
  put("tab", state.tab, "overview");
  put("at", state.place && nameOf(state.place));
  put("q", state.query);
  put("k", state.key);
  put("show", state.shown, "a");
  if (state.table) put("table", 1);
  for (const name of Object.keys(state.options).sort()) put(`o.${name}`, state.options[name] ?? "", "");
  const text = said.toString();
  return text && `?${text}`;
}

export function fromUrl(search: string): Partial<Kept> {
  const said = new URLSearchParams(search);
  const part: Partial<Kept> = {};
  const tab = said.get("tab") as Tab | null;
  const shown = said.get("show") as Shown | null;
  const place = parsePlace(said.get("at") ?? "");
  if (said.get("run")) part.a = said.get("run");
  if (said.get("b")) part.b = said.get("b");
  if (tab && TABS.includes(tab)) part.tab = tab;
  if (place) part.place = place;
  if (whole(said.get("q")) !== null) part.query = whole(said.get("q"));
  if (whole(said.get("k")) !== null) part.key = whole(said.get("k"));
  if (shown === "b" || shown === "diff") part.shown = shown;
  if (said.get("table") === "1") part.table = true;
  const options = [...said].filter(([name]) => name.startsWith("o.")).map(([name, value]) => [name.slice(2), value]);
  if (options.length) part.options = Object.fromEntries(options);
  return part;
}
