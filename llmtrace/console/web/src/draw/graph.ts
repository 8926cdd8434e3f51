import type { CircuitView } from "../contract";
import { number } from "../read/text";
import type { Cell, Drawn } from "./drawn";
import type { Ink } from "./ink";
import { fit, wide, type Mark } from "./scene";

type Edge = CircuitView["edges"][number];

export const nodeOf = (port: string): string => port.replace(/<.*$/, "");

/** Where the nodes stand: one row a layer, in the order of their x; cells of the chart are (layer + 1, place within the layer). */
export function rowsOf(view: CircuitView): { name: string; role: string | null; x: number }[][] {
  const deepest = Math.max(0, ...view.nodes.map((node) => node.layer));
  const rows: { name: string; role: string | null; x: number }[][] = Array.from({ length: deepest + 2 }, () => []);
  for (const node of view.nodes) rows[node.layer + 1]?.push({ name: node.name, role: node.role ?? null, x: node.x });
  for (const row of rows) row.sort((a, b) => a.x - b.x);
  return rows;
}

interface Given {
  view: CircuitView;
  edges: Edge[]; // those that are drawn
  touched: string | null; // its edges stand out
}

/** A circuit on a fixed grid: x = head, y = layer, the input lowest. Positive edges are solid, negative ones dashed. */
export function graph({ view, edges, touched }: Given, width: number, ink: Ink): Drawn {
  const rows = rowsOf(view);
  const used = new Set(edges.flatMap((edge) => [edge.sender, nodeOf(edge.receiver)]));
  const tall = Math.max(ink.size * 4.4, Math.min(74, 620 / rows.length));
  const left = ink.size * 5;
  const right = width - 26;
  const y = (row: number) => 16 + (rows.length - 1 - row + 0.5) * tall;
  const x = (node: { x: number }) => left + 14 + node.x * Math.max(60, right - left - 14);
  const held = touched !== null && used.has(touched);
  const spots = new Map<string, { x: number; y: number }>();
  const marks: Mark[] = [];
  rows.forEach((row, i) => {
    const text = i === 0 ? "input" : i === rows.length - 1 ? "logits" : `layer ${i - 1}`;
    marks.push({ is: "line", x1: left - 4, y1: y(i), x2: right + 14, y2: y(i), stroke: ink.line, alpha: 0.6 });
    marks.push({ is: "text", x: left - 10, y: y(i), text, size: ink.size, fill: ink.soft, anchor: "end" });
    for (const node of row) spots.set(node.name, { x: x(node), y: y(i) });
  });
  const most = Math.max(1e-12, ...edges.map((edge) => Math.abs(edge.score)));
  for (const edge of [...edges].reverse()) {
    const [from, to] = [spots.get(edge.sender), spots.get(nodeOf(edge.receiver))];
    if (!from || !to) continue;
    const strength = Math.abs(edge.score) / most;
    const near = touched !== null && (edge.sender === touched || nodeOf(edge.receiver) === touched);
    const bend = Math.min(tall * 0.6, Math.abs(from.y - to.y) * 0.45 + 4);
    const points: [number, number, number, number, number, number, number, number] =
      from.y === to.y // within a layer: a bow above the nodes between
        ? [from.x, from.y, from.x + (to.x - from.x) * 0.25, from.y - tall * 0.55, from.x + (to.x - from.x) * 0.75, from.y - tall * 0.55, to.x, to.y]
        : [from.x, from.y, from.x, from.y - bend, to.x, to.y + bend, to.x, to.y];
    marks.push({
      is: "curve",
      points,
      stroke: edge.score < 0 ? ink.b : ink.a,
      width: 0.7 + 3.6 * strength,
      alpha: held && !near ? 0.12 : (edge.kept ? 0.35 : 0.15) + 0.5 * strength,
      dash: edge.score < 0 ? [5, 3] : undefined,
    });
  }
  const crowded = Math.max(...rows.map((row) => row.length)) > (right - left) / 30;
  rows.forEach((row, i) => {
    for (const node of row) {
      const on = used.has(node.name);
      const spot = { x: x(node), y: y(i) };
      marks.push({ is: "dot", x: spot.x, y: spot.y, r: on ? 6 : 2.5, fill: on ? ink.page : ink.line, stroke: on ? ink.text : ink.line, width: on ? 1.6 : 1 });
      if (!on) continue;
      if (!crowded || node.name === touched || node.role)
        marks.push({ is: "text", x: spot.x, y: spot.y - ink.size * 1.5, text: short(node.name), size: ink.size, fill: ink.text, anchor: "middle", bold: true });
      if (node.role) marks.push({ is: "text", x: spot.x, y: spot.y + ink.size * 1.5, text: fit(node.role, ink.size - 1, 120), size: ink.size - 1, fill: ink.soft, anchor: "middle" });
    }
  });
  const bottom = 16 + rows.length * tall + 8;
  const key = (at: number, text: string, stroke: string, dash?: number[]) => {
    marks.push({ is: "line", x1: at, y1: bottom, x2: at + 24, y2: bottom, stroke, width: 2.4, dash });
    marks.push({ is: "text", x: at + 30, y: bottom, text, size: ink.size, fill: ink.soft });
  };
  key(8, `positive, thickest ${number(most)}`, ink.a);
  key(60 + wide(`positive, thickest ${number(most)}`, ink.size), "negative", ink.b, [5, 3]);
  const box = ({ row, col }: Partial<Cell>) => {
    const node = row === undefined || col === undefined ? undefined : rows[row]?.[col];
    return node && row !== undefined ? { x: x(node) - 9, y: y(row) - 9, w: 18, h: 18 } : null;
  };
  return {
    scene: { width, height: bottom + ink.size * 1.4, marks },
    rows: rows.length,
    cols: Math.max(...rows.map((row) => row.length)),
    upward: true,
    box,
    at: (px, py) => {
      for (let row = 0; row < rows.length; row++)
        for (let col = 0; col < (rows[row]?.length ?? 0); col++) {
          const spot = box({ row, col });
          if (spot && Math.hypot(px - spot.x - 9, py - spot.y - 9) < 12) return { row, col };
        }
      return null;
    },
  };
}

const short = (name: string): string => name.replace(/^a(\d+)\.h(\d+)$/, "$1.$2");
