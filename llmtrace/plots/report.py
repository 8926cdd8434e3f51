"""`report`: sections of text, figures and tables as one HTML file that needs nothing but itself.

plotly.js is inlined once and figures are data. The page's content policy lets only the two scripts of this file run (by
their hash) and lets nothing be fetched, so even text that slipped through the escaping could do nothing.
"""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from llmtrace.errors import InputError
from llmtrace.files import write_text

DRAW = """
for (const data of document.querySelectorAll('script[type="application/json"].figure')) {
  const spec = JSON.parse(data.textContent), box = data.parentElement.querySelector('.plot');
  box.textContent = '';
  Plotly.newPlot(box, spec.data, spec.layout, {responsive: true, displaylogo: false,
    showSendToCloud: false, plotlyServerURL: '',
    modeBarButtonsToRemove: ['sendChartToCloud', 'sendDataToCloud']});
}
"""

STYLE = """
:root { color-scheme: light dark; --ink: #1f2933; --muted: #66727f; --page: #fbfbfc; --card: #ffffff; --rule: #dfe3e8; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e8ec; --muted: #9aa5b1; --page: #14181d; --card: #1c2229; --rule: #323b45; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.6 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1040px; margin: 0 auto; padding: 40px 24px 80px; }
h1 { font-size: 30px; line-height: 1.25; margin: 0 0 28px; letter-spacing: -0.01em; }
h2 { font-size: 20px; margin: 44px 0 8px; }
p { max-width: 72ch; margin: 8px 0 16px; white-space: pre-line; }
/* Figures keep their light ground in a dark page: colour scales are read against white. */
figure { margin: 16px 0; padding: 8px 12px; background: #ffffff; color: #1f2933; border: 1px solid var(--rule);
  border-radius: 10px; overflow: hidden; }
.scroll { overflow-x: auto; margin: 16px 0; border: 1px solid var(--rule); border-radius: 10px;
  background: var(--card); }
table { border-collapse: collapse; width: 100%; font-size: 14px; font-variant-numeric: tabular-nums; }
th, td { padding: 6px 14px; text-align: left; vertical-align: top; border-bottom: 1px solid var(--rule);
  overflow-wrap: break-word; }
.facts td:last-child { overflow-wrap: anywhere; }
th { color: var(--muted); font-weight: 600; }
tr:last-child td { border-bottom: 0; }
@media print { body { background: white; } h2, figure, .scroll { break-inside: avoid; } }
"""


@dataclass(frozen=True, eq=False)
class Section:
    """A part of a report. `text` is plain; an empty line in it parts paragraphs."""

    heading: str
    text: str = ""
    figure: go.Figure | None = None
    table: pd.DataFrame | None = None


def report(title: str, sections: Sequence[Section], *, provenance: Mapping[str, Any]) -> str:
    """One HTML page (about 4.5 MB, of which plotly.js is nearly all). Everything in it is escaped.

    `provenance`: what the numbers rest on (model, weights, flags, dtype, versions, seed), printed as the last table.
    """
    plotly_js = get_plotlyjs()
    body = "\n".join(_section(section) for section in sections)
    scripts = f"<script>{plotly_js}</script>\n<script>{DRAW}</script>"
    policy = (
        f"default-src 'none'; script-src {_hash(plotly_js)} {_hash(DRAW)}; style-src 'unsafe-inline'; "
        "img-src data: blob:; font-src data:; base-uri 'none'; form-action 'none'"
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<main>
<h1>{html.escape(title)}</h1>
{body}
<section><h2>Where these numbers come from</h2>
{_table(("fact", "value"), _facts(provenance), "facts")}</section>
</main>
{scripts if any(section.figure is not None for section in sections) else ""}
</body>
</html>
"""


def save_report(path: str | Path, title: str, sections: Sequence[Section], *, provenance: Mapping[str, Any]) -> Path:
    """Write `report(...)` to one file, atomically. Raises InputError when `path` is a folder."""
    if Path(path).is_dir():
        raise InputError(f"Expected a file name such as 'report.html', got the folder {Path(path).name!r}.")
    write_text(path, report(title, sections, provenance=provenance))
    return Path(path)


def _section(section: Section) -> str:
    parts = [f"<h2>{html.escape(section.heading)}</h2>"]
    parts += [f"<p>{html.escape(part.strip())}</p>" for part in section.text.split("\n\n") if part.strip()]
    if section.figure is not None:
        parts.append(_figure(section.figure))
    if section.table is not None:
        parts.append(_table(list(section.table.columns), section.table.itertuples(index=False, name=None)))
    return f"<section>{''.join(parts)}</section>"


def _figure(figure: go.Figure) -> str:
    """The figure as data beside the box it is drawn into. `<` is escaped: the data cannot end its own element."""
    data = figure.to_json().replace("<", "\\u003c")
    height = figure.layout.height or 450
    return (
        f'<figure><div class="plot" style="min-height:{int(height)}px">This figure needs JavaScript.</div>'
        f'<script type="application/json" class="figure">{data}</script></figure>'
    )


def _table(columns: Sequence[object], rows: Iterable[Sequence[object]], kind: str = "") -> str:
    head = "".join(f"<th>{html.escape(str(name))}</th>" for name in columns)
    body = "\n".join(f"<tr>{''.join(f'<td>{html.escape(_plain(v))}</td>' for v in row)}</tr>" for row in rows)
    return f'<div class="scroll {kind}"><table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>'


def _facts(provenance: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """One row per fact; nested facts (flags, versions) as `flags: fold_ln`."""
    for name, value in provenance.items():
        if isinstance(value, Mapping):
            yield from ((f"{name}: {inner}", what) for inner, what in value.items())
        else:
            yield name, value


def _plain(value: Any) -> str:
    """A value as a reader wants it: four digits, true and false, a dash for what is missing."""
    if value is None or value is pd.NA or value != value:
        return "–"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _hash(script: str) -> str:
    """How a content policy names a script that may run."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
