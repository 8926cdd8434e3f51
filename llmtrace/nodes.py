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
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, cast, get_args

from llmtrace.arguments import check_making
from llmtrace.errors import InputError, NotFoundError, did_you_mean

SLOTS = ("q", "k", "v")


class Kind:
    """What every kind of node says of itself, so that nobody needs to test its type. The defaults are those of a part
    of a layer that reads the residual stream and writes to it; a new kind is a class here and a place in `Node`.

    form      how it is written, for `parse_node`; its groups are what the class is made from (none: it is not written)
    kind      what drawn graphs call it
    slots     the inputs that it has apart; none: it has one, or reads nothing
    reads     whether it reads anything
    writes    the kind of activation that it writes; None: it writes nothing by itself
    in_mlp    whether it is (a part of) an MLP: it reads after its layer's attention, unless the block is parallel
    rank      its place within a layer, in drawn graphs
    constant  whether it is a term of sums only, never of a graph
    counted   which size of a model says how many there are in a layer (none: one)
    """

    form: ClassVar[str | None] = None
    kind: ClassVar[str]
    slots: ClassVar[tuple[str, ...]] = ()
    reads: ClassVar[bool] = True
    writes: ClassVar[str | None] = None
    in_mlp: ClassVar[bool] = False
    constant: ClassVar[bool] = False
    rank: ClassVar[int] = 2
    counted: ClassVar[str | None] = None

    @property
    def label(self) -> str:
        return str(self)

    @property
    def depth(self) -> int | None:
        """Its layer; -1 before the first, None after the last."""
        found: int | None = getattr(self, "layer", None)
        return found

    @property
    def stage(self) -> tuple[bool, int, int]:
        """Grows from the input to the logits; within a layer key-value heads, heads, then what else there is."""
        return self.depth is None, self.depth or 0, self.rank

    @property
    def site(self) -> Site | None:
        """The activation that it writes; None where that is none of its own."""
        return None

    @property
    def acts(self) -> bool:
        """Whether it writes from within a layer: what can be taken out of a run."""
        return self.writes is not None and self.depth not in (-1, None)

    @property
    def whole(self) -> Node:
        """What it is a part of, where it is a node of its own by choice; else itself."""
        return self  # type: ignore[return-value]

    @property
    def column(self) -> int | str | None:
        """Where it stands in a map of layers: under a head's number or a name; None where a map has no place for it."""
        return None

    def feeds(self, group: int) -> tuple[Node, ...]:
        """The nodes that write what its ports read; `group` query heads share a key-value head."""
        return (self,)  # type: ignore[return-value]

    def reader(self, slot: str | None, group: int) -> Node:
        """Whose port a slot is where `group` query heads share keys and values."""
        return self  # type: ignore[return-value]


@dataclass(frozen=True, order=True)
class Embed(Kind):
    """What enters the first block: `input` (embedding + position), or one of the two when they are kept apart."""

    form, kind, reads, writes = r"(input|embed|pos)", "embedding", False, "resid_pre"
    depth = -1

    part: str = "input"

    def __str__(self) -> str:
        return self.part

    @property
    def site(self) -> Site | None:
        return Site("resid_pre", 0) if self.part == "input" else None

    @property
    def column(self) -> str:
        return "MLP"


