import type { ReactNode } from "react";
import type { Got } from "../source/answers";
import { theAnswers } from "../source/answers";
import { number, shown, signed } from "../read/text";
import { dispatch, useRunA, useRunB, useStore } from "../state/store";
import type { Shown } from "../state/state";
import css from "./bits.module.css";
import { Words } from "./Words";

/** A token: always a text node, never markup; its own direction stays within it. A saved folder may not hold one. */
export const Tok = ({ text }: { text: string | undefined }) =>
  text === undefined ? (
    <span className="soft">not kept</span>
  ) : (
    <bdi className="token" title={JSON.stringify(text)}>
      {shown(text)}
    </bdi>
  );

export const Num = ({ value, places = 3, sign = false, id }: { value: number | null | undefined; places?: number; sign?: boolean; id?: string }) => (
  <span className={sign && value && Number(value.toFixed(places)) !== 0 ? (value > 0 ? "up" : "down") : undefined} title={value === null || value === undefined ? undefined : String(value)} data-value={value ?? undefined} data-testid={id}>
    {sign ? signed(value, places) : number(value, places)}
  </span>
);

/** An answer that is not there yet, or never will be, in words. */
export function Waiting({ got, what, children }: { got: Got<unknown>; what: string; children?: ReactNode }) {
  if (got.state === "ready") return null;
  if (!("why" in got))
    return (
      <p className="note" role="status">
        Asking for {what} …
      </p>
    );
  return (
    <div className={got.state === "failed" ? "problem" : undefined} role={got.state === "failed" ? "alert" : "note"}>
      <p className="note">
        {got.state === "missing" && "Not here: "}
        <Words text={got.why} />
      </p>
      {got.state === "failed" && (
        <button type="button" onClick={() => theAnswers().forgetFailures()}>
          Ask again
        </button>
      )}
      {children}
    </div>
  );
}

const SIDES: [Shown, string, string][] = [
  ["a", "A", "Run A"],
  ["b", "B", "Run B"],
  ["diff", "A − B", "Run A minus run B"],
];

/** Which run the panels show: A, B or their difference. */
export function Sides() {
  const which = useStore((s) => s.shown);
  const [a, b] = [useRunA(), useRunB()];
  return (
    <span className={css.sides} role="group" aria-label="Which run is shown (c)">
      {SIDES.map(([side, label, title]) => (
        <button
          key={side}
          type="button"
          className="quiet"
          aria-pressed={which === side}
          disabled={side !== "a" && !b}
          title={side !== "a" && !b ? "There is no run B: make an edit, or choose one in the top bar" : `${title} (c turns)${side === "a" ? `: ${a?.name}` : ""}`}
          onClick={() => dispatch({ do: "shown", shown: side })}
        >
          {label}
        </button>
      ))}
    </span>
  );
}

interface PickProps {
  label: string;
  value: string;
  options: [string, string][]; // name, what it says
  onPick: (value: string) => void;
  off?: string | null;
  plain?: boolean; // what it says is what is written
}

export function Pick({ label, value, options, onPick, off, plain }: PickProps) {
  return (
    <label className={css.pick} title={off ?? options.find(([name]) => name === value)?.[1]}>
      <span>{label}</span>
      <select value={value} disabled={Boolean(off)} onChange={(event) => onPick(event.target.value)}>
        {options.map(([name, says]) => (
          <option key={name} value={name} title={says}>
            {plain ? says : name.replaceAll("_", " ")}
          </option>
        ))}
      </select>
    </label>
  );
}
