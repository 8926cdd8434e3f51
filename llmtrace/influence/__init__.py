"""How much does X matter, from one clean pass. Scores are claims; `validate` and `interventions` test them."""

from typing import TYPE_CHECKING, Any

from llmtrace.influence.rows import METHODS as METHODS
from llmtrace.rooms import open_room

if TYPE_CHECKING:
    from llmtrace.influence.direct_logit_attribution import (
        direct_logit_attribution as direct_logit_attribution,
        neuron_attribution as neuron_attribution,
        source_token_attribution as source_token_attribution,
    )
    from llmtrace.influence.generation.attribute_generation import attribute_generation as attribute_generation
    from llmtrace.influence.generation.generation_influence import GenerationInfluence as GenerationInfluence
    from llmtrace.influence.heads.copying import copying_scores as copying_scores
    from llmtrace.influence.heads.detectors import head_behaviour as head_behaviour
    from llmtrace.influence.heads.head_composition import (
        Composition as Composition,
        head_composition as head_composition,
    )
    from llmtrace.influence.heads.head_scores import head_scores as head_scores
    from llmtrace.influence.heads.head_table import HeadTable as HeadTable
    from llmtrace.influence.heads.low_rank import LowRank as LowRank
    from llmtrace.influence.heads.name_movers import name_movers as name_movers
    from llmtrace.influence.heads.ov_qk import ov_circuit as ov_circuit, qk_circuit as qk_circuit
    from llmtrace.influence.logit_lens import LensScores as LensScores, logit_lens as logit_lens
    from llmtrace.influence.neurons.neuron_statistics import (
        NeuronStatistics as NeuronStatistics,
        neuron_statistics as neuron_statistics,
    )
    from llmtrace.influence.neurons.read_neurons import NeuronReading as NeuronReading, read_neurons as read_neurons
    from llmtrace.influence.node_scores import NodeScores as NodeScores, SourceScores as SourceScores
    from llmtrace.influence.residual_stream import StreamScores as StreamScores, residual_stream as residual_stream
    from llmtrace.influence.rows import BASELINES as BASELINES, DETECTORS as DETECTORS
    from llmtrace.influence.token_lens import TokenLens as TokenLens, token_lens as token_lens
    from llmtrace.influence.tokens.alti import alti as alti
    from llmtrace.influence.tokens.alti_logit import alti_logit as alti_logit
    from llmtrace.influence.tokens.attention_flow import attention_flow as attention_flow
    from llmtrace.influence.tokens.decompx import decompx as decompx
    from llmtrace.influence.tokens.flow_routes import flow_graph as flow_graph, flow_routes as flow_routes
    from llmtrace.influence.tokens.input_x_gradient import input_x_gradient as input_x_gradient
    from llmtrace.influence.tokens.integrated_gradients import integrated_gradients as integrated_gradients
    from llmtrace.influence.tokens.occlusion import occlusion as occlusion
    from llmtrace.influence.tokens.raw_attention import raw_attention as raw_attention
    from llmtrace.influence.tokens.results.flow_graph import (
        FlowGraph as FlowGraph,
        flow_graph_json_schema as flow_graph_json_schema,
    )
    from llmtrace.influence.tokens.results.span_influence import SpanInfluence as SpanInfluence
    from llmtrace.influence.tokens.results.token_influence import TokenInfluence as TokenInfluence
    from llmtrace.influence.tokens.rollout import rollout as rollout
    from llmtrace.influence.tokens.token_attribution import token_attribution as token_attribution
    from llmtrace.influence.tokens.value_weighted_norms import (
        token_writes as token_writes,
        value_weighted_norms as value_weighted_norms,
    )

    def __getattr__(name: str) -> Any: ...  # a row that was added later


register = METHODS.register
open_room(__name__, METHODS)
