"""The tables of influence: what scores nodes, neurons, stages or tokens of prompts, and what finds kinds of heads.

`sums_to` is what the numbers of a row add up to; tests/laws/influence/test_influence_truth.py holds every row to it.
"""

from __future__ import annotations

from llmtrace.methods import Method, Option, Table

METRIC = Option("metric", "word", "what is explained", "the prompts' own")
LINEAR = Option("metric", "word", "what is explained", "logit_diff")
MEMORY = Option("memory", "size", "what may be used beside the weights, such as 2GB", "auto")
LAYER = Option("layer", "whole", "this layer alone", "every layer")
POSITIONS = Option("positions", "places", "whose predictions are explained, such as END,S2,-1", "END")

# What stands for a token that is not there: functions of (model, prompts) that give input vectors.
BASELINES = Table(
    "baseline",
    Method("mean", "llmtrace.influence.tokens.inputs.baseline_inputs:mean",
           "the mean embedding of the vocabulary, at the token's position"),
    Method("zero", "llmtrace.influence.tokens.inputs.baseline_inputs:zero", "nothing at all, no position either"),
    Method("resample", "llmtrace.influence.tokens.inputs.baseline_inputs:resample", "the token of the corrupted prompt",
           needs=("corrupted",)),
    Method("pad", "llmtrace.influence.tokens.inputs.baseline_inputs:pad", "the padding token"),
)  # fmt: skip

METHODS = Table(
    "influence method",
    Method("direct_logit_attribution", "llmtrace.influence.direct_logit_attribution:direct_logit_attribution",
           "what each node adds to the logits directly", "Elhage et al. 2021", "1 F",
           ("correct", "wrong", "linear", "additive"), gives="nodes", sums_to="the metric",
           options=(LINEAR,)),
    Method("neuron_attribution", "llmtrace.influence.direct_logit_attribution:neuron_attribution",
           "the same for every neuron", "Geva et al. 2022", "1 F", ("correct", "wrong", "linear", "additive", "mlp"),
           gives="nodes", sums_to="its MLP's direct effect",
           options=(Option("layers", "layers", "such as 0,2-4", "all"), LINEAR)),
    Method("source_token_attribution", "llmtrace.influence.direct_logit_attribution:source_token_attribution",
           "a head's direct effect by attended token", "Wang et al. 2022", "1 F",
           ("correct", "wrong", "linear", "additive"), gives="sources", sums_to="its head's direct effect",
           options=(Option("heads", "nodes", "such as 9.6,9.9", "all"), LINEAR)),
    Method("logit_lens", "llmtrace.influence.logit_lens:logit_lens", "what each layer would predict",
           "nostalgebraist 2020", "1 F", gives="stages", sums_to="the metric at the last stage",
           options=(METRIC,)),
    Method("raw_attention", "llmtrace.influence.tokens.raw_attention:raw_attention", "where heads look", "", "1 F",
           gives="tokens", sums_to="one",
           options=(LAYER, Option("head", "whole", "this head alone", "mean of the layer"), MEMORY)),
    Method("rollout", "llmtrace.influence.tokens.rollout:rollout", "attention multiplied through the layers",
           "Abnar & Zuidema 2020", "1 F", gives="tokens", sums_to="one",
           options=(MEMORY,)),
    Method("gradient_rollout", "llmtrace.influence.tokens.gradient_rollout:gradient_rollout",
           "attention multiplied through the layers, as far as the answer minds it", "Chefer et al. 2021",
           "1 F + 1 W", ("correct", "wrong", "gradient"), gives="tokens",
           sums_to="nothing: a product of slopes and shares, with 1 for what stays at each step",
           options=(METRIC, MEMORY)),
    Method("value_weighted_norms", "llmtrace.influence.tokens.value_weighted_norms:value_weighted_norms",
           "how much attention moves from token to token", "Kobayashi et al. 2021", "1 F", ("additive",),
           gives="tokens", sums_to="nothing: vectors add up (law 51), lengths do not",
           options=(LAYER, Option("residual", "flag", "what stays at a token counts too", "residual"), MEMORY)),
    Method("alti", "llmtrace.influence.tokens.alti:alti",
           "share of each position that comes from each token, layer after layer", "Ferrando et al. 2022", "1 F",
           ("additive",), gives="tokens", sums_to="one",
           options=(MEMORY,)),
    Method("alti_logit", "llmtrace.influence.tokens.alti_logit:alti_logit",
           "each layer's push on the answer, followed back to the tokens", "Ferrando et al. 2023", "1 F",
           ("correct", "wrong", "linear", "additive"), gives="tokens", sums_to="the metric less the biases",
           options=(METRIC, MEMORY)),
    Method("flow_routes", "llmtrace.influence.tokens.flow_routes:flow_routes",
           "share of a prediction that arrives from each token, small parts dropped", "Ferrando & Voita 2024", "1 F",
           ("additive",), gives="tokens", sums_to="one",
           options=(Option("threshold", "number", "shares up to X are dropped", "0.01"), POSITIONS)),
    Method("attention_flow", "llmtrace.influence.tokens.attention_flow:attention_flow",
           "how much could flow from each token, were attention pipes", "Abnar & Zuidema 2020", "1 F", gives="tokens",
           sums_to="nothing: each pair of tokens has the network for itself",
           options=(POSITIONS, MEMORY)),
    Method("token_attribution", "llmtrace.influence.tokens.token_attribution:token_attribution",
           "what each attended token adds to the answer directly", "Elhage et al. 2021", "1 F",
           ("correct", "wrong", "linear", "additive"), gives="tokens", sums_to="the metric",
           options=(METRIC,)),
    Method("decompx", "llmtrace.influence.tokens.decompx:decompx",
           "what each token's own vector becomes in the answer, on every path", "Modarressi et al. 2023", "1 F + 1 W",
           ("correct", "wrong", "linear", "additive"), gives="tokens", sums_to="the metric",
           options=(METRIC, MEMORY)),
    Method("input_x_gradient", "llmtrace.influence.tokens.input_x_gradient:input_x_gradient",
           "the slope of the answer along each token's own vector", "Shrikumar et al. 2017", "1 F + 1 W",
           ("correct", "wrong", "gradient"), gives="tokens",
           sums_to="nothing: a slope is not a change, `gap` says what the row misses",
           options=(METRIC, MEMORY)),
    Method("integrated_gradients", "llmtrace.influence.tokens.integrated_gradients:integrated_gradients",
           "that slope on the whole way from no token to the token", "Sundararajan et al. 2017", "1 F + K (F + W)",
           ("correct", "wrong", "gradient"), gives="tokens", sums_to="the metric's change from the baseline",
           options=(METRIC, MEMORY, Option("steps", "whole", "points of the path", "64"),
                    Option("baseline", "word", "where it begins", "mean", one_of=tuple(BASELINES)))),
    Method("occlusion", "llmtrace.influence.tokens.occlusion:occlusion", "what the answer loses without each token",
           "Li et al. 2016", "1 F + half an F per token", ("correct", "wrong", "oracle"), gives="tokens",
           sums_to="nothing: what several tokens share is lost with each of them, or with none",
           options=(METRIC, MEMORY, Option("ablation", "word", "what replaces a token", "mean",
                                           one_of=(*BASELINES, "attention")))),
    gives=("nodes", "sources", "stages", "tokens"),
)  # fmt: skip

