"""Text on figures: tokens made visible, and everything made inert.

plotly reads a small HTML (`<b>`, `<br>`, `<a>`) in every label, hover text and title, and TeX between dollar signs
where a page has MathJax. Text that came from a tokenizer, a file or a user goes through `escaped` or `token_text` once.
"""

from __future__ import annotations

import html

_VISIBLE = {" ": "·", "\n": "↵", "\t": "⇥", "\r": "␍"}


def escaped(text: object) -> str:
    """`text` as plotly and HTML show it literally. Quotes stay: plotly would print their entities."""
    return html.escape(str(text), quote=False).replace("$", "&#36;")


def token_text(token: str, *, limit: int = 24) -> str:
    """A token as a label: `·` for a space, `↵` for a newline, escapes for what cannot be printed; then escaped."""
    visible = "".join(_VISIBLE.get(c) or (c if c.isprintable() else f"\\u{ord(c):04x}") for c in token) or "∅"
    return escaped(visible if len(visible) <= limit else visible[: limit - 1] + "…")


def number(value: float, *, digits: int = 3) -> str:
    """Signed, short, with a true minus sign."""
    return f"{value:+#.{digits}g}".rstrip(".").replace("-", "−")
