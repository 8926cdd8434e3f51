"""What kinds of nodes say of themselves: every kind by one table, and one that the package does not have."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

import llmtrace as lt
from llmtrace.models import describe
from llmtrace.nodes import Bias, Edge, Embed, Head, Kind, KvHead, Logits, Mlp, Neuron, Node, Port, parse_node

# node, what it writes, the stream that it reads in a model of 4 layers, what its ports feed with groups of 2, depth
KINDS: dict[str, tuple[Node, str | None, str | None, tuple[str, ...], int | None]] = {
    "input": (Embed(), "resid_pre 0", None, (), -1),
    "head": (Head(1, 3), "1.3", "resid_pre 1", ("a1.h3",), 1),
    "key-value head": (KvHead(1, 1), None, "resid_pre 1", ("a1.h2", "a1.h3"), 1),
    "mlp": (Mlp(2), "mlp_out 2", "resid_mid 2", ("m2",), 2),
    "neuron": (Neuron(2, 5), "m2.n5", "resid_mid 2", ("m2.n5",), 2),
    "logits": (Logits(), None, "resid_pre 4", (), None),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_says_where_it_stands(kind: str) -> None:
    node, writes, stream, feeds, depth = KINDS[kind]
    assert parse_node(str(node)) == node and node.depth == depth
    assert (node.site.label if node.site else None) == writes
    if isinstance(node, Embed):
        assert not node.reads
        return
    port = Port(node, node.slots[-1] if node.slots else None)  # type: ignore[arg-type]
    assert port.stream(4, parallel=False).label == stream
    assert tuple(map(str, node.feeds(2))) == feeds
    assert "resid_mid" not in port.stream(4, parallel=True).label


def test_a_slot_belongs_to_the_head_that_has_it() -> None:
    assert Head(1, 3).reader("k", 2) == KvHead(1, 1) and Head(1, 3).reader("q", 2) == Head(1, 3)
    assert KvHead(1, 1).reader("v", 2) == KvHead(1, 1) and KvHead(1, 1).reader("v", 1) == Head(1, 1)


def test_nodes_are_in_the_order_of_the_model() -> None:
    nodes = [Embed(), KvHead(0, 0), Head(0, 0), Mlp(0), KvHead(1, 0), Neuron(1, 2), Bias("unembedding", 2), Logits()]
    assert sorted(reversed(nodes), key=lambda node: node.stage)[:5] == nodes[:5]
    assert [node.stage for node in nodes] == sorted(node.stage for node in nodes)


@dataclass(frozen=True, order=True)
class Feature(Kind):
    """A kind that the package does not have: reads what its MLP reads, and writes a row of a decoder."""

    kind, writes, in_mlp = "feature", "mlp_out", True

    layer: int
    index: int

    def __str__(self) -> str:
        return f"m{self.layer}.f{self.index}"

    @property
    def whole(self) -> Node:
        return Mlp(self.layer)


def test_what_a_new_kind_does_not_say_is_that_of_a_part_of_a_layer() -> None:
    feature = Feature(2, 7)
    assert feature.label == "m2.f7" and feature.acts and feature.depth == 2 and feature.whole == Mlp(2)
    assert feature.stage == Mlp(2).stage and feature.feeds(2) == (feature,)


def test_the_logits_write_nothing_that_is_read() -> None:
    arch = describe(lt.load("tiny-english"))
    assert not arch.reads(Port(Mlp(1)), Logits())
    assert arch.reads(Port(Neuron(1, 0)), Head(1, 0)) is not arch.parallel
    assert str(Edge(Logits(), Port(Mlp(1)))) == "logits->m1"
