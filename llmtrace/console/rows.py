"""The table of views: which function gives which answer, from which parameters. Imports no torch.

A view is `function(model, run, **parameters)`; a heavy one takes `emit=` besides, to which it hands each row as it is
made, and is run as a job. The run's edits stand on the model, but for views that put them on where they need them.
`name` is the path behind /api/v1/.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any

from llmtrace.errors import InputError, LimitError
from llmtrace.methods import Method, Option, Table

LIVE = "llmtrace.console.live"
LAYER = Option("layer", "whole", "a layer", least=0)
HEAD = Option("head", "whole", "a head of the layer", least=0)
QUERY = Option("query", "whole", "the token that looks", least=0)
MOST_GENERATED = 64


@dataclass(frozen=True)
class View(Method):
    """answer   the schema, by name; "" where the answer is bytes
    defaults    parameters that may be left out
    heavy       whether a job makes it
    edited      whether the run's edits are put on for it
    """

    _: KW_ONLY
    answer: str = ""
    defaults: tuple[tuple[str, str], ...] = ()
    heavy: bool = False
    edited: bool = True

    def read(self, query: Mapping[str, str]) -> dict[str, Any]:
        """The parameters of a query, as the function takes them. Raises InputError for any other."""
        known = self.option_names()
        if strange := [name for name in query if name not in known]:
            raise InputError(f"Expected parameters of {self.name} ({', '.join(known) or 'none'}), got {strange[0]!r}.")
        said = dict(self.defaults) | dict(query)
        if missing := [name for name in known if name not in said]:
            raise InputError(f"Expected {missing[0]} for {self.name}, got none; add it to the address.")
        return {option.name: _value(option, said[option.name]) for option in self.options}


def _value(option: Option, text: str) -> int | str:
    if option.kind == "word":
        return text
    if not (text.isascii() and text.isdecimal()) or len(text) > 9:
        raise InputError(f"Expected {option.name} as a whole number, got {text[:40]!r}; write 0.")
    if int(text) < (option.least or 0):
        raise InputError(f"Expected {option.name} of at least {option.least}, got {text}.")
    if option.name == "tokens" and int(text) > MOST_GENERATED:
        raise LimitError(f"Expected at most {MOST_GENERATED} generated tokens, got {text}; ask for fewer.")
    return int(text)


VIEWS = Table(
    "view",
    View("overview", f"{LIVE}.overview:overview", "what each head and MLP adds to the answer directly",
         answer="Overview"),
    View("attention", f"{LIVE}.attention:overview", "every head's pattern, pooled", edited=False),
    View("attention/layer", f"{LIVE}.attention:layer", "every pattern of a layer", options=(LAYER,),
         edited=False),
    View("attention/row", f"{LIVE}.attention:row", "where one token looks, exactly", options=(LAYER, HEAD, QUERY),
         answer="Row", edited=False),
    View("head", f"{LIVE}.head_card:head_card", "a head: what it sees and what it writes", options=(LAYER, HEAD),
         answer="HeadCard", edited=False),
    View("lens", f"{LIVE}.lens:lens", "what every stage of every position would say", answer="Lens"),
    View("attribution", f"{LIVE}.attribution:attribution", "which tokens the answer comes from, beside occlusion",
         options=(Option("method", "word", "a token method"),), defaults=(("method", "decompx"),),
         answer="Attribution"),
    View("patch", f"{LIVE}.sweep:sweep", "activations of the other prompt put in one by one",
         options=(Option("site", "word", "what is put in"),), defaults=(("site", "resid_pre"),), answer="Sweep",
         heavy=True),
    View("paths", f"{LIVE}.paths:paths", "what each head and MLP tells the logits, from the other prompt",
         answer="PathMap", heavy=True),
    View("circuit", f"{LIVE}.circuit:circuit", "the edges that carry the answer, and how faithful they are alone",
         options=(Option("method", "word", "a discovery method"), Option("edges", "whole", "kept", least=1)),
         defaults=(("method", "eap_ig"), ("edges", "100")), answer="CircuitView", heavy=True),
    View("generation", f"{LIVE}.generation:generation", "what each generated token takes from the prompt",
         options=(Option("tokens", "whole", "new tokens", least=1), Option("method", "word", "a token method")),
         defaults=(("tokens", "8"), ("method", "decompx")), answer="GenerationView", heavy=True),
    of=View,
)  # fmt: skip


def key_of(view: str, query: Mapping[str, Any]) -> str:
    """The address behind /api/v1/ under which an answer is kept: `overview?run=1f`, parameters sorted."""
    from urllib.parse import urlencode

    said = urlencode(sorted((name, str(value)) for name, value in query.items()))
    return f"{view}?{said}" if said else view
