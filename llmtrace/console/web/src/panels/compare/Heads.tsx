import type { HeadCard, Run } from "../../contract";
import { Num, Waiting } from "../../parts/bits";
import { Frame } from "../../parts/Frame";
import { useView } from "../../source/answers";
import { nameOf, parsePlace } from "../../state/place";
import { dispatch, useStore } from "../../state/store";
import css from "../panels.module.css";

function Head({ run, name }: { run: Run; name: string }) {
  const place = parsePlace(name);
  const got = useView<HeadCard>("head", place && place.head !== null ? { run: run.id, layer: place.layer, head: place.head } : null);
  if (got.state !== "ready") return <td colSpan={9}>{name}: <Waiting got={got} what={name} /></td>;
  const card = got.value;
  return (
    <>
      <td><button type="button" className="link" onClick={() => dispatch({ do: "select", place })}>{name}</button></td>
      <td className="n"><Num value={card.direct} sign /></td>
      <td className="n">{card.rank ?? "–"}</td>
      {Object.entries(card.behaviour).map(([behaviour, value]) => <td key={behaviour} className="n"><Num value={value} /></td>)}
    </>
  );
}

/** The chosen head and the pinned ones, a row each. */
export function Heads({ run }: { run: Run }) {
  const pins = useStore((s) => s.pins);
  const place = useStore((s) => s.place);
  const names = [...new Set([...(place ? [nameOf(place)] : []), ...pins])].filter((name) => parsePlace(name)?.head !== null);
  const first = parsePlace(names[0] ?? "");
  const got = useView<HeadCard>("head", first && first.head !== null ? { run: run.id, layer: first.layer, head: first.head } : null);
  const behaviours = got.state === "ready" ? Object.keys(got.value.behaviour) : [];
  return (
    <Frame id="pinned" wide title="Heads side by side, run A" what="The chosen head and the pinned ones (p, or Shift+click in a map). Behaviours are mean shares of attention, entropy is in nats.">
      {names.length ? (
        <div className={css.scroll} tabIndex={0} role="region" aria-label="Heads side by side">
          <table>
            <thead>
              <tr>
                <th scope="col">head</th>
                <th scope="col" className="n">direct, logits</th>
                <th scope="col" className="n">rank</th>
                {behaviours.map((name) => <th key={name} scope="col" className="n">{name.replaceAll("_", " ")}</th>)}
              </tr>
            </thead>
            <tbody>{names.map((name) => <tr key={name}><Head run={run} name={name} /></tr>)}</tbody>
          </table>
        </div>
      ) : (
        <p className="note">No head is chosen or pinned yet.</p>
      )}
    </Frame>
  );
}
