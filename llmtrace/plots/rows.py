"""The table of drawings: which function draws which noun. `plot` reads it, and users add nouns of their own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import Any

from llmtrace.errors import InputError
from llmtrace.methods import Method, Table, name_of


@dataclass(frozen=True)
class Drawing(Method):
    """`where(noun, **options)` gives a plotly figure; `noun` is the class that it draws, as "package.module:Name"."""

    _: KW_ONLY
    noun: str = ""

    def draws(self, kind: type) -> bool:
        return self.noun == name_of(kind)


def _row(noun: str, where: str, summary: str) -> Drawing:
    name = noun.partition(":")[2]
    return Drawing(name, f"llmtrace.plots.figures.{where}", summary, noun=f"llmtrace.{noun}", gives="figure")


NOUNS = Table(
    "noun with a figure",
    _row("prompts.prompt_set:PromptSet", "prompt_set:plot_prompts", "the tokens of both sides, named positions marked"),
    _row("signals.trace:Trace", "attention:plot_attention", "an attention pattern"),
    _row("influence.node_scores:NodeScores", "node_scores:plot_node_scores", "a map of heads and MLPs"),
    _row("influence.node_scores:SourceScores", "token_influence:plot_source_scores", "heads by source token"),
    _row("influence.tokens.results.token_influence:TokenInfluence", "token_influence:plot_token_influence",
         "each token in the colour of its score, beside a check where there is one"),
    _row("influence.tokens.results.span_influence:SpanInfluence", "span_influence:plot_span_influence",
         "spans of a prompt by score"),
    _row("influence.generation.generation_influence:GenerationInfluence", "span_influence:plot_generation",
         "every generated token by what it came from"),
    _row("influence.tokens.results.flow_graph:FlowGraph", "flow_graph:plot_flow_graph",
         "the ways of a prediction through the layers"),
    _row("influence.logit_lens:LensScores", "lens_scores:plot_lens", "the metric, stage by stage"),
    _row("influence.token_lens:TokenLens", "stream:plot_token_lens", "what each stage would predict, in words"),
    _row("influence.residual_stream:StreamScores", "stream:plot_stream", "how the residual stream grows and turns"),
    _row("influence.heads.head_table:HeadTable", "head_table:plot_heads", "a score of every head"),
    _row("influence.heads.head_composition:Composition", "head_table:plot_composition", "senders by receivers"),
    _row("influence.neurons.neuron_statistics:NeuronStatistics", "neurons:plot_neuron_statistics",
         "neurons by a statistic"),
    _row("influence.neurons.read_neurons:NeuronReading", "neurons:plot_neuron_reading",
         "the tokens that a neuron reads and writes"),
    _row("interventions.effects:Effects", "effects:plot_effects", "effects by layer and place, with intervals"),
    _row("circuits.edge_scores:EdgeScores", "edge_scores:plot_edge_scores", "the largest edges"),
    _row("circuits.circuit:Circuit", "circuit:plot_circuit", "nodes and edges, from the input up"),
    _row("circuits.evaluation.evaluate:CircuitReport", "circuit_report:plot_circuit_report",
         "faithfulness beside random circuits"),
    _row("circuits.evaluation.faithfulness_curve:FaithfulnessCurve", "faithfulness_curve:plot_faithfulness_curve",
         "faithfulness over the size of the circuit"),
    _row("circuits.evaluation.completeness:Completeness", "completeness:plot_completeness",
         "what knocking out subsets does to circuit and model"),
    _row("circuits.evaluation.completeness:Minimality", "completeness:plot_minimality", "what each part is missed by"),
    _row("validation.correlate:Validation", "validation:plot_validation", "score against effect, node by node"),
    _row("validation.causal_check:CausalCheck", "causal_check:plot_causal_check",
         "curves and correlations of a score, its baselines and the intervention"),
    of=Drawing,
)  # fmt: skip


def register(noun: type, draw: Callable[..., Any], *, summary: str = "", replace: bool = False) -> Drawing:
    """`plot` of a noun of yours: `draw(noun, **options)` gives its figure. The row is returned."""
    if not isinstance(noun, type) or not callable(draw):
        raise InputError(f"Expected a class and the function that draws it, got {noun!r} and {draw!r}; swap them?")
    return NOUNS.register(draw, name=noun.__qualname__, noun=name_of(noun), summary=summary, replace=replace)
