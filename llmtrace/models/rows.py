"""The table of models that come with the package and need no network: `EMBEDDED["induction"]()` loads one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from llmtrace.methods import Method, Table, found_at


@dataclass(frozen=True)
class Embedded(Method):
    """A model that comes with the package: `where` is the name that `load` knows it by; `gives`, how it was made."""

    @property
    def function(self) -> Callable[..., Any]:
        return partial(found_at("llmtrace.models.loading.load:load"), self.where)


EMBEDDED = Table(
    "embedded model",
    Embedded("tiny-english", "tiny-english",
             "4 layers x 8 heads: indirect objects, induction, greater-than, colours, facts", gives="trained"),
    Embedded("induction", "induction", "2 attention layers: a previous-token head and an induction head",
             gives="hand-built"),
    Embedded("or-gate", "or-gate", "one ReLU: where first-order methods (EAP) see nothing", gives="hand-built"),
    Embedded("and-gate", "and-gate", "one ReLU: where first-order methods count twice", gives="hand-built"),
    of=Embedded,
)  # fmt: skip
