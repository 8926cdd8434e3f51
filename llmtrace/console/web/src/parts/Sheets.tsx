import { useState, type FormEvent } from "react";
import { shown } from "../read/text";
import { makeRun } from "../state/acts";
import { KEYS } from "../state/keys";
import { nameOf } from "../state/place";
import { TABS } from "../state/state";
import { dispatch, useRunA, useStore } from "../state/store";
import { closeDialog, Dialog } from "./Dialog";
import css from "./Dialog.module.css";

export function KeySheet() {
  return (
    <Dialog title="Keys">
      <dl className={css.keys}>
        {KEYS.map(([keys, says]) => (
          <div key={keys}>
            <dt>{keys.split(" ").map((key) => <kbd key={key}>{key}</kbd>)}</dt>
            <dd>{says}</dd>
          </div>
        ))}
      </dl>
      <p className="note">
        Pointing previews, a click locks, Shift+click locks a key, Esc lets go. In a chart: arrows move its cursor, Enter chooses; in attention maps + − 0 or Ctrl+wheel zoom and dragging moves.
      </p>
    </Dialog>
  );
}

export function CopyByHand() {
  const text = useStore((s) => s.copied);
  return (
    <Dialog title="Copy this text">
      <p className="note">This frame may not use the clipboard. The text is chosen: press Ctrl+C.</p>
      <textarea className={css.find} rows={10} readOnly value={text} aria-label="Text to copy" onFocus={(event) => event.target.select()} autoFocus />
    </Dialog>
  );
}

export function NewRunForm() {
  const run = useRunA();
  const meta = useStore((s) => s.meta);
  const busy = useStore((s) => s.busy);
  const problem = useStore((s) => s.problem);
  const [prompt, setPrompt] = useState(run?.clean.prompt ?? "");
  const [against, setAgainst] = useState(run?.against?.prompt ?? "");
  const [correct, setCorrect] = useState("");
  const [wrong, setWrong] = useState("");
  const [name, setName] = useState("");
  const send = async (event: FormEvent) => {
    event.preventDefault();
    const made = await makeRun({ prompt, against: against || null, correct: correct || null, wrong: wrong || null, name: name || null }, `new run: ${prompt.slice(0, 40)}`);
    if (made) closeDialog();
  };
  return (
    <Dialog title="New run">
      <form className={css.form} onSubmit={(event) => void send(event)}>
        <label>
          Prompt
          <textarea required rows={3} maxLength={meta?.limits.prompt_characters} value={prompt} onChange={(event) => setPrompt(event.target.value)} autoFocus />
        </label>
        <label>
          Against
          <textarea rows={3} maxLength={meta?.limits.prompt_characters} value={against} onChange={(event) => setAgainst(event.target.value)} />
          <small>Another prompt of the same length in tokens, for patching and steering. May be left out.</small>
        </label>
        <div className={css.pair}>
          <label>
            Answer
            <input type="text" value={correct} onChange={(event) => setCorrect(event.target.value)} />
            <small>Left out: what the model says. A leading space counts.</small>
          </label>
          <label>
            Foil
            <input type="text" value={wrong} onChange={(event) => setWrong(event.target.value)} />
            <small>Left out: the answer to “against”, or the runner-up.</small>
          </label>
          <label>
            Name
            <input type="text" value={name} onChange={(event) => setName(event.target.value)} />
          </label>
        </div>
        {problem && <p className="problem" role="alert">{problem}</p>}
        <div className="row">
          <button type="submit" className="main" disabled={Boolean(busy)}>{busy ? "Running …" : "Run"}</button>
          <small>At most {meta?.limits.tokens} tokens.</small>
        </div>
      </form>
    </Dialog>
  );
}

export function Find() {
  const run = useRunA();
  const model = useStore((s) => s.meta?.model ?? null);
  const [text, setText] = useState("");
  const wanted = text.trim().toLowerCase();
  const found: { name: string; act: () => void }[] = [];
  if (wanted) {
    const spot = /^(?:a|l)?(\d+)[.:h ]+h?(\d+)$/.exec(wanted);
    const mlp = /^(?:m|mlp ?)(\d+)$/.exec(wanted);
    const place = spot ? { layer: Number(spot[1]), head: Number(spot[2]) } : mlp ? { layer: Number(mlp[1]), head: null } : null;
    if (place && model && place.layer < model.n_layers && (place.head ?? 0) < model.n_heads)
      found.push({ name: `select ${nameOf(place)}`, act: () => dispatch({ do: "select", place }) });
    for (const tab of TABS) if (tab.startsWith(wanted)) found.push({ name: `tab: ${tab}`, act: () => dispatch({ do: "tab", tab }) });
    run?.clean.tokens.forEach((token, i) => {
      if (found.length < 60 && (token.text.toLowerCase().includes(wanted) || String(i) === wanted))
        found.push({ name: `token ${i}: ${shown(token.text)}`, act: () => dispatch({ do: "lock", query: i }) });
    });
  }
  const go = (act: () => void) => (closeDialog(), act());
  return (
    <Dialog title="Find">
      <form onSubmit={(event) => (event.preventDefault(), found[0] && go(found[0].act))}>
        <input type="text" className={css.find} aria-label="Find a token, head or tab" placeholder="a token, 3.2, m1, lens …" value={text} onChange={(event) => setText(event.target.value)} autoFocus />
      </form>
      <ul className={css.found}>
        {found.map((one) => (
          <li key={one.name}>
            <button type="button" className="quiet" onClick={() => go(one.act)}><bdi>{one.name}</bdi></button>
          </li>
        ))}
      </ul>
      {wanted && !found.length && <p className="note">Nothing is called that here.</p>}
    </Dialog>
  );
}
