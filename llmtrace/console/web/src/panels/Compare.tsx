import type { Overview, Run } from "../contract";
import { Num, Tok, Waiting } from "../parts/bits";
import { Frame } from "../parts/Frame";
import { runName } from "../parts/TopBar";
import { useView } from "../source/answers";
import { wordsOf } from "../state/edits";
import { nameOf, parsePlace } from "../state/place";
import { dispatch, useRunA, useRunB, useStore } from "../state/store";
import type { HeadCard } from "../contract";
import { MapChart, mapTable } from "./MapChart";
import css from "./panels.module.css";

const mean = (values: (number | null)[]): number | null => {
  const known = values.filter((value) => value !== null);
  return known.length ? known.reduce((sum, value) => sum + value, 0) / known.length : null;
};

function Numbers({ a, b }: { a: Run; b: Run }) {
  const names = useStore((s) => s.names);
  const rows: [string, number | null, number | null][] = [
    ["logit difference, logits", a.value, b.value],
    ["probability of the first choice", a.clean.top[0]?.probability ?? null, b.clean.top[0]?.probability ?? null],
    ["entropy of the next token, nats", a.clean.entropy, b.clean.entropy],
    ["mean log-probability of the prompt, nats", mean(a.clean.log_probability), mean(b.clean.log_probability)],
    ["logit difference on the other prompt, logits", a.against?.metric ?? null, b.against?.metric ?? null],
  ];
  return (
    <Frame id="numbers" wide title="Two runs" what={a.correct?.id === b.correct?.id && a.wrong?.id === b.wrong?.id ? undefined : "The runs have different answers or foils: their logit differences are of different tokens."} data={{ a, b }} python={`${a.python}\n\n${b.python}`}>
      <table>
        <thead>
          <tr>
            <th scope="col">of END</th>
            <th scope="col" className="n">A: <bdi>{runName(a, names)}</bdi></th>
            <th scope="col" className="n">B: <bdi>{runName(b, names)}</bdi></th>
            <th scope="col" className="n">A − B</th>
          </tr>
        </thead>
        <tbody>
          {rows.map(([name, x, y]) => (
            <tr key={name}>
              <td>{name}</td>
              <td className="n"><Num value={x} places={4} /></td>
              <td className="n"><Num value={y} places={4} /></td>
              <td className="n"><Num value={x !== null && y !== null ? x - y : null} places={4} sign /></td>
            </tr>
          ))}
          <tr>
            <td>says</td>
            <td className="n"><Tok text={a.clean.top[0]?.token.text ?? ""} /></td>
            <td className="n"><Tok text={b.clean.top[0]?.token.text ?? ""} /></td>
            <td />
          </tr>
          <tr>
            <td>edits</td>
            <td className="n">{a.edits.map(wordsOf).join("; ") || "none"}</td>
            <td className="n">{b.edits.map(wordsOf).join("; ") || "none"}</td>
            <td />
          </tr>
        </tbody>
      </table>
    </Frame>
  );
}

function Maps({ a, b }: { a: Run; b: Run }) {
  const [x, y] = [useView<Overview>("overview", { run: a.id }), useView<Overview>("overview", { run: b.id })];
  if (x.state !== "ready") return <Waiting got={x} what="the map of A" />;
  if (y.state !== "ready") return <Waiting got={y} what="the map of B" />;
  const [mapA, mapB] = [x.value.maps[0], y.value.maps[0]];
  if (!mapA || !mapB) return null;
  const frames = [
    { id: "compare-a", title: "A", map: mapA, other: null },
    { id: "compare-b", title: "B", map: mapB, other: null },
    { id: "compare-diff", title: "A − B", map: mapA, other: mapB },
  ];
  return frames.map(({ id, title, map, other }) => (
    <Frame key={id} id={id} title={`${map.title}, ${title}`} what={map.refused ?? `In ${map.unit}. Each map has its own scale.`} data={other ? { a: map, b: other } : map} python={map.python} table={map.heads ? mapTable(map, other) : null}>
      {(map.heads || map.mlps) && !map.refused && !other?.refused ? <MapChart map={map} other={other} /> : <p className="note">{other?.refused ?? "Nothing to draw."}</p>}
    </Frame>
  ));
}

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

function Heads({ run }: { run: Run }) {
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

export function Compare() {
  const [a, b] = [useRunA(), useRunB()];
  if (!a) return null;
  return (
    <div className={css.grid}>
      {b ? (
        <>
          <Numbers a={a} b={b} />
          <Maps a={a} b={b} />
        </>
      ) : (
        <Frame id="numbers" title="Two runs">
          <p className="note">There is no run B. Make an edit (B is then the run before it), or choose one in the top bar.</p>
        </Frame>
      )}
      <Heads run={a} />
    </div>
  );
}
