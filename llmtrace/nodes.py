"""Places in a model and their names: one parser, one printer, typed classes.

    writer (Node)   adds to the residual stream     input   a9.h6   m3   m3.n12
    reader (Port)   takes from it                   a9.h6<q>   a0.kv1<k>   m3   m3.n12   logits
    Edge            what a reader takes of a writer  a5.h5->a8.h6<v>
    Path            edges end to end                 a5.h5 -> a8.h6<v> -> a9.h9<q> -> logits
    Site            an activation, perhaps at chosen positions   a9.h6<q>@END   resid_pre.5@S2   a9.h6@S1+END

Files carry these names (they are the ones circuit files of the field use); tables carry labels (`9.6`).
With grouped-query attention keys and values belong to the key-value head: their ports are `a0.kv1<k>`, `a0.kv1<v>`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from llmtrace.errors import InputError, NotFoundError, did_you_mean

SLOTS = ("q", "k", "v")


@dataclass(frozen=True, order=True)
class Embed:
    """What enters the first block: `input` (embedding + position), or one of the two when they are kept apart."""

    part: str = "input"

    def __str__(self) -> str:
        return self.part

    @property
    def label(self) -> str:
        return self.part


@dataclass(frozen=True, order=True)
class Head:
    """A query head: its output through W_O, without the layer's output bias."""

    layer: int
    head: int

    def __str__(self) -> str:
        return f"a{self.layer}.h{self.head}"

    @property
    def label(self) -> str:
        return f"{self.layer}.{self.head}"


@dataclass(frozen=True, order=True)
class KvHead:
    """A key-value head: it reads (ports k and v) but writes only through the query heads of its group."""

    layer: int
    head: int

    def __str__(self) -> str:
        return f"a{self.layer}.kv{self.head}"

    @property
    def label(self) -> str:
        return f"{self.layer}.kv{self.head}"


@dataclass(frozen=True, order=True)
class Mlp:
    layer: int

    def __str__(self) -> str:
        return f"m{self.layer}"

    @property
    def label(self) -> str:
        return f"MLP {self.layer}"


@dataclass(frozen=True, order=True)
class Neuron:
    """One hidden unit of an MLP: its post-activation times its row of W_out."""

    layer: int
    index: int

    def __str__(self) -> str:
        return f"m{self.layer}.n{self.index}"

    @property
    def label(self) -> str:
        return str(self)


@dataclass(frozen=True, order=True)
class Bias:
    """A constant write: `b_O` or `b_out` of a layer. It belongs to sums, never to a graph."""

    name: str
    layer: int

    def __str__(self) -> str:
        return f"{self.name}.{self.layer}"

    @property
    def label(self) -> str:
        return f"{self.name} {self.layer}"


@dataclass(frozen=True, order=True)
class Logits:
    def __str__(self) -> str:
        return "logits"

    @property
    def label(self) -> str:
        return "logits"


Node = Embed | Head | KvHead | Mlp | Neuron | Bias | Logits


@dataclass(frozen=True)
class Port:
    """A reader: `slot` is q, k or v for heads and None for an MLP, a neuron or the logits; `span` are the positions at
    which it reads, by name, where a graph tells them apart."""

    node: Head | KvHead | Mlp | Neuron | Logits
    slot: str | None = None
    span: str | None = None

    def __str__(self) -> str:
        return f"{self.node}{self._place}"

    @property
    def label(self) -> str:
        return f"{self.node.label}{self._place}"

    @property
    def _place(self) -> str:
        return (f"<{self.slot}>" if self.slot else "") + (f"@{self.span}" if self.span else "")


@dataclass(frozen=True)
class Edge:
    writer: Node
    port: Port

    def __str__(self) -> str:
        return f"{self.writer}->{self.port}"

    @property
    def label(self) -> str:
        return f"{self.writer.label}->{self.port.label}"


@dataclass(frozen=True)
class Path:
    """Edges end to end. Each step is a set: senders, then ports that read them, then the heads of those ports as
    senders, and so on; the last ports may be the logits."""

    senders: tuple[Node, ...]
    steps: tuple[tuple[Port, ...], ...]

    def __str__(self) -> str:
        return " -> ".join(" + ".join(map(str, step)) for step in (self.senders, *self.steps))

    @property
    def label(self) -> str:
        return " -> ".join(" + ".join(place.label for place in step) for step in (self.senders, *self.steps))


Position = int | str  # a token position counted from BOS (negative: from the end), or a name of the prompts ("S2")


@dataclass(frozen=True)
class Site:
    """An activation by kind: `resid_pre` of layer 5, `q` of head 9.6, `k` of key-value head 0.kv1, one neuron.

    place   a layer (the whole activation) or the head, key-value head or neuron it is a part of
    at      at these positions (none: everywhere); of attention, the queries
    keys    of attention, at these keys only (none: all of them)
    """

    kind: str
    place: int | Head | KvHead | Neuron
    at: tuple[Position, ...] = ()
    keys: tuple[Position, ...] = ()

    @property
    def layer(self) -> int:
        return self.place if isinstance(self.place, int) else self.place.layer

    @property
    def index(self) -> int | None:
        """Which head or neuron, None for the whole layer."""
        match self.place:
            case int():
                return None
            case Neuron(_, index):
                return index
            case _:
                return self.place.head

    def __str__(self) -> str:
        place, output = self.place, OUTPUT_KIND.get(type(self.place))
        name = f"{self.kind}.{place}" if isinstance(place, int) else str(place)
        return (name if output in (None, self.kind) else f"{name}<{self.kind}>") + self._where

    @property
    def label(self) -> str:
        place, output = self.place, OUTPUT_KIND.get(type(self.place))
        name = f"{self.kind} {place}" if isinstance(place, int) else place.label
        return (name if output in (None, self.kind) else f"{name}<{self.kind}>") + self._where

    @property
    def _where(self) -> str:
        at = f"@{'+'.join(map(str, self.at))}" if self.at else ""
        return at + (f"<-{'+'.join(map(str, self.keys))}" if self.keys else "")


