"""The table of what recurs: every edge that a circuit holds, and no other."""

from __future__ import annotations

from llmtrace import circuits
from llmtrace.circuits import Circuit, Graph

GRAPH = Graph(2, 4, 2, parallel=False, attn_only=False)


def test_the_table_has_every_edge_that_a_circuit_holds() -> None:
    """One that all of them hold, one that only one does; none that nobody has. Each with its own p-value."""
    some = [Circuit.of(GRAPH, ["input->logits", *more]) for more in ((), (), ("a0.h1->m1",))]
    found = circuits.patterns(some)
    table = found.df()
    assert table["edge"].tolist() == ["input->logits", "a0.h1->m1"]
    assert table["frequency"].tolist() == [1, 1 / 3]
    for edge, p in zip(("input->logits", "a0.h1->m1"), table["p_value"], strict=True):
        (named,) = Circuit.of(GRAPH, [edge]).edges
        assert p == found.p_value[GRAPH.index(named)].item()
    assert table["p_value"].is_monotonic_increasing and table["p_value"].nunique() == 2


def test_a_circuit_of_patterns_has_the_edges_that_reach_both_limits() -> None:
    """At the limits themselves they are in; above the frequency or below the p-value they are out."""
    some = [Circuit.of(GRAPH, ["input->logits", *more]) for more in ((), (), (), ("a0.h1->m1",))]
    found = circuits.patterns(some)
    common, rare = (found.p_value[GRAPH.index(edge)].item() for edge in (some[3] - some[0] | some[0]).edges[::-1])
    assert common < rare
    for frequency, level, names in (
        (1.0, common, {"input->logits"}),
        (0.25, rare, {"input->logits", "a0.h1->m1"}),
        (0.26, rare, {"input->logits"}),
        (0.25, common, {"input->logits"}),
        (1.0, common / 2, set()),
    ):
        assert {str(edge) for edge in found.circuit(frequency=frequency, level=level).edges} == names
