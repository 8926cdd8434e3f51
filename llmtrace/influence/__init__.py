"""How much does X matter, from one clean pass. Scores are claims; `validate` and `interventions` test them."""

from llmtrace.influence.dla import direct_logit_attribution, neuron_attribution, source_token_attribution
from llmtrace.influence.heads.circuits import ov_circuit, qk_circuit
from llmtrace.influence.heads.composition import Composition, composition
from llmtrace.influence.heads.copying import copying_scores
from llmtrace.influence.heads.detectors import DETECTORS, head_behaviour
from llmtrace.influence.heads.low_rank import LowRank
from llmtrace.influence.heads.name_movers import name_movers
from llmtrace.influence.heads.scores import head_scores
from llmtrace.influence.heads.table import HeadTable
from llmtrace.influence.logit_lens import LensScores, logit_lens
from llmtrace.influence.neurons.reading import NeuronReading, read_neurons
from llmtrace.influence.neurons.statistics import NeuronStatistics, neuron_statistics
from llmtrace.influence.residual_stream import StreamScores, residual_stream
from llmtrace.influence.scores import NodeScores, SourceScores
from llmtrace.influence.table import METHODS
from llmtrace.influence.token_lens import TokenLens, token_lens
from llmtrace.influence.tokens.alti import alti
from llmtrace.influence.tokens.alti_logit import alti_logit
from llmtrace.influence.tokens.attention_flow import attention_flow
from llmtrace.influence.tokens.decompx import decompx
from llmtrace.influence.tokens.flow_graph import FlowGraph, flow_graph_json_schema
from llmtrace.influence.tokens.flow_routes import flow_graph, flow_routes
from llmtrace.influence.tokens.generation import generation
from llmtrace.influence.tokens.generation_influence import GenerationInfluence
from llmtrace.influence.tokens.input_x_gradient import input_x_gradient
from llmtrace.influence.tokens.integrated_gradients import integrated_gradients
from llmtrace.influence.tokens.occlusion import occlusion
from llmtrace.influence.tokens.raw_attention import raw_attention
from llmtrace.influence.tokens.rollout import rollout
from llmtrace.influence.tokens.span_influence import SpanInfluence
from llmtrace.influence.tokens.token_attribution import token_attribution
from llmtrace.influence.tokens.token_influence import TokenInfluence
from llmtrace.influence.tokens.value_norms import token_writes, value_weighted_norms

__all__ = [
    "DETECTORS", "METHODS", "Composition", "FlowGraph", "GenerationInfluence", "HeadTable", "LensScores", "LowRank",
    "NeuronReading", "NeuronStatistics", "NodeScores", "SourceScores", "SpanInfluence", "StreamScores",
    "TokenInfluence", "TokenLens", "alti", "alti_logit", "attention_flow", "composition", "copying_scores", "decompx",
    "direct_logit_attribution", "flow_graph", "flow_graph_json_schema", "flow_routes", "generation",
    "head_behaviour", "head_scores", "input_x_gradient", "integrated_gradients", "logit_lens", "name_movers",
    "neuron_attribution", "neuron_statistics", "occlusion", "ov_circuit", "qk_circuit", "raw_attention",
    "read_neurons", "residual_stream", "rollout", "source_token_attribution", "token_attribution", "token_lens",
    "token_writes", "value_weighted_norms",
]  # fmt: skip
