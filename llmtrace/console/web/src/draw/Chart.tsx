import { useEffect, useId, useMemo, useRef, useState, type KeyboardEvent, type PointerEvent, type WheelEvent } from "react";
import css from "./Chart.module.css";
import { panned, zoomed, type Cell, type Drawn, type Window } from "./drawn";
import type { Ink } from "./ink";
import { usePicture } from "../parts/Frame";
import { paint, type Mark } from "./scene";
import { useInk } from "./theme";

interface Props {
  label: string; // what the chart is, to a screen reader
  draw: (width: number, ink: Ink) => Drawn;
  say: (cell: Cell) => string;
  locked?: (Partial<Cell> | null)[];
  pointed?: (Partial<Cell> | null)[]; // previewed from elsewhere
  onHover?: (cell: Cell | null) => void;
  onPick?: (cell: Cell, shift: boolean) => void;
  zoom?: { seen: Window; set: (seen: Window) => void };
  order?: number; // of the picture within its frame
}

const STEP: Record<string, [number, number]> = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

/** Any picture of cells: one canvas for the picture and one for what is pointed at; a cursor for the keyboard, spoken. */
export function Chart({ label, draw, say, locked, pointed, onHover, onPick, zoom, order = 0 }: Props) {
  const ink = useInk();
  const holder = useRef<HTMLDivElement>(null);
  const base = useRef<HTMLCanvasElement>(null);
  const over = useRef<HTMLCanvasElement>(null);
  const [width, setWidth] = useState(0);
  const [under, setUnder] = useState<{ cell: Cell; x: number; y: number } | null>(null);
  const [cursor, setCursor] = useState<Cell | null>(null);
  const grabbed = useRef<{ x: number; y: number; seen: Window; moved: boolean } | null>(null);
  const ratio = Math.min(3, window.devicePixelRatio || 1);
  const drawn = useMemo(() => (width ? draw(width, ink) : null), [draw, width, ink]);
  usePicture(useId(), order, drawn?.scene ?? null);

  useEffect(() => {
    const element = holder.current;
    if (!element) return;
    const watch = new ResizeObserver(([entry]) => setWidth(Math.floor(entry?.contentRect.width ?? 0)));
    watch.observe(element);
    return () => watch.disconnect();
  }, []);

  useEffect(() => {
    if (drawn && base.current) paint(base.current, drawn.scene, ratio);
  }, [drawn, ratio]);

  useEffect(() => {
    if (!drawn || !over.current) return;
    const marks: Mark[] = [];
    const outline = (cell: Partial<Cell> | null | undefined, stroke: string, wide: number, dash?: number[]) => {
      const box = cell && drawn.box(cell);
      if (!box) return;
      marks.push({ is: "rect", x: box.x - 1, y: box.y - 1, w: box.w + 2, h: box.h + 2, stroke: ink.page, width: wide + 2 });
      marks.push({ is: "rect", x: box.x - 1, y: box.y - 1, w: box.w + 2, h: box.h + 2, stroke, width: wide, dash });
    };
    for (const cell of pointed ?? []) outline(cell, ink.text, 1, [3, 2]);
    outline(under?.cell, ink.text, 1.5, [3, 2]);
    for (const cell of locked ?? []) outline(cell, ink.lock, 2);
    if (cursor) outline(cursor, ink.text, 2, [2, 2]);
    paint(over.current, { ...drawn.scene, marks }, ratio);
  }, [drawn, locked, pointed, under, cursor, ink, ratio]);

  const find = (event: { clientX: number; clientY: number }) => {
    const box = holder.current?.getBoundingClientRect();
    const [x, y] = [event.clientX - (box?.left ?? 0), event.clientY - (box?.top ?? 0)];
    return { x, y, cell: drawn?.at(x, y) ?? null };
  };

  const move = (event: PointerEvent) => {
    const { x, y, cell } = find(event);
    const held = grabbed.current;
    if (held && zoom && drawn && event.buttons & 1) {
      const box = drawn.box({ row: zoom.seen.row[0], col: zoom.seen.col[0] });
      const [right, down] = [-Math.round((x - held.x) / (box?.w ?? 9)), -Math.round((y - held.y) / (box?.h ?? 9))];
      if (right || down) held.moved = true;
      if (held.moved) return zoom.set(panned(held.seen, drawn.rows, drawn.cols, down, right));
    }
    if (cell?.row !== under?.cell.row || cell?.col !== under?.cell.col) onHover?.(cell);
    setUnder(cell ? { cell, x, y } : null);
  };

  const leave = () => {
    if (under) onHover?.(null);
    setUnder(null);
  };

  const closer = (cell: Cell, factor: number) => drawn && zoom?.set(zoomed(zoom.seen, cell, factor, drawn.rows, drawn.cols));

  const wheel = (event: WheelEvent) => {
    const { cell } = find(event);
    if (zoom && cell && (event.ctrlKey || event.metaKey)) closer(cell, event.deltaY > 0 ? 1.25 : 0.8);
  };

  const press = (event: KeyboardEvent) => {
    if (!drawn || event.ctrlKey || event.metaKey || event.altKey) return;
    const here = cursor ?? firstOf(drawn, locked);
    const step = STEP[event.key];
    if (step) {
      let next = here;
      if (cursor) {
        const [down, right] = [drawn.upward ? -step[0] : step[0], step[1]];
        for (let far = 1; far < 200; far++) {
          const to = { row: here.row + down * far, col: here.col + right * far };
          if (to.row < 0 || to.col < 0 || to.row >= drawn.rows || to.col >= drawn.cols) break;
          if (zoom && !drawn.box(to)) zoom.set(panned(zoom.seen, drawn.rows, drawn.cols, down * far, right * far));
          if (zoom || drawn.box(to)) {
            next = to;
            break;
          }
        }
      }
      setCursor(next);
      onHover?.(next);
    } else if ((event.key === "Enter" || event.key === " ") && cursor) onPick?.(cursor, event.shiftKey);
    else if (zoom && (event.key === "+" || event.key === "=")) closer(here, 0.7);
    else if (zoom && event.key === "-") closer(here, 1.4);
    else if (zoom && event.key === "0") zoom.set({ row: [0, drawn.rows], col: [0, drawn.cols] });
    else return;
    event.preventDefault();
    event.stopPropagation();
  };

  return (
    <div
      ref={holder}
      className={css.chart}
      style={{ height: drawn?.scene.height ?? 120 }}
      role="application"
      aria-roledescription="chart with a cursor"
      aria-label={`${label}. Arrow keys move the cursor, Enter chooses; t shows a table.`}
      tabIndex={0}
      onPointerMove={move}
      onPointerLeave={leave}
      onPointerDown={(event) => {
        if (zoom && event.button === 0) grabbed.current = { ...find(event), seen: zoom.seen, moved: false };
      }}
      onClick={(event) => {
        const moved = grabbed.current?.moved;
        grabbed.current = null;
        const { cell } = find(event);
        if (cell && !moved) onPick?.(cell, event.shiftKey);
      }}
      onWheel={wheel}
      onKeyDown={press}
      onBlur={() => setCursor(null)}
    >
      <canvas ref={base} className={css.layer} aria-hidden="true" style={{ width: drawn?.scene.width, height: drawn?.scene.height }} />
      <canvas ref={over} className={css.layer} aria-hidden="true" style={{ width: drawn?.scene.width, height: drawn?.scene.height }} />
      {under && (
        <div className={css.tip} style={under.x > width * 0.6 ? { right: width - under.x + 12, top: under.y + 14 } : { left: under.x + 12, top: under.y + 14 }}>
          {say(under.cell)}
        </div>
      )}
      <div className="unseen" aria-live="polite">
        {cursor ? say(cursor) : ""}
      </div>
    </div>
  );
}

function firstOf(drawn: Drawn, locked: Props["locked"]): Cell {
  const start = locked?.find((cell) => cell && drawn.box(cell));
  const first = { row: start?.row ?? (drawn.upward ? drawn.rows - 1 : 0), col: start?.col ?? 0 };
  if (drawn.box(first)) return first;
  for (let row = 0; row < drawn.rows; row++)
    for (let col = 0; col < drawn.cols; col++) if (drawn.box({ row, col })) return { row, col };
  return { row: 0, col: 0 };
}
