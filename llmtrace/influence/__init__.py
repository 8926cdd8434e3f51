"""How much does X matter, from one clean pass. Scores are claims; `validate` and `interventions` test them."""

from llmtrace.influence.alti import alti
from llmtrace.influence.alti_logit import alti_logit
from llmtrace.influence.attention_flow import attention_flow
from llmtrace.influence.composition import Composition, composition
from llmtrace.influence.copying import copying_scores
from llmtrace.influence.dla import direct_logit_attribution, neuron_attribution, source_token_attribution
from llmtrace.influence.flow_graph import FlowGraph, flow_graph_json_schema
from llmtrace.influence.flow_routes import flow_graph, flow_routes
from llmtrace.influence.generation import GenerationInfluence, generation
from llmtrace.influence.head_circuits import ov_circuit, qk_circuit
from llmtrace.influence.head_detectors import DETECTORS, head_behaviour
from llmtrace.influence.head_scores import head_scores
from llmtrace.influence.head_table import HeadTable
from llmtrace.influence.input_x_gradient import input_x_gradient
from llmtrace.influence.integrated_gradients import integrated_gradients
from llmtrace.influence.logit_lens import logit_lens
from llmtrace.influence.low_rank import LowRank
from llmtrace.influence.name_movers import name_movers
from llmtrace.influence.neuron_reading import NeuronReading, read_neurons
from llmtrace.influence.neuron_statistics import NeuronStatistics, neuron_statistics
from llmtrace.influence.occlusion import occlusion
from llmtrace.influence.raw_attention import raw_attention
from llmtrace.influence.residual_stream import StreamScores, residual_stream
from llmtrace.influence.rollout import rollout
from llmtrace.influence.scores import LensScores, NodeScores, SourceScores, TokenInfluence
from llmtrace.influence.span_influence import SpanInfluence
from llmtrace.influence.table import METHODS
from llmtrace.influence.token_attribution import token_attribution
from llmtrace.influence.token_lens import TokenLens, token_lens
from llmtrace.influence.value_norms import token_writes, value_weighted_norms

__all__ = [
    "DETECTORS", "METHODS", "Composition", "FlowGraph", "GenerationInfluence", "HeadTable", "LensScores", "LowRank",
    "NeuronReading", "NeuronStatistics", "NodeScores", "SourceScores", "SpanInfluence", "StreamScores",
    "TokenInfluence", "TokenLens", "alti", "alti_logit", "attention_flow", "composition", "copying_scores",
    "direct_logit_attribution", "flow_graph", "flow_graph_json_schema", "flow_routes", "generation",
    "head_behaviour", "head_scores", "input_x_gradient", "integrated_gradients", "logit_lens", "name_movers",
    "neuron_attribution", "neuron_statistics", "occlusion", "ov_circuit", "qk_circuit", "raw_attention",
    "read_neurons", "residual_stream", "rollout", "source_token_attribution", "token_attribution", "token_lens",
    "token_writes", "value_weighted_norms",
]  # fmt: skip
