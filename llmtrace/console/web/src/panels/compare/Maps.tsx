import type { Overview, Run } from "../../contract";
import { largest } from "../../draw/scale";
import { Waiting } from "../../parts/bits";
import { Frame } from "../../parts/Frame";
import { useView } from "../../source/answers";
import { MapChart, mapTable, mapValues } from "../MapChart";

/** The importance maps of two runs on one scale, and their difference. */
export function Maps({ a, b }: { a: Run; b: Run }) {
  const [x, y] = [useView<Overview>("overview", { run: a.id }), useView<Overview>("overview", { run: b.id })];
  if (x.state !== "ready") return <Waiting got={x} what="the map of A" />;
  if (y.state !== "ready") return <Waiting got={y} what="the map of B" />;
  const [mapA, mapB] = [x.value.maps[0], y.value.maps[0]];
  if (!mapA || !mapB) return null;
  const most = largest([mapA, mapB].flatMap((map) => mapValues(map, null).all.map((one) => one.value)));
  const frames = [
    { id: "compare-a", title: "A", map: mapA, other: null },
    { id: "compare-b", title: "B", map: mapB, other: null },
    { id: "compare-diff", title: "A − B", map: mapA, other: mapB },
  ];
  return frames.map(({ id, title, map, other }) => (
    <Frame key={id} id={id} title={`${map.title}, ${title}`} what={map.refused ?? other ? `In ${map.unit}, on a scale of its own.` : `In ${map.unit}. The maps of A and B share a scale.`} data={other ? { a: map, b: other } : map} python={map.python} table={map.heads ? mapTable(map, other) : null}>
      {(map.heads || map.mlps) && !map.refused && !other?.refused ? <MapChart map={map} other={other} most={other ? undefined : most} /> : <p className="note">{other?.refused ?? "Nothing to draw."}</p>}
    </Frame>
  ));
}
