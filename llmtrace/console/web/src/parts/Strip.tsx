import { memo, useEffect, useRef } from "react";
import type { Run } from "../contract";
import { number, shown, signed } from "../read/text";
import { dispatch, useRunA, useRunB, useStore } from "../state/store";
import css from "./Strip.module.css";

interface RowProps {
  i: number;
  text: string;
  other: string | null;
  silent: boolean; // no log-probability is known
  surprise: number | null;
  change: number | null;
  query: boolean;
  mark: boolean; // the key
  hover: boolean;
}

const TokenRow = memo(function TokenRow({ i, text, other, silent, surprise, change, query, mark, hover }: RowProps) {
  const says = `token ${i} ${shown(text)}` + (silent ? "" : `, log-probability ${number(surprise, 2)}${change === null ? "" : `, change ${signed(change, 2)}`}`);
  return (
    <li className={`${query ? css.query : ""} ${mark ? css.key : ""} ${hover ? css.hover : ""}`}>
      <button
        type="button"
        aria-label={says}
        aria-pressed={query || mark}
        title={`${says}\nclick: lock as query; Shift+click: lock as key`}
        onClick={(event) => dispatch(event.shiftKey ? { do: "lock", key: mark ? null : i } : { do: "lock", query: query ? null : i })}
        onPointerEnter={() => dispatch({ do: "hover", hover: { query: i } })}
        onPointerLeave={() => dispatch({ do: "hover", hover: {} })}
      >
        <span className={css.index}>{i}</span>
        <bdi className={css.text}>{shown(text)}</bdi>
        {other !== null && <bdi className={css.other}>{shown(other)}</bdi>}
        <span className={css.role}>{query ? "query" : mark ? "key" : ""}</span>
        {!silent && <span className={css.number}>{change === null ? number(surprise, 2) : signed(change, 2)}</span>}
      </button>
    </li>
  );
});

const alike = (a: Run, b: Run | null): boolean => b !== null && a.clean.tokens.length === b.clean.tokens.length;

/** The tokens of run A, one a row, with the log-probability of each, or its change against run B. */
export function Strip() {
  const [a, b] = [useRunA(), useRunB()];
  const [query, key, hover] = [useStore((s) => s.query), useStore((s) => s.key), useStore((s) => s.hover)];
  const list = useRef<HTMLOListElement>(null);
  useEffect(() => {
    if (query !== null) list.current?.children[query]?.scrollIntoView({ block: "nearest" });
  }, [query]);
  if (!a?.clean.tokens.length) return null;
  const against = a.against && a.against.tokens.length === a.clean.tokens.length ? a.against.tokens : null;
  const silent = a.clean.log_probability.every((value) => value === null);
  const beside = alike(a, b) && b ? b : null;
  return (
    <section className={css.strip} aria-label="Tokens of run A">
      <header>
        <strong>Tokens</strong>
        <small title="Log-probability of each token given those before it, in nats">{silent ? "" : beside ? "change of ln p, A − B" : "ln p, nats"}</small>
      </header>
      {against && <p className={css.legend}>Where the other prompt differs its token follows in <span className={css.other}>this colour</span>.</p>}
      <ol ref={list}>
        {a.clean.tokens.map((token, i) => {
          const there = against?.[i];
          const surprise = a.clean.log_probability[i] ?? null;
          const was = beside?.clean.log_probability[i] ?? null;
          return (
            <TokenRow
              key={i}
              i={i}
              text={token.text}
              other={there && there.id !== token.id ? there.text : null}
              silent={silent}
              surprise={surprise}
              change={beside && surprise !== null && was !== null ? surprise - was : null}
              query={query === i}
              mark={key === i}
              hover={hover.query === i || hover.key === i}
            />
          );
        })}
      </ol>
    </section>
  );
}
