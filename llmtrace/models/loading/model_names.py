"""Model names: what is embedded, what TransformerLens knows, and the official name behind an alias.

Embedded names cost nothing to list. The others are TransformerLens' own list, the same in 3.9 and 4.x.
"""

from __future__ import annotations

from pathlib import Path

from llmtrace.errors import NotFoundError, did_you_mean
from llmtrace.models.rows import EMBEDDED

FOLDER = Path(__file__).parent.parent / "embedded"
TRAINED = tuple(row.name for row in EMBEDDED.giving("trained"))
HAND_BUILT = tuple(row.name for row in EMBEDDED.giving("hand-built"))


def embedded_names() -> list[str]:
    """Models that come with the package and need no network."""
    return list(EMBEDDED)


def hub_names() -> dict[str, str]:
    """Every name and alias TransformerLens knows, to the official name on the hub."""
    from transformer_lens.supported_models import MODEL_ALIASES, OFFICIAL_MODEL_NAMES

    named = {alias: official for official, aliases in MODEL_ALIASES.items() for alias in aliases}
    return named | {official: official for official in OFFICIAL_MODEL_NAMES}


def known_names() -> list[str]:
    """Embedded names first, then official names and aliases in alphabetical order."""
    return [*embedded_names(), *sorted(hub_names(), key=str.lower)]


def resolve(name: str) -> str:
    """The embedded name or the official hub name behind `name`, whatever its case.

    `organisation/model` is taken as it stands when TransformerLens does not list it: the hub decides.

    Raises:
        NotFoundError: nobody knows this name; with the closest ones.
    """
    if name.lower() in embedded_names():
        return name.lower()
    known = {alias.lower(): official for alias, official in hub_names().items()}
    if name.lower() in known:
        return known[name.lower()]
    if name.count("/") == 1 and all(name.split("/")):
        return name
    raise NotFoundError(
        f"Expected a model name that TransformerLens knows, an embedded model ({', '.join(embedded_names())}), a "
        f"Hugging Face folder or a .gguf file, got {name!r}.{did_you_mean(name, known_names())} "
        "`llmtrace models` lists every name."
    )
