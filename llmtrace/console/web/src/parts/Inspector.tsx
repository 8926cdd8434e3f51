import { useState } from "react";
import type { Edit, HeadCard, Overview, Run } from "../contract";
import { useView } from "../source/answers";
import { copy, edit, whyFixed } from "../state/acts";
import { nameOf, parsePlace as placeOf, said, type Place } from "../state/place";
import { dispatch, useRunA, useStore } from "../state/store";
import { Num, Pick, Tok, Waiting } from "./bits";
import { Words } from "./Words";
import css from "./Inspector.module.css";

/** The acts on the chosen head or MLP; each makes a new run. */
function Acts({ run, place }: { run: Run; place: Place }) {
  const meta = useStore((s) => s.meta);
  const [query, key, busy] = [useStore((s) => s.query), useStore((s) => s.key), useStore((s) => s.busy)];
  const how = useStore((s) => s.options["how"] ?? "zero");
  const [where, setWhere] = useState<"all" | "query">("all");
  const [coefficient, setCoefficient] = useState("1");
  const [neuron, setNeuron] = useState("");
  const fixed = whyFixed();
  const off = (more?: string | null) => fixed ?? more ?? (busy ? "A run is being made" : null);
  const positions = where === "query" && query !== null ? [query] : null;
  const node = place.head === null && /^\d+$/.test(neuron) ? `${nameOf(place)}.n${neuron}` : nameOf(place);
  const alone = run.against ? null : "Needs a second prompt: New run, with “against”";
  const make = (label: string, made: Edit, why: string | null, title: string, main = false) => (
    <button type="button" className={main ? "main" : ""} disabled={Boolean(why)} title={why ?? title} onClick={() => void edit(made)}>
      {label}
    </button>
  );
  return (
    <div className={css.acts} role="group" aria-label={`Change ${said(place)}`}>
      <div className="row">
        <Pick label="how" value={how} off={fixed} options={Object.entries(meta?.choices.ablations ?? { zero: "" })} onPick={(value) => dispatch({ do: "option", name: "how", value })} />
        <label className="row">
          <input type="checkbox" checked={where === "query"} disabled={query === null} onChange={(event) => setWhere(event.target.checked ? "query" : "all")} />
          <span className="soft">only at the locked token</span>
        </label>
      </div>
      {place.head === null && (
        <label className="row soft">
          neuron <input type="text" inputMode="numeric" size={6} placeholder="all" value={neuron} onChange={(event) => setNeuron(event.target.value)} />
        </label>
      )}
      <div className="row">
        {make(`Ablate ${node}`, { kind: "ablate", node, how, positions }, off(), "Remove it and run again (a)", true)}
        {make("Patch from other", { kind: "patch", node, positions }, off(alone), "It gets what it is on the other prompt")}
      </div>
      <div className="row">
        {place.head !== null &&
          make(
            key === null ? "Knock out q → k" : `Knock out ${query ?? "all"} → ${key}`,
            { kind: "knock_out", layer: place.layer, head: place.head, query, key: key ?? 0 },
            off(key === null ? "Lock a key first: Shift+click a token, or click a cell of the attention map" : null),
            "This head no longer sees the key from the query",
          )}
      </div>
      <div className="row">
        {make(`Steer layer ${place.layer}`, { kind: "steer", layer: place.layer, coefficient: Number(coefficient) || 0 }, off(alone ?? (Number.isFinite(Number(coefficient)) ? null : "The coefficient must be a number")), "Add the difference of the two prompts' residual streams at END, so many times")}
        <label className="row soft">
          × <input type="text" inputMode="decimal" size={4} aria-label="Coefficient of steering" value={coefficient} onChange={(event) => setCoefficient(event.target.value)} />
        </label>
      </div>
      {fixed && <p className="note"><Words text={fixed} /></p>}
    </div>
  );
}

function Behaviour({ card }: { card: HeadCard }) {
  return (
    <>
      <h3>Behaviour on this prompt</h3>
      <ul className={css.behaviour}>
        {Object.entries(card.behaviour).map(([name, value]) => (
          <li key={name}>
            <span>{name.replaceAll("_", " ")}{name === "entropy" ? ", nats" : ""}</span>
            {name !== "entropy" && <span className={css.bar} style={{ width: `${Math.max(0, Math.min(1, value)) * 100}%` }} />}
            <Num value={value} />
          </li>
        ))}
      </ul>
      <p className="note">Mean share of attention that fits each pattern, from 0 to 1.</p>
    </>
  );
}