@dataclass(frozen=True, order=True)
class Head(Kind):
    """A query head: its output through W_O, without the layer's output bias."""

    form, kind, slots, writes = r"a?(\d+)\.h?(\d+)|L(\d+)H(\d+)", "attention head", SLOTS, "z"
    rank, counted = 1, "n_heads"

    layer: int
    head: int

    def __str__(self) -> str:
        return f"a{self.layer}.h{self.head}"

    @property
    def label(self) -> str:
        return f"{self.layer}.{self.head}"

    @property
    def index(self) -> int:
        return self.head

    @property
    def site(self) -> Site:
        return Site("z", self)

    @property
    def column(self) -> int:
        return self.head

    def reader(self, slot: str | None, group: int) -> Node:
        return KvHead(self.layer, self.head // group) if group > 1 and slot in ("k", "v") else self


@dataclass(frozen=True, order=True)
class KvHead(Kind):
    """A key-value head: it reads (ports k and v) but writes only through the query heads of its group."""

    form, kind, slots = r"a?(\d+)\.kv(\d+)", "key-value head", ("k", "v")
    rank, counted = 0, "n_kv_heads"

    layer: int
    head: int

    def __str__(self) -> str:
        return f"a{self.layer}.kv{self.head}"

    @property
    def label(self) -> str:
        return f"{self.layer}.kv{self.head}"

    @property
    def index(self) -> int:
        return self.head

    def feeds(self, group: int) -> tuple[Node, ...]:
        return tuple(Head(self.layer, head) for head in range(self.head * group, (self.head + 1) * group))

    def reader(self, slot: str | None, group: int) -> Node:
        return self if group > 1 and slot in self.slots else Head(self.layer, self.head)


@dataclass(frozen=True, order=True)
class Mlp(Kind):
    form, kind, writes, in_mlp = r"(?:m|mlp\.?|MLP )(\d+)", "mlp", "mlp_out", True

    layer: int

    def __str__(self) -> str:
        return f"m{self.layer}"

    @property
    def label(self) -> str:
        return f"MLP {self.layer}"

    @property
    def site(self) -> Site:
        return Site("mlp_out", self.layer)

    @property
    def column(self) -> str:
        return "MLP"


@dataclass(frozen=True, order=True)
class Neuron(Kind):
    """One hidden unit of an MLP: its post-activation times its row of W_out."""

    form, kind, writes, in_mlp = r"m(\d+)\.n(\d+)", "neuron", "mlp_post", True
    counted = "d_mlp"

    layer: int
    index: int

    def __str__(self) -> str:
        return f"m{self.layer}.n{self.index}"

    @property
    def site(self) -> Site:
        return Site("mlp_post", self)

    @property
    def whole(self) -> Node:
        return Mlp(self.layer)


@dataclass(frozen=True, order=True)
class Bias(Kind):
    """A constant write: `b_O` or `b_out` of a layer. It belongs to sums, never to a graph."""

    kind, reads, constant = "bias", False, True

    name: str
    layer: int

    def __str__(self) -> str:
        return f"{self.name}.{self.layer}"

    @property
    def label(self) -> str:
        return f"{self.name} {self.layer}"

    @property
    def depth(self) -> int | None:
        return None if self.name == "unembedding" else self.layer

    @property
    def column(self) -> str:
        return "MLP" if self.name == "unembedding" else self.name


@dataclass(frozen=True, order=True)
class Logits(Kind):
    form, kind = r"logits", "logits"

    def __str__(self) -> str:
        return "logits"

    def feeds(self, group: int) -> tuple[Node, ...]:
        return ()


Node = Embed | Head | KvHead | Mlp | Neuron | Bias | Logits
Reader = Head | KvHead | Mlp | Neuron | Logits  # what has ports
Part = Head | KvHead | Neuron  # what is one of many in an activation


@dataclass(frozen=True)
class Port:
    """A reader: `slot` is q, k or v for heads and None for an MLP, a neuron or the logits; `span` are the positions at
    which it reads, by name, where a graph tells them apart."""

    node: Reader
    slot: str | None = None
    span: str | None = None

    def __str__(self) -> str:
        return f"{self.node}{self._place}"

    @property
    def label(self) -> str:
        return f"{self.node.label}{self._place}"

    def of(self, node: Node) -> Port:
        """The same input of another node."""
        return replace(self, node=cast(Reader, node))

    def site(self, n_layers: int) -> Site | None:
        """The activation that it makes: q, k, v of a head, an MLP's output, the final residual stream."""
        if self.node.depth is None:
            return Site("resid_pre", n_layers)
        return Site(self.slot or "", cast(Part, self.node)) if self.node.slots else self.node.site

    def stream(self, n_layers: int, *, parallel: bool) -> Site:
        """The residual stream that it reads."""
        layer = n_layers if self.node.depth is None else self.node.depth
        return Site("resid_mid" if self.node.in_mlp and not parallel else "resid_pre", layer)

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
    place: int | Part
    at: tuple[Position, ...] = ()
    keys: tuple[Position, ...] = ()

    @property
    def layer(self) -> int:
        return self.place if isinstance(self.place, int) else self.place.layer

    @property
    def index(self) -> int | None:
        """Which head or neuron, None for the whole layer."""
        return None if isinstance(self.place, int) else self.place.index

    def __str__(self) -> str:
        return self._told(f"{self.kind}.{self.place}" if isinstance(self.place, int) else str(self.place))

    @property
    def label(self) -> str:
        return self._told(f"{self.kind} {self.place}" if isinstance(self.place, int) else self.place.label)

    def _told(self, name: str) -> str:
        """What a node writes needs no saying."""
        bare = isinstance(self.place, int) or self.place.writes == self.kind
        return (name if bare else f"{name}<{self.kind}>") + self._where

    @property
    def _where(self) -> str:
        at = f"@{'+'.join(map(str, self.at))}" if self.at else ""
        return at + (f"<-{'+'.join(map(str, self.keys))}" if self.keys else "")


def parse_node(text: str) -> Node:
    """`a9.h6`, `9.6` or `L9H6`, `a0.kv1`, `m3`, `m3.n12`, `input`, `logits`.

    Raises InputError for anything else. Whether the model has that layer is for the caller that knows the model.
    """
    for kind in get_args(Node) if isinstance(text, str) else ():
        if kind.form is not None and (match := re.fullmatch(kind.form, text.strip())):
            parts = [part for part in match.groups() if part is not None]
            found: Node = kind(*(int(part) if part.isdigit() else part for part in parts))
            return found
    raise InputError(f"Expected a node such as 'a9.h6' (or '9.6'), 'm3', 'm3.n12', 'input' or 'logits', got {text!r}.")


# What people write for a node: a node, its name, or (layer, head).
NodeLike = Annotated[Node | str | tuple[int, int], "a node such as Head(9, 6), 'a9.h6', (9, 6) or 'm3'"]


def read_node(written: Any) -> Any:
    """The node that is meant by its name or by (layer, head); anything else as it is."""
    if isinstance(written, tuple) and len(written) == 2 and all(type(part) is int for part in written):
        return Head(*written)
    return parse_node(written) if isinstance(written, str) else written


Place = Node | Site | Edge | Path  # all that an intervention can be at

for _kind in (*get_args(Node), Port, Site, Edge, Path):
    check_making(_kind)


def place_of(wanted: tuple[Place, ...], among: Sequence[tuple[Place, ...]], method: str) -> int:
    """Where `wanted` stands among the results of `method`; one that is not there is a sentence, not a `ValueError`."""
    if wanted in among:
        return among.index(wanted)
    name, known = " + ".join(map(str, wanted)), [" + ".join(map(str, nodes)) for nodes in among]
    raise NotFoundError(
        f"Expected one of the {len(known)} nodes of {method} ({known[0]} to {known[-1]}), got {name!r}."
        + did_you_mean(name, known)
    )


def _text(text: str, what: str) -> str:
    if not isinstance(text, str):
        raise InputError(f"Expected {what} as text, got {type(text).__name__}; write it in quotes.")
    return text.strip()


def parse_port(text: str) -> Port:
    """`a9.h6<q>`, `a0.kv1<k>`, `m3`, `logits`; in graphs with spans `a9.h6<q>@END`."""
    match = re.fullmatch(r"([^<@]+?)(?:<([qkv])>)?(?:@(.+))?", _text(text, "a port such as 'a9.h6<q>'"))
    if match is None:
        raise InputError(f"Expected a port such as 'a9.h6<q>', 'm3' or 'logits', got {text!r}.")
    node, slot = parse_node(match[1]), match[2]
    if not node.reads or bool(node.slots) != (slot is not None):
        raise InputError(
            f"A head reads through <q>, <k> or <v>, an MLP and the logits through one input; got {text!r}."
        )
    return Port(cast(Reader, node), slot, match[3])


def parse_edge(text: str) -> Edge:
    """`a5.h5->a8.h6<v>`."""
    writer, arrow, port = _text(text, "an edge such as 'a5.h5->a8.h6<v>'").partition("->")
    if not arrow:
        raise InputError(f"Expected an edge such as 'a5.h5->a8.h6<v>', got {text!r}.")
    return Edge(parse_node(writer), parse_port(port))


def parse_path(text: str) -> Path:
    """`a5.h5 -> a8.h6<v> -> a9.h9<q> -> logits`; a step may be a set: `a7.h3 + a7.h9 -> logits`."""
    first, *steps = _text(text, "a path such as 'a5.h5 -> a8.h6<v> -> logits'").split("->")
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
    name, _, where = _text(text, "a place such as 'a9.h6<q>@END'").partition("@")
    name = name.strip()
    at = tuple(int(part) if re.fullmatch(r"-?\d+", part) else part for part in where.split("+")) if where else ()
    if (match := re.fullmatch(r"([a-z_]+)\.(\d+)", name)) and match[1] != Mlp.kind:
        return Site(match[1], int(match[2]), at)
    if match := re.fullmatch(r"([^<]+)<([a-z_]+)>", name):
        node = parse_node(match[1])
        if not node.slots:
            raise InputError(f"Expected a head before <{match[2]}>, such as 'a9.h6<{match[2]}>', got {text!r}.")
        return Site(match[2], cast(Part, node), at)
    node = parse_node(name)
    if not at:
        return node
    if node.site is not None:
        return replace(node.site, at=at)
    raise InputError(f"Expected a head, an MLP, a neuron or 'input' before the position, got {text!r}.")
