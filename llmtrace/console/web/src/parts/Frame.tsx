import { createContext, useContext, useEffect, useMemo, useRef, type ReactNode } from "react";
import { stack, paint, type Scene } from "../draw/scene";
import { toSvg } from "../draw/svg";
import { useInk } from "../draw/theme";
import { copy, saveBlob, saveJson } from "../state/acts";
import { dispatch, useStore } from "../state/store";
import css from "./Frame.module.css";
import { Words } from "./Words";
import { Menu } from "./Menu";
import { Table, type TableGiven } from "./Table";

type Pictures = Map<string, { order: number; scene: Scene }>;
const FrameContext = createContext<Pictures | null>(null);

/** A chart hands its picture to the frame it stands in, which saves it. */
export function usePicture(id: string, order: number, scene: Scene | null): void {
  const pictures = useContext(FrameContext);
  useEffect(() => {
    if (!pictures || !scene) return;
    pictures.set(id, { order, scene });
    return () => void pictures.delete(id);
  }, [pictures, id, order, scene]);
}

interface Props {
  id: string;
  title: ReactNode;
  what?: ReactNode; // one sentence: what is drawn, its metric, baseline and unit
  tools?: ReactNode;
  data?: unknown; // saved as JSON; a function makes it when it is wanted
  python?: string;
  table?: TableGiven | null;
  wide?: boolean;
  children: ReactNode;
}

let lastFrame: string | null = null;
export const frameAtHand = (): string | null => lastFrame;

/** A panel: title, what it shows, the chart or its table, and the ways to take it along. */
export function Frame({ id, title, what, tools, data, python, table, wide, children }: Props) {
  const pictures = useRef<Pictures>(new Map()).current;
  const ink = useInk();
  const asTable = useStore((s) => s.table) && table;
  const full = useStore((s) => s.full === id);
  const name = `llmtrace-${id}`;
  const picture = () => stack([...pictures.values()].sort((a, b) => a.order - b.order).map((held) => held.scene));
  const png = () => {
    const canvas = document.createElement("canvas");
    paint(canvas, picture(), 2, ink.page);
    canvas.toBlob((blob) => blob && saveBlob(blob, `${name}.png`));
  };
  const svg = () => {
    const embed = (mark: { cols: number; rows: number; rgba: Uint8ClampedArray }) => {
      const canvas = document.createElement("canvas");
      [canvas.width, canvas.height] = [mark.cols, mark.rows];
      canvas.getContext("2d")?.putImageData(new ImageData(mark.rgba as Uint8ClampedArray<ArrayBuffer>, mark.cols, mark.rows), 0, 0);
      return canvas.toDataURL();
    };
    saveBlob(new Blob([toSvg(picture(), ink.page, embed)], { type: "image/svg+xml" }), `${name}.svg`);
  };
  const saves = useMemo(
    () => [
      ...(asTable ? [] : [{ name: "PNG picture", act: png }, { name: "SVG picture", act: svg }]), // prettier-ignore
      ...(data === undefined ? [] : [{ name: "JSON data", act: () => saveJson(typeof data === "function" ? data() : data, `${name}.json`) }]),
    ],
    [asTable, data, ink],
  );
  return (
    <section
      className={`${css.frame} ${wide ? css.wide : ""} ${full ? css.full : ""}`}
      aria-labelledby={`${id}-title`}
      data-frame={id}
      onPointerEnter={() => void (lastFrame = id)}
      onFocus={() => void (lastFrame = id)}
    >
      <header className={css.head}>
        <h2 id={`${id}-title`}>{title}</h2>
        {tools}
        <span className={css.ways}>
          {python && (
            <button type="button" className="quiet" title="Copy as Python: code that gives these numbers" aria-label="Copy as Python" onClick={() => void copy(python)}>
              Python
            </button>
          )}
          {saves.length > 0 && <Menu label="Save" items={saves} />}
          <button type="button" className="quiet" aria-pressed={full} title="Fill the page (f)" onClick={() => dispatch({ do: "set", part: { full: full ? null : id } })}>
            {full ? "Close" : "Fill"}
          </button>
        </span>
      </header>
      {what && <p className={css.what}>{typeof what === "string" ? <Words text={what} /> : what}</p>}
      <FrameContext.Provider value={pictures}>
        <div className={css.body}>{asTable ? <Table {...asTable} /> : children}</div>
      </FrameContext.Provider>
    </section>
  );
}
