import { FONT, type Mark, type Scene } from "./scene";

const safe = (text: string): string =>
  text
    .replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f]/g, "\ufffd")
    .replace(/[&<>"']/g, (letter) => `&#${letter.charCodeAt(0)};`);
const n = (value: number): string => String(Math.round(value * 100) / 100);

const dashed = (dash: number[] | undefined): string => (dash?.length ? ` stroke-dasharray="${dash.join(" ")}"` : "");

function tag(mark: Mark, png: (mark: Extract<Mark, { is: "image" }>) => string): string {
  switch (mark.is) {
    case "image":
      return `<image x="${n(mark.x)}" y="${n(mark.y)}" width="${n(mark.w)}" height="${n(mark.h)}" preserveAspectRatio="none" style="image-rendering:pixelated" href="${png(mark)}"/>`;
    case "rect":
      return `<rect x="${n(mark.x)}" y="${n(mark.y)}" width="${n(mark.w)}" height="${n(mark.h)}" fill="${mark.fill ?? "none"}" stroke="${mark.stroke ?? "none"}" stroke-width="${mark.width ?? 1}"${dashed(mark.dash)}/>`;
    case "line":
      return `<line x1="${n(mark.x1)}" y1="${n(mark.y1)}" x2="${n(mark.x2)}" y2="${n(mark.y2)}" stroke="${mark.stroke}" stroke-width="${n(mark.width ?? 1)}" stroke-opacity="${n(mark.alpha ?? 1)}"${dashed(mark.dash)}/>`;
    case "curve": {
      const [a, b, c, d, e, f, g, h] = mark.points.map(n);
      return `<path d="M${a} ${b}C${c} ${d} ${e} ${f} ${g} ${h}" fill="none" stroke="${mark.stroke}" stroke-width="${n(mark.width)}" stroke-opacity="${n(mark.alpha)}"${dashed(mark.dash)}/>`;
    }
    case "dot":
      return `<circle cx="${n(mark.x)}" cy="${n(mark.y)}" r="${n(mark.r)}" fill="${mark.fill}" stroke="${mark.stroke ?? "none"}" stroke-width="${mark.width ?? 1}"/>`;
    case "text": {
      const turn = mark.turn ? ` transform="rotate(${n(mark.turn)} ${n(mark.x)} ${n(mark.y)})"` : "";
      return `<text x="${n(mark.x)}" y="${n(mark.y)}" font-size="${n(mark.size)}" fill="${mark.fill}" text-anchor="${mark.anchor ?? "start"}" dominant-baseline="central"${mark.bold ? ' font-weight="600"' : ""}${turn}>${safe(mark.text)}</text>`;
    }
  }
}

export function toSvg(scene: Scene, page: string, png: (mark: Extract<Mark, { is: "image" }>) => string): string {
  const [w, h] = [n(scene.width), n(scene.height)];
  return (
    `<svg xmlns="http://www.w3.org/2000/svg" width="${w}" height="${h}" viewBox="0 0 ${w} ${h}" font-family="${safe(FONT)}">` +
    `<rect width="100%" height="100%" fill="${page}"/>${scene.marks.map((mark) => tag(mark, png)).join("")}</svg>`
  );
}