# What a node writes, as an activation: the kind that needs no saying.
OUTPUT_KIND: dict[type, str] = {Head: "z", KvHead: "", Neuron: "mlp_post"}

_NODE_FORMS: tuple[tuple[str, type], ...] = (
    (r"a?(\d+)\.h?(\d+)", Head),
    (r"a?(\d+)\.kv(\d+)", KvHead),
    (r"(?:m|MLP )(\d+)", Mlp),
    (r"m(\d+)\.n(\d+)", Neuron),
    (r"(input|embed|pos)", Embed),
    (r"logits", Logits),
)


def parse_node(text: str) -> Node:
    """`a9.h6` or `9.6`, `a0.kv1`, `m3`, `m3.n12`, `input`, `logits`.

    Raises InputError for anything else. Whether the model has that layer is for the caller that knows the model.
    """
    for form, kind in _NODE_FORMS if isinstance(text, str) else ():
        if match := re.fullmatch(form, text.strip()):
            if kind is Embed:
                return Embed(match[1])
            return kind(*map(int, match.groups()))
    raise InputError(f"Expected a node such as 'a9.h6' (or '9.6'), 'm3', 'm3.n12', 'input' or 'logits', got {text!r}.")


Place = Node | Site | Edge | Path  # all that an intervention can be at


def place_of(wanted: tuple[Place, ...], among: Sequence[tuple[Place, ...]], method: str) -> int:
    """Where `wanted` stands among the results of `method`; one that is not there is a sentence, not a `ValueError`."""
    if wanted in among:
        return among.index(wanted)
    name, known = " + ".join(map(str, wanted)), [" + ".join(map(str, nodes)) for nodes in among]
    raise NotFoundError(
        f"Expected one of the {len(known)} nodes of {method} ({known[0]} to {known[-1]}), got {name!r}."
        + did_you_mean(name, known)
    )


def parse_port(text: str) -> Port:
    """`a9.h6<q>`, `a0.kv1<k>`, `m3`, `logits`; in graphs with spans `a9.h6<q>@END`."""
    match = re.fullmatch(r"([^<@]+?)(?:<([qkv])>)?(?:@(.+))?", text.strip())
    if match is None:
        raise InputError(f"Expected a port such as 'a9.h6<q>', 'm3' or 'logits', got {text!r}.")
    node, slot = parse_node(match[1]), match[2]
    reads_by_slot = isinstance(node, Head | KvHead)
    if not isinstance(node, Head | KvHead | Mlp | Neuron | Logits) or reads_by_slot != (slot is not None):
        raise InputError(
            f"A head reads through <q>, <k> or <v>, an MLP and the logits through one input; got {text!r}."
        )
    return Port(node, slot, match[3])


def parse_edge(text: str) -> Edge:
    """`a5.h5->a8.h6<v>`."""
    writer, arrow, port = text.partition("->")
    if not arrow:
        raise InputError(f"Expected an edge such as 'a5.h5->a8.h6<v>', got {text!r}.")
    return Edge(parse_node(writer), parse_port(port))


def parse_path(text: str) -> Path:
    """`a5.h5 -> a8.h6<v> -> a9.h9<q> -> logits`; a step may be a set: `a7.h3 + a7.h9 -> logits`."""
    first, *steps = text.split("->")
    if not steps:
        raise InputError(f"Expected a path such as 'a5.h5 -> a8.h6<v> -> logits', got {text!r}; write its receivers.")
    return Path(
        tuple(parse_node(part) for part in first.split("+")),
        tuple(tuple(parse_port(part) for part in step.split("+")) for step in steps),
    )


def parse_place(text: str) -> Node | Site:
    """A node, `9.6` or `m3`, or a site: `a9.h6<q>`, `resid_pre.5`, each perhaps `@END`, `@S1+S2` or `@4`.

    Raises InputError for anything else; whether the model or the prompts have it is for those that know them.
    """
    name, _, where = text.strip().partition("@")
    at = tuple(int(part) if re.fullmatch(r"-?\d+", part) else part for part in where.split("+")) if where else ()
    if match := re.fullmatch(r"([a-z_]+)\.(\d+)", name):
        return Site(match[1], int(match[2]), at)
    if match := re.fullmatch(r"([^<]+)<([a-z_]+)>", name):
        node = parse_node(match[1])
        if not isinstance(node, Head | KvHead):
            raise InputError(f"Expected a head before <{match[2]}>, such as 'a9.h6<{match[2]}>', got {text!r}.")
        return Site(match[2], node, at)
    node = parse_node(name)
    if not at:
        return node
    match node:
        case Head():
            return Site("z", node, at)
        case Mlp(layer):
            return Site("mlp_out", layer, at)
        case Neuron():
            return Site("mlp_post", node, at)
        case Embed("input"):
            return Site("resid_pre", 0, at)
    raise InputError(f"Expected a head, an MLP, a neuron or 'input' before the position, got {text!r}.")
