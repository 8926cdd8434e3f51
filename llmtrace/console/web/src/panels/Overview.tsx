import type { HeadMap, Overview as View, PathMap, Run } from "../contract";
import { Num, Sides, Tok, Waiting } from "../parts/bits";
import { Words } from "../parts/Words";
import { Frame } from "../parts/Frame";
import { nameOf, said } from "../state/place";
import { dispatch, useRunA, useRunB, useStore } from "../state/store";
import { lacking, sideName, useBoth } from "./both";
import { JobBox } from "./JobBox";
import { MapChart, mapTable, mapValues } from "./MapChart";
import css from "./panels.module.css";

function Predictions({ a, b }: { a: Run; b: Run | null }) {
  const beside = b && b.clean.tokens.length ? b : null;
  const was = new Map(beside?.clean.top.map((one) => [one.token.id, one]));
  const rows = a.clean.top.map((one) => ({ ...one, was: was.get(one.token.id) ?? null }));
  return (
    <Frame
      id="prediction"
      title="Prediction at END"
      what={<>After <Tok text={a.clean.tokens.at(-1)?.text ?? ""} />. Entropy of the next token: <Num value={a.clean.entropy} /> nats{beside && <> (B: <Num value={beside.clean.entropy} />)</>}.</>}
      data={{ run: a.id, top: a.clean.top, beside: beside?.clean.top ?? null }}
      python={a.python}
    >
      <table>
        <thead>
          <tr>
            <th scope="col">token</th>
            <th scope="col" className="n">probability</th>
            <th scope="col" className="n">logit</th>
            {beside && <th scope="col" className="n">probability, A − B</th>}
          </tr>
        </thead>
        <tbody>
          {rows.map((one) => (
            <tr key={one.token.id}>
              <td>
                <Tok text={one.token.text} />
                {one.token.id === a.correct?.id && <small className="soft"> answer</small>}
                {one.token.id === a.wrong?.id && <small className="soft"> foil</small>}
              </td>
              <td className="n">
                <Num value={one.probability} places={4} />
                <span className={css.bar} style={{ width: `${one.probability * 100}%` }} />
              </td>
              <td className="n"><Num value={one.logit} places={2} /></td>
              {beside && <td className="n">{one.was ? <Num value={one.probability - one.was.probability} sign places={4} /> : <span className="soft">not in B's list</span>}</td>}
            </tr>
          ))}
        </tbody>
      </table>
    </Frame>
  );
}

function Prompts({ run }: { run: Run }) {
  return (
    <Frame id="prompts" title="Prompts" data={run} python={run.python}>
      <div className={css.facts}>
        {run.correct && <span>answer <Tok text={run.correct.text} /></span>}
        {run.wrong && <span>foil <Tok text={run.wrong.text} /></span>}
        {run.value !== null && <span title="logit(answer) − logit(foil) at END of the clean prompt">logit difference <Num value={run.value} /></span>}
        {run.against && run.against.metric !== null && <span>on the other prompt <Num value={run.against.metric} /></span>}
        <span className="soft">{run.clean.tokens.length} tokens</span>
      </div>
      <p className={css.prompt}><b className="up">clean</b> <bdi>{run.clean.prompt}</bdi></p>
      {run.against && <p className={css.prompt}><b className="down">other</b> <bdi>{run.against.prompt}</bdi></p>}
    </Frame>
  );
}

function Ranked({ map, other }: { map: HeadMap; other: HeadMap | null }) {
  const top = mapValues(map, other).all.sort((x, y) => Math.abs(y.value) - Math.abs(x.value)).slice(0, 12);
  return (
    <ol className={css.rank} aria-label={`Largest by ${map.title}`}>
      {top.map((one, i) => (
        <li key={nameOf(one.place)}>
          <button type="button" className="link" onClick={() => dispatch({ do: "select", place: one.place })} onPointerEnter={() => dispatch({ do: "hover", hover: { place: one.place } })} onPointerLeave={() => dispatch({ do: "hover", hover: {} })}>
            {i + 1}. {said(one.place)}
          </button>
          <Num value={one.value} sign />
        </li>
      ))}
    </ol>
  );
}

/** What all direct contributions add up to: of the run that is shown, or of both where their difference is. */
function Sum({ of: [one, two], unit }: { of: [number | null, number | null]; unit: string }) {
  if (one === null) return null;
  return <> All direct contributions add up to <Num value={one} /> {unit}{two !== null && <> in run A, <Num value={two} /> in run B</>}.</>;
}

function MapFrame({ id, map, other, shown, explained }: { id: string; map: HeadMap; other: HeadMap | null; shown: string; explained?: [number | null, number | null] }) {
  return (
    <Frame id={id} title={`${map.title}, ${shown}`} what={<>{map.what}{explained && <Sum of={explained} unit={map.unit} />}</>} tools={<Sides />} data={other ? { a: map, b: other } : map} python={map.python} table={map.heads || map.mlps ? mapTable(map, other) : null}>
      {map.refused && <p className="note" role="note"><b>Refused:</b> <Words text={map.refused} /></p>}
      {(map.heads || map.mlps) && (
        <>
          <MapChart map={map} other={other} />
          <Ranked map={map} other={other} />
        </>
      )}
    </Frame>
  );
}

function PathsFrame() {
  const both = useBoth<PathMap>("paths", {});
  const lacks = lacking(both);
  const of = both.one.state === "ready" && both.two?.state === "absent" ? both.two : lacks;
  const runB = useRunB();
  const run = of === both.two && runB ? runB : both.run;
  if (!of && both.one.state === "ready")
    return <MapFrame id="paths" map={both.one.value.map} other={both.two?.state === "ready" ? both.two.value.map : null} shown={sideName(both.shown)} />;
  return (
    <Frame id="paths" title="Path patching" tools={<Sides />} what="What the logit difference loses when only the direct path of one head to the logits carries the other prompt: an intervention, to set beside the direct attribution.">
      {of && (of.state === "absent" || of.state === "missing") ? of.state === "absent" && <p className="note">{`Not computed yet for ${sideName(both.shown)}.`}</p> : of && <Waiting got={of} what="path patching" />}
      {run && of && <JobBox body={{ view: "paths", run: run.id }} got={of} label="Compute path patching" costs="One pass for each head and MLP." off={of.state === "missing" ? of.why : run.against ? null : "Needs a second prompt: New run, with “against”."} />}
    </Frame>
  );
}

export function Overview() {
  const [a, b] = [useRunA(), useRunB()];
  const both = useBoth<View>("overview", {});
  const lacks = lacking(both);
  const other = both.two?.state === "ready" ? both.two.value : null;
  const missing = useStore((s) => s.meta?.missing ?? {});
  if (!a) return null;
  return (
    <div className={css.grid}>
      {lacks && !("overview" in missing) && (
        <Frame id="dla" title="Direct logit attribution" tools={<Sides />}>
          <Waiting got={lacks} what={`the importance map of ${sideName(both.shown)}`} />
        </Frame>
      )}
      {!lacks && both.one.state === "ready" &&
        both.one.value.maps.map((map, i) => (
          <MapFrame key={map.title} id={i ? `map-${i}` : "dla"} map={map} other={other?.maps[i] ?? null} shown={sideName(both.shown)} explained={i === 0 && both.one.state === "ready" ? [both.one.value.explained, other?.explained ?? null] : undefined} />
        ))}
      {!(both.one.state === "ready" && both.one.value.maps.length > 1) && !("paths" in missing && "overview" in missing) && <PathsFrame />}
      {a.clean.top.length > 0 && <Predictions a={a} b={b} />}
      {a.clean.prompt && <Prompts run={a} />}
    </div>
  );
}