# Functions of a pattern on random tokens that are said twice; each is a column of `head_scores`.
DETECTORS = Table(
    "detector of heads",
    Method("previous_token", "llmtrace.influence.heads.detectors:previous_token", "looks at the token before",
           "Elhage et al. 2021", "1 F", gives="share of attention"),
    Method("current_token", "llmtrace.influence.heads.detectors:current_token", "looks at the token itself",
           "", "1 F", gives="share of attention"),
    Method("duplicate_token", "llmtrace.influence.heads.detectors:duplicate_token",
           "looks at the same token, the time before", "Wang et al. 2022", "1 F", gives="share of attention"),
    Method("induction", "llmtrace.influence.heads.detectors:induction", "looks at what came after the same token",
           "Olsson et al. 2022", "1 F", gives="share of attention"),
    Method("sink", "llmtrace.influence.heads.detectors:sink", "rests on the first token", "Xiao et al. 2023", "1 F",
           gives="share of attention"),
)  # fmt: skip

# The columns of `head_scores` beside those: a function gives several, in this order; `needs` prompts or their answers.
HEAD_COLUMNS = Table(
    "column of the table of heads",
    Method("copying", "llmtrace.influence.heads.copying:copying_scores",
           "raises what it reads, by the eigenvalues of its OV circuit", "Elhage et al. 2021", "weights",
           gives="from -1 to 1"),
    Method("copying_top", "llmtrace.influence.heads.copying:copying_scores",
           "share of tokens that it puts among the most raised", "Wang et al. 2022", "weights",
           gives="share of tokens"),
    Method("suppressing", "llmtrace.influence.heads.copying:copying_scores",
           "share of tokens that it puts among the most lowered", "McDougall et al. 2023", "weights",
           gives="share of tokens"),
    Method("attention_to_answer", "llmtrace.influence.heads.name_movers:name_movers", "looks at the answer",
           "Wang et al. 2022", "2 F", ("correct", "wrong"), gives="share of attention"),
    Method("attention_to_wrong", "llmtrace.influence.heads.name_movers:name_movers", "looks at the wrong answer",
           "Wang et al. 2022", "2 F", ("correct", "wrong"), gives="share of attention"),
    Method("name_mover", "llmtrace.influence.heads.name_movers:name_movers",
           "what it writes for the answer by looking at it", "Wang et al. 2022", "2 F", ("correct", "wrong"),
           gives="logits"),
    Method("direct", "llmtrace.influence.heads.name_movers:name_movers", "what it writes for the answer altogether",
           "Elhage et al. 2021", "2 F", ("correct", "wrong"), gives="logits"),
)  # fmt: skip
STATISTICS = ("mean", "std", "min", "max", "share_active", "kurtosis")  # of a neuron, over tokens


def columns_of(where: str) -> tuple[str, ...]:
    """The columns that one function gives."""
    return tuple(row.name for row in HEAD_COLUMNS.values() if row.where == where)
