"""What works on which family of Hugging Face models: `family_table.json`, measured and not remembered.

`tests/families.py` writes it: a tiny random model of each family is loaded and asked for everything, and what it gives
is held against whole hooked passes. A test measures again and fails where the table is not true. Loads no torch.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

TABLE = Path(__file__).with_suffix(".json")
# What a family is asked for, and what stands for it.
USES = {
    "streams": "`lt.capture` of the residual stream",
    "patterns": "`lt.capture` of attention patterns",
    "direct attribution": "`lt.influence.direct_logit_attribution`",
    "decompx": "`lt.influence.decompx`",
    "alti": "`lt.influence.alti`",
    "gradients": "`lt.influence.integrated_gradients`",
    "head ablation": "`lt.ablate` of heads",
    "patching": "`lt.patch_sweep` of attention's output",
    "path patching": "`lt.path_patch` of heads",
    "circuits": "`lt.run_circuit`, `lt.circuits.eap`",
}
ABOUT = """# Families of models

What works on which family, under TransformerLens {releases}. This page is written by `llmtrace models --families
--markdown` from a table that is measured: `tests/families.py` loads a tiny random model of each family, asks it for
everything, and holds what it gives against whole hooked passes through the same model; a test measures again. A family
is the class of the model that Hugging Face has for it; embedded models, GGUF files and what TransformerLens lists by
name come down to one of these.

Loads: as a `HookedTransformer` or a `TransformerBridge`; *unprocessed* where the model does not stand folding its norms
(`lt.load` says so, and the flags travel with every result). A use that is not there is refused in one sentence, the
numbers below the table; nothing is wrong in silence.
"""


def release() -> str:
    """The column of the installed TransformerLens: "3.9"."""
    return ".".join(version("transformer-lens").split(".")[:2])


def families(of: str | None = None) -> dict[str, dict[str, str]]:
    """Family -> how it loads (`loads`, "" where it does not: `refused`), and for each of `USES` "" or the sentence that
    refuses it.

    of   a release of TransformerLens, by default the installed one or, where that was not measured, the last that was
    """
    known: dict[str, dict[str, dict[str, str]]] = json.loads(TABLE.read_text(encoding="utf-8"))
    return known.get(of or release()) or known[max(known, key=_numbers)]


def releases() -> list[str]:
    """Those that were measured, the oldest first."""
    return sorted(json.loads(TABLE.read_text(encoding="utf-8")), key=_numbers)


def markdown() -> str:
    """The table as a page, one section for each release that was measured."""
    sections = (line for of in releases() for line in _section(of))
    return "\n".join([ABOUT.format(releases=" and ".join(releases())), *sections])


def _section(of: str) -> Iterator[str]:
    reasons: dict[str, int] = {}

    def told(sentence: str | None) -> str:
        if sentence is None:
            return "-"
        return "yes" if not sentence else f"[{reasons.setdefault(_general(sentence), len(reasons) + 1)}]"

    yield f"## TransformerLens {of}\n"
    yield f"| family | loads | {' | '.join(USES)} |"
    yield "|---" * (len(USES) + 2) + "|"
    for family, row in families(of).items():
        loads = row["loads"] or told(row["refused"])
        yield f"| {family} | {loads} | {' | '.join(told(row.get(use)) for use in USES)} |"
    yield ""
    for sentence, number in reasons.items():
        yield f"{number}. {sentence}"
    yield ""


def _general(sentence: str) -> str:
    """Without what differs from one model to the next, so that one reason is one footnote."""
    return re.sub(r"(?<![\w.])\d+\.\d+(e-?\d+)?|\d+e-?\d+", "so much", sentence)


def _numbers(release: str) -> tuple[int, ...]:
    return tuple(map(int, release.split(".")))
