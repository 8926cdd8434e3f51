"""`plot`: one verb for every noun. A new noun is one drawing function and one row of `NOUNS`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import plotly.graph_objects as go

from llmtrace.circuits import Circuit, CircuitReport, Completeness, EdgeScores, FaithfulnessCurve, Minimality
from llmtrace.errors import InputError, did_you_mean
from llmtrace.influence import (
    Composition,
    FlowGraph,
    GenerationInfluence,
    HeadTable,
    LensScores,
    NeuronReading,
    NeuronStatistics,
    NodeScores,
    SourceScores,
    SpanInfluence,
    StreamScores,
    TokenInfluence,
    TokenLens,
)
from llmtrace.interventions import Effects
from llmtrace.plots.attention import plot_attention
from llmtrace.plots.causal_check import plot_causal_check
from llmtrace.plots.circuit import plot_circuit
from llmtrace.plots.circuit_report import plot_circuit_report
from llmtrace.plots.curves import plot_faithfulness_curve
from llmtrace.plots.edges import plot_edge_scores
from llmtrace.plots.effects import plot_effects
from llmtrace.plots.flow import plot_flow_graph
from llmtrace.plots.heads import plot_composition, plot_heads
from llmtrace.plots.knockouts import plot_completeness, plot_minimality
from llmtrace.plots.lens import plot_lens
from llmtrace.plots.neurons import plot_neuron_reading, plot_neuron_statistics
from llmtrace.plots.node_scores import plot_node_scores
from llmtrace.plots.prompt_table import plot_prompts
from llmtrace.plots.spans import plot_generation, plot_span_influence
from llmtrace.plots.stream import plot_stream, plot_token_lens
from llmtrace.plots.tokens import plot_source_scores, plot_token_influence
from llmtrace.plots.validation import plot_validation
from llmtrace.prompts import PromptSet
from llmtrace.signals import Trace
from llmtrace.validation import CausalCheck, Validation

NOUNS: dict[type, Callable[..., go.Figure]] = {
    PromptSet: plot_prompts,
    Trace: plot_attention,
    NodeScores: plot_node_scores,
    SourceScores: plot_source_scores,
    TokenInfluence: plot_token_influence,
    SpanInfluence: plot_span_influence,
    GenerationInfluence: plot_generation,
    FlowGraph: plot_flow_graph,
    LensScores: plot_lens,
    TokenLens: plot_token_lens,
    StreamScores: plot_stream,
    HeadTable: plot_heads,
    Composition: plot_composition,
    NeuronStatistics: plot_neuron_statistics,
    NeuronReading: plot_neuron_reading,
    Effects: plot_effects,
    EdgeScores: plot_edge_scores,
    Circuit: plot_circuit,
    CircuitReport: plot_circuit_report,
    FaithfulnessCurve: plot_faithfulness_curve,
    Completeness: plot_completeness,
    Minimality: plot_minimality,
    Validation: plot_validation,
    CausalCheck: plot_causal_check,
}


def plot(noun: Any, **options: Any) -> go.Figure:
    """The figure of a noun, returned and never shown. `options` are those of its drawing function in `NOUNS`.

    Raises InputError for a type that has no figure and for an option that its figure does not have.
    """
    draw = next((NOUNS[kind] for kind in type(noun).__mro__ if kind in NOUNS), None)
    if draw is None:
        raise InputError(
            f"Expected one of {', '.join(kind.__name__ for kind in NOUNS)}, got {type(noun).__name__}; "
            "plot what a method returned."
        )
    known = [p.name for p in inspect.signature(draw).parameters.values() if p.kind is p.KEYWORD_ONLY]
    for name in options:
        if name not in known:
            raise InputError(
                f"Expected options of a {type(noun).__name__} figure ({', '.join(known) or 'it has none'}), "
                f"got {name!r}.{did_you_mean(name, known)}"
            )
    return draw(noun, **options)
