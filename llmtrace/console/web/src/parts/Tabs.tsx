import { useEffect, type KeyboardEvent } from "react";
import { TABS, type Tab } from "../state/state";
import { dispatch, useStore } from "../state/store";
import css from "./Tabs.module.css";

const OFF: Partial<Record<Tab, string>> = { findings: "Comes with audit" };

export function Tabs() {
  const tab = useStore((s) => s.tab);
  const missing = useStore((s) => s.meta?.missing ?? null);
  useEffect(() => void document.getElementById(`tab-${tab}`)?.scrollIntoView({ block: "nearest", inline: "nearest" }), [tab]); // newer browsers return a promise, which is no clean-up
  const why = (name: Tab): string | undefined => OFF[name] ?? missing?.[name];
  const move = (event: KeyboardEvent<HTMLDivElement>) => {
    const by = event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? -1 : 0;
    if (!by) return;
    const next = TABS[(TABS.indexOf(tab) + by + TABS.length) % TABS.length] as Tab;
    dispatch({ do: "tab", tab: next });
    document.getElementById(`tab-${next}`)?.focus();
    event.preventDefault();
    event.stopPropagation();
  };
  return (
    <div className={css.tabs} role="tablist" aria-label="Panels" onKeyDown={move}>
      {TABS.map((name, i) => (
        <button key={name} id={`tab-${name}`} type="button" role="tab" aria-selected={tab === name} aria-controls="panel" tabIndex={tab === name ? 0 : -1} title={why(name)} className={`quiet ${why(name) ? css.off : ""}`} onClick={() => dispatch({ do: "tab", tab: name })}>
          <small>{i + 1}</small> {name[0]?.toUpperCase()}
          {name.slice(1)}
        </button>
      ))}
    </div>
  );
}
