"""The table of influence methods: every function that scores nodes, neurons, stages or tokens of prompts."""

from llmtrace.influence.dla import direct_logit_attribution, neuron_attribution, source_token_attribution
from llmtrace.influence.logit_lens import logit_lens
from llmtrace.influence.tokens.alti import alti
from llmtrace.influence.tokens.alti_logit import alti_logit
from llmtrace.influence.tokens.attention_flow import attention_flow
from llmtrace.influence.tokens.decompx import decompx
from llmtrace.influence.tokens.flow_routes import flow_routes
from llmtrace.influence.tokens.input_x_gradient import input_x_gradient
from llmtrace.influence.tokens.integrated_gradients import integrated_gradients
from llmtrace.influence.tokens.occlusion import occlusion
from llmtrace.influence.tokens.raw_attention import raw_attention
from llmtrace.influence.tokens.rollout import rollout
from llmtrace.influence.tokens.token_attribution import token_attribution
from llmtrace.influence.tokens.value_norms import value_weighted_norms
from llmtrace.methods import Method, Table

METHODS = Table(
    "influence method",
    Method("direct_logit_attribution", direct_logit_attribution, "what each node adds to the logits directly",
           "Elhage et al. 2021", "1 F", ("correct", "wrong", "linear")),
    Method("neuron_attribution", neuron_attribution, "the same for every neuron", "Geva et al. 2022", "1 F",
           ("correct", "wrong", "linear")),
    Method("source_token_attribution", source_token_attribution, "a head's direct effect by attended token",
           "Wang et al. 2022", "1 F", ("correct", "wrong", "linear")),
    Method("logit_lens", logit_lens, "what each layer would predict", "nostalgebraist 2020", "1 F"),
    Method("raw_attention", raw_attention, "where heads look", "", "1 F"),
    Method("rollout", rollout, "attention multiplied through the layers", "Abnar & Zuidema 2020", "1 F"),
    Method("value_weighted_norms", value_weighted_norms, "how much attention moves from token to token",
           "Kobayashi et al. 2021", "1 F"),
    Method("alti", alti, "share of each position that comes from each token, layer after layer",
           "Ferrando et al. 2022", "1 F"),
    Method("alti_logit", alti_logit, "each layer's push on the answer, followed back to the tokens",
           "Ferrando et al. 2023", "1 F", ("correct", "wrong", "linear")),
    Method("flow_routes", flow_routes, "share of a prediction that arrives from each token, small parts dropped",
           "Ferrando & Voita 2024", "1 F"),
    Method("attention_flow", attention_flow, "how much could flow from each token, were attention pipes",
           "Abnar & Zuidema 2020", "1 F"),
    Method("token_attribution", token_attribution, "what each attended token adds to the answer directly",
           "Elhage et al. 2021", "1 F", ("correct", "wrong", "linear")),
    Method("decompx", decompx, "what each token's own vector becomes in the answer, on every path",
           "Modarressi et al. 2023", "1 F + 1 W", ("correct", "wrong", "linear")),
    Method("input_x_gradient", input_x_gradient, "the slope of the answer along each token's own vector",
           "Shrikumar et al. 2017", "1 F + 1 W", ("correct", "wrong", "gradient")),
    Method("integrated_gradients", integrated_gradients, "that slope on the whole way from no token to the token",
           "Sundararajan et al. 2017", "1 F + K (F + W)", ("correct", "wrong", "gradient")),
    Method("occlusion", occlusion, "what the answer loses without each token", "Li et al. 2016",
           "1 F + half an F per token", ("correct", "wrong", "oracle")),
)  # fmt: skip
