import { Sides, Waiting } from "../parts/bits";
import { Frame } from "../parts/Frame";
import { edit, whyFixed } from "../state/acts";
import { nameOf, said } from "../state/place";
import { dispatch, useRunA, useStore } from "../state/store";
import { Gallery } from "./attention/Gallery";
import { HeatFrame } from "./attention/HeatFrame";
import { LinesFrame } from "./attention/LinesFrame";
import { RowFrame } from "./attention/RowFrame";
import { useHead, useMap, type Head } from "./attention/head";
import { lacking, sideName, useBothBytes } from "./both";
import css from "./panels.module.css";

function Warning({ head }: { head: Head }) {
  const how = useStore((s) => s.options["how"] ?? "zero");
  const busy = useStore((s) => s.busy);
  const fixed = whyFixed();
  return (
    <p className={css.warn} role="note">
      <span><b>Attention is not attribution.</b> What {said(head)} looks at need not be what it moves.</span>
      <button type="button" disabled={Boolean(fixed ?? busy)} title={fixed ?? undefined} onClick={() => (dispatch({ do: "select", place: head }), void edit({ kind: "ablate", node: nameOf(head), how, positions: null }))}>
        Ablate {nameOf(head)} ({how}) and see
      </button>
    </p>
  );
}

export function Attention() {
  const run = useRunA();
  const { head, why: unchosen } = useHead(run);
  const average = useStore((s) => s.options["average"] === "1");
  const both = useBothBytes("attention/layer", run && { layer: head.layer });
  const n = both.run?.clean.tokens.length ?? 0;
  const { map, why } = useMap(both, average ? null : head.head, n);
  const lacks = lacking(both);
  if (!run) return null;
  const diff = both.two !== null;
  const of = both.run;
  const what = `${sideName(both.shown)[0]?.toUpperCase()}${sideName(both.shown).slice(1)}. Shares of 1, quantised (~, within 0.004).`;
  return (
    <>
      <Warning head={head} />
      <div className="row">
        {unchosen && <span className="soft">{unchosen}</span>}
        <label className="row">
          <input type="checkbox" checked={average} onChange={(event) => dispatch({ do: "option", name: "average", value: event.target.checked ? "1" : "" })} /> mean over the layer's heads
        </label>
      </div>
      <div className={css.grid}>
        {map && of ? (
          <>
            <HeatFrame key={n} head={head} average={average} map={map} run={of} diff={diff} what={what} />
            <LinesFrame head={head} average={average} map={map} run={of} diff={diff} what={what} />
          </>
        ) : (
          <Frame id="attention" title={`${said(head)}: map`} tools={<Sides />}>
            {why ? <p className="note">{why}</p> : lacks && <Waiting got={lacks} what={`attention of layer ${head.layer}`} />}
          </Frame>
        )}
        <RowFrame head={head} run={of ?? run} />
        <Gallery head={head} />
      </div>
    </>
  );
}