function Card({ run, place }: { run: Run; place: Place & { head: number } }) {
  const got = useView<HeadCard>("head", { run: run.id, layer: place.layer, head: place.head });
  if (got.state !== "ready") return <Waiting got={got} what={said(place)} />;
  const card = got.value;
  const token = (i: number) => run.clean.tokens[i]?.text ?? "";
  return (
    <>
      <dl className={css.facts}>
        <dt>direct to the logit difference</dt>
        <dd>
          {card.direct === null ? <span className="soft">refused</span> : <><Num value={card.direct} sign id="direct" /> logits</>}
          {card.rank !== null && <> · rank {card.rank}</>}
        </dd>
        <dt>key-value head</dt>
        <dd>{card.key_value_head}</dd>
      </dl>
      {card.refused && <p className="note"><Words text={card.refused} /></p>}
      <Behaviour card={card} />
      <h3>Most attention, query → key</h3>
      <ol className={css.pairs}>
        {card.top_pairs.slice(0, 8).map(([query, key, weight]) => (
          <li key={`${query} ${key}`}>
            <button type="button" className="quiet" title="Lock this query and key" onClick={() => dispatch({ do: "lock", query, key })}>
              {query} <Tok text={token(query)} /> → {key} <Tok text={token(key)} />
            </button>
            <Num value={weight} />
          </li>
        ))}
      </ol>
      <p className="note">
        Attention is not attribution: what a head looks at need not be what it moves. Ablate it to see.
      </p>
      {card.writes.length > 0 && card.writes.every(([, logit]) => logit === 0) && <p className="note">It writes nothing at END: this run has it ablated.</p>}
      {card.writes.some(([, logit]) => logit !== 0) && (
        <>
          <h3>Raises most at END, in logits</h3>
          <ul className={css.writes}>
            {card.writes.slice(0, 10).map(([text, logit], i) => (
              <li key={i}>
                <Tok text={text} /> <Num value={logit} sign places={2} />
              </li>
            ))}
          </ul>
        </>
      )}
      <button type="button" className="quiet" onClick={() => void copy(card.python)}>
        Copy as Python
      </button>
    </>
  );
}

function MlpCard({ run, place }: { run: Run; place: Place }) {
  const got = useView<Overview>("overview", { run: run.id });
  const map = got.state === "ready" ? got.value.maps[0] : null;
  if (got.state !== "ready") return <Waiting got={got} what={said(place)} />;
  const direct = map?.mlps?.[place.layer] ?? null;
  return (
    <dl className={css.facts}>
      <dt>{map?.title ?? "direct"}</dt>
      <dd>{direct === null ? "refused" : <><Num value={direct} sign /> {map?.unit}</>}</dd>
    </dl>
  );
}

/** The chosen head or MLP: what it does, and what can be done to it. */
export function Inspector() {
  const run = useRunA();
  const place = useStore((s) => s.place);
  const pinned = useStore((s) => (s.place ? s.pins.includes(nameOf(s.place)) : false));
  const pins = useStore((s) => s.pins);
  if (!run) return null;
  return (
    <aside className={css.inspector} aria-label="Inspector">
      <header className={css.head}>
        <h2>{place ? said(place) : "Inspector"}</h2>
        {place && (
          <>
            <code>{nameOf(place)}</code>
            <button type="button" className="quiet" aria-pressed={pinned} title="Pin it, to compare (p)" onClick={() => dispatch({ do: "pin", name: nameOf(place) })}>
              {pinned ? "★ Pinned" : "☆ Pin"}
            </button>
          </>
        )}
      </header>
      {place ? (
        <>
          <Acts run={run} place={place} />
          {place.head === null ? <MlpCard run={run} place={place} /> : <Card run={run} place={{ layer: place.layer, head: place.head }} />}
        </>
      ) : (
        <p className="note">
          Click a head or an MLP in any map: its statistics and what can be done to it (ablate, patch, knock out, steer) come here. Keys: <kbd>[</kbd> <kbd>]</kbd> layer, <kbd>,</kbd> <kbd>.</kbd> head.
        </p>
      )}
      {pins.length > 0 && (
        <div className={css.pins}>
          <h3>Pinned</h3>
          {pins.map((name) => (
            <Pinned key={name} name={name} />
          ))}
        </div>
      )}
    </aside>
  );
}

function Pinned({ name }: { name: string }) {
  return (
    <span className="row">
      <button type="button" className="link" onClick={() => dispatch({ do: "select", place: placeOf(name) })}>
        {name}
      </button>
      <button type="button" className="quiet" aria-label={`Unpin ${name}`} onClick={() => dispatch({ do: "pin", name })}>
        ×
      </button>
    </span>
  );
}
