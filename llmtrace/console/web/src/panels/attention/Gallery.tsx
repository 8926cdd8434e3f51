import { useCallback, useMemo } from "react";
import { Chart } from "../../draw/Chart";
import { gallery } from "../../draw/gallery";
import type { Ink } from "../../draw/ink";
import { Pick, Waiting } from "../../parts/bits";
import { Frame } from "../../parts/Frame";
import { nameOf } from "../../state/place";
import { dispatch, useStore } from "../../state/store";
import { useBothBytes } from "../both";
import type { Tensor } from "../../read/safetensors";
import { tensorOf, type Head } from "./head";

/** Small maps of a layer's heads, or of all. */
export function Gallery({ head }: { head: Head }) {
  const { one, shown: which, run } = useBothBytes("attention", {});
  const scope = useStore((s) => s.options["heads"] ?? "layer");
  const model = useStore((s) => s.meta?.model ?? null);
  const hover = useStore((s) => s.hover.place ?? null);
  const tensor = one.state === "ready" ? tensorOf(one.value) : null;
  const only = scope === "layer" ? head.layer : null;
  const draw = useCallback(
    (width: number, ink: Ink) => gallery((tensor as Tensor).data as Uint8Array, (tensor as Tensor).shape.slice(0, 3) as [number, number, number], only, width, ink),
    [tensor, only],
  );
  const locked = useMemo(() => [{ row: head.layer, col: head.head }], [head]);
  const pointed = useMemo(() => [hover && hover.head !== null ? { row: hover.layer, col: hover.head } : null], [hover]);
  const n = run?.clean.tokens.length ?? 0;
  const side = tensor?.shape[2] ?? 0;
  return (
    <Frame
      id="heads"
      wide={scope === "all"}
      title={scope === "layer" ? `All heads of layer ${head.layer}` : "All heads"}
      what={`${which === "b" ? "Run B" : "Run A"}. Queries downward, keys to the right. ${n > side ? `Pooled: a pixel shows the largest of its ${Math.ceil(n / side)} × ${Math.ceil(n / side)} cells.` : "Each cell of the map is one pixel."} Quantised to a byte (~).`}
      tools={
        <>
          <Pick label="" value={scope} options={[["layer", "the heads of one layer"], ["all", "every layer"]]} onPick={(value) => dispatch({ do: "option", name: "heads", value })} />
          <span className="row">
            <button type="button" className="quiet" disabled={head.layer === 0} aria-label="Layer below" onClick={() => dispatch({ do: "select", place: { ...head, layer: head.layer - 1 } })}>[ −</button>
            <button type="button" className="quiet" disabled={model !== null && head.layer >= model.n_layers - 1} aria-label="Layer above" onClick={() => dispatch({ do: "select", place: { ...head, layer: head.layer + 1 } })}>+ ]</button>
          </span>
        </>
      }
    >
      {tensor ? (
        <Chart
          label={scope === "layer" ? `Small attention maps of the heads of layer ${head.layer}` : "Small attention maps of all heads"}
          draw={draw}
          say={(cell) => `head ${cell.row}.${cell.col}`}
          locked={locked}
          pointed={pointed}
          onHover={(cell) => dispatch({ do: "hover", hover: cell ? { place: { layer: cell.row, head: cell.col } } : {} })}
          onPick={(cell, shift) => dispatch(shift ? { do: "pin", name: nameOf({ layer: cell.row, head: cell.col }) } : { do: "select", place: { layer: cell.row, head: cell.col } })}
        />
      ) : (
        <Waiting got={one} what="the small maps" />
      )}
    </Frame>
  );
}
