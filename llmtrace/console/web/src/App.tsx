import { useEffect, useLayoutEffect, type ComponentType } from "react";
import css from "./App.module.css";
import { useDark } from "./draw/theme";
import { Attention } from "./panels/Attention";
import { Attribution } from "./panels/Attribution";
import { Circuit } from "./panels/Circuit";
import { Compare } from "./panels/Compare";
import { Generation } from "./panels/Generation";
import { Lens } from "./panels/Lens";
import { Overview } from "./panels/Overview";
import { Patch } from "./panels/Patch";
import { Drawer } from "./parts/Drawer";
import { Frame, frameAtHand } from "./parts/Frame";
import { Inspector } from "./parts/Inspector";
import { CopyByHand, Find, KeySheet, NewRunForm } from "./parts/Sheets";
import { Strip } from "./parts/Strip";
import { Tabs } from "./parts/Tabs";
import { Words } from "./parts/Words";
import { TopBar } from "./parts/TopBar";
import { press } from "./state/keys";
import type { Tab } from "./state/state";
import { dispatch, now, subscribe, useRunA, useStore } from "./state/store";
import { firstRun } from "./state/link";
import { toUrl } from "./state/url";

const Findings = () => (
  <Frame id="findings" title="Findings">
    <p className="note">Not here yet: findings come with <code>audit</code>, the report that checks claims about a model. Until then the other panels say what was measured.</p>
  </Frame>
);

const PANELS: Record<Tab, ComponentType> = { overview: Overview, attention: Attention, lens: Lens, attribution: Attribution, patch: Patch, circuit: Circuit, compare: Compare, generation: Generation, findings: Findings };

function useAddress(): void {
  useLayoutEffect(
    () =>
      subscribe(() => {
        try {
          history.replaceState(null, "", location.pathname + toUrl(now(), firstRun()));
        } catch {
          // a frame without an address of its own
        }
      }),
    [],
  );
}

function Empty() {
  return (
    <Frame id="empty" title="No run yet">
      <p className="note">Give the model a prompt, and another one to set it against: the importance map, attention, lens and sweeps are then of that run.</p>
      <button type="button" className="main" onClick={() => dispatch({ do: "set", part: { dialog: "new" } })}>New run</button>
    </Frame>
  );
}

export function App() {
  const dark = useDark();
  const tab = useStore((s) => s.tab);
  const dialog = useStore((s) => s.dialog);
  const problem = useStore((s) => s.problem);
  const missing = useStore((s) => s.meta?.missing[s.tab] ?? null);
  const run = useRunA();
  useAddress();
  useEffect(() => void (document.documentElement.dataset["theme"] = dark ? "dark" : "light"), [dark]);
  useLayoutEffect(() => {
    const listen = (event: KeyboardEvent) => press(event, frameAtHand()) && event.key !== "Escape" && event.preventDefault();
    document.addEventListener("keydown", listen);
    return () => document.removeEventListener("keydown", listen);
  }, []);
  const Panel = PANELS[tab];
  return (
    <div className={css.app}>
      <TopBar />
      {problem && dialog !== "new" && (
        <p className={css.problem} role="alert">
          <span><Words text={problem} /></span>
          <button type="button" className="quiet" onClick={() => dispatch({ do: "set", part: { problem: null } })}>Close</button>
        </p>
      )}
      <div className={`${css.middle} ${run?.clean.tokens.length ? "" : css.bare}`}>
        <Strip />
        <main className={css.main}>
          <h1 className="unseen">LLM-Trace console</h1>
          <Tabs />
          <div id="panel" role="tabpanel" aria-labelledby={`tab-${tab}`} className={css.panel} tabIndex={0}>
            {missing && <p className="note"><b>Not in this source:</b> <Words text={missing} /></p>}
            {run ? (!missing || tab === "overview") && <Panel /> : <Empty />}
          </div>
        </main>
        <Inspector />
      </div>
      {run && <Drawer />}
      {dialog === "keys" && <KeySheet />}
      {dialog === "find" && <Find />}
      {dialog === "new" && <NewRunForm />}
      {dialog === "text" && <CopyByHand />}
    </div>
  );
}
