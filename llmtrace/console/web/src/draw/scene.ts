/** A picture as a list of marks: painted on a canvas for the screen, written as SVG for a file. One truth for both. */
export type Mark =
  | { is: "image"; x: number; y: number; w: number; h: number; cols: number; rows: number; rgba: Uint8ClampedArray }
  | { is: "rect"; x: number; y: number; w: number; h: number; fill?: string; stroke?: string; width?: number; dash?: number[] }
  | { is: "line"; x1: number; y1: number; x2: number; y2: number; stroke: string; width?: number; alpha?: number; dash?: number[] }
  | { is: "curve"; points: [number, number, number, number, number, number, number, number]; stroke: string; width: number; alpha: number; dash?: number[] }
  | { is: "dot"; x: number; y: number; r: number; fill: string; stroke?: string; width?: number }
  | { is: "text"; x: number; y: number; text: string; size: number; fill: string; anchor?: "start" | "middle" | "end"; turn?: number; bold?: boolean };

export interface Scene {
  width: number;
  height: number;
  marks: Mark[];
}

export const FONT = 'system-ui, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", sans-serif';

let ruler: CanvasRenderingContext2D | null | undefined;

/** How wide a text will be. Without a canvas (unit tests) a letter counts as .58 of its size. */
export function wide(text: string, size: number): number {
  if (ruler === undefined) ruler = typeof document === "undefined" ? null : document.createElement("canvas").getContext("2d");
  if (!ruler) return text.length * size * 0.58;
  ruler.font = `${size}px ${FONT}`;
  return ruler.measureText(text).width;
}

/** The text, cut to a width with an ellipsis. */
export function fit(text: string, size: number, room: number): string {
  if (wide(text, size) <= room + 0.5) return text; // sums of widths are not exact
  const letters = [...text];
  let [low, high] = [0, letters.length];
  while (low < high) {
    const mid = (low + high + 1) >> 1;
    if (wide(`${letters.slice(0, mid).join("")}…`, size) <= room) low = mid;
    else high = mid - 1;
  }
  return low ? `${letters.slice(0, low).join("")}…` : "";
}

const images = new WeakMap<Uint8ClampedArray, HTMLCanvasElement>();

function imageOf(mark: Extract<Mark, { is: "image" }>): HTMLCanvasElement {
  let canvas = images.get(mark.rgba);
  if (!canvas) {
    canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [mark.cols, mark.rows];
    const data = new ImageData(mark.rgba as Uint8ClampedArray<ArrayBuffer>, mark.cols, mark.rows);
    canvas.getContext("2d")?.putImageData(data, 0, 0);
    images.set(mark.rgba, canvas);
  }
  return canvas;
}

function paintMark(pen: CanvasRenderingContext2D, mark: Mark): void {
  switch (mark.is) {
    case "image":
      pen.imageSmoothingEnabled = false;
      return pen.drawImage(imageOf(mark), mark.x, mark.y, mark.w, mark.h);
    case "rect":
      pen.setLineDash(mark.dash ?? []);
      pen.lineWidth = mark.width ?? 1;
      if (mark.fill) {
        pen.fillStyle = mark.fill;
        pen.fillRect(mark.x, mark.y, mark.w, mark.h);
      }
      if (mark.stroke) {
        pen.strokeStyle = mark.stroke;
        pen.strokeRect(mark.x, mark.y, mark.w, mark.h);
      }
      return;
    case "line":
    case "curve":
      pen.globalAlpha = mark.alpha ?? 1;
      pen.setLineDash(mark.dash ?? []);
      pen.lineWidth = mark.width ?? 1;
      pen.strokeStyle = mark.stroke;
      pen.beginPath();
      if (mark.is === "line") {
        pen.moveTo(mark.x1, mark.y1);
        pen.lineTo(mark.x2, mark.y2);
      } else {
        const [x, y, ...rest] = mark.points;
        pen.moveTo(x, y);
        pen.bezierCurveTo(...rest);
      }
      pen.stroke();
      pen.globalAlpha = 1;
      return;
    case "dot":
      pen.setLineDash([]);
      pen.beginPath();
      pen.arc(mark.x, mark.y, mark.r, 0, 7);
      pen.fillStyle = mark.fill;
      pen.fill();
      if (mark.stroke) {
        pen.strokeStyle = mark.stroke;
        pen.lineWidth = mark.width ?? 1;
        pen.stroke();
      }
      return;
    case "text":
      pen.save();
      pen.font = `${mark.bold ? "600 " : ""}${mark.size}px ${FONT}`;
      pen.fillStyle = mark.fill;
      pen.direction = "ltr";
      pen.textAlign = mark.anchor === "middle" ? "center" : mark.anchor === "end" ? "right" : "left";
      pen.textBaseline = "middle";
      pen.translate(mark.x, mark.y);
      if (mark.turn) pen.rotate((mark.turn * Math.PI) / 180);
      pen.fillText(mark.text, 0, 0);
      pen.restore();
  }
}

export function paint(canvas: HTMLCanvasElement, scene: Scene, ratio: number, page?: string): void {
  const [w, h] = [Math.max(1, Math.round(scene.width * ratio)), Math.max(1, Math.round(scene.height * ratio))];
  if (canvas.width !== w) canvas.width = w;
  if (canvas.height !== h) canvas.height = h;
  const pen = canvas.getContext("2d");
  if (!pen) return;
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, scene.width, scene.height);
  if (page) {
    pen.fillStyle = page;
    pen.fillRect(0, 0, scene.width, scene.height);
  }
  for (const mark of scene.marks) paintMark(pen, mark);
}

/** Several pictures under one another, as one. */
export function stack(scenes: Scene[], gap = 16): Scene {
  const marks: Mark[] = [];
  let y = 0;
  for (const scene of scenes) {
    marks.push(...scene.marks.map((mark) => moved(mark, y)));
    y += scene.height + gap;
  }
  return { width: Math.max(1, ...scenes.map((scene) => scene.width)), height: Math.max(1, y - gap), marks };
}

function moved(mark: Mark, down: number): Mark {
  if (mark.is === "line") return { ...mark, y1: mark.y1 + down, y2: mark.y2 + down };
  if (mark.is === "curve") {
    const [a, b, c, d, e, f, g, h] = mark.points;
    return { ...mark, points: [a, b + down, c, d + down, e, f + down, g, h + down] };
  }
  return { ...mark, y: mark.y + down };
}
