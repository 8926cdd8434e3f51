"""How much does X matter, from one clean pass. Scores are claims; `validate` and `interventions` test them."""

from llmtrace.influence.alti import alti
from llmtrace.influence.alti_logit import alti_logit
from llmtrace.influence.dla import direct_logit_attribution, neuron_attribution, source_token_attribution
from llmtrace.influence.logit_lens import logit_lens
from llmtrace.influence.raw_attention import raw_attention
from llmtrace.influence.rollout import rollout
from llmtrace.influence.scores import LensScores, NodeScores, SourceScores, TokenInfluence
from llmtrace.influence.value_norms import token_writes, value_weighted_norms
from llmtrace.methods import Method, Table

METHODS = Table(
    "influence method",
    Method("direct_logit_attribution", direct_logit_attribution, "what each node adds to the logits directly",
           "Elhage et al. 2021", "1 F", ("correct", "wrong")),
    Method("neuron_attribution", neuron_attribution, "the same for every neuron", "Geva et al. 2022", "1 F",
           ("correct", "wrong")),
    Method("source_token_attribution", source_token_attribution, "a head's direct effect by attended token",
           "Wang et al. 2022", "1 F", ("correct", "wrong")),
    Method("logit_lens", logit_lens, "what each layer would predict", "nostalgebraist 2020", "1 F"),
    Method("raw_attention", raw_attention, "where heads look", "", "1 F"),
    Method("rollout", rollout, "attention multiplied through the layers", "Abnar & Zuidema 2020", "1 F"),
    Method("value_weighted_norms", value_weighted_norms, "how much attention moves from token to token",
           "Kobayashi et al. 2021", "1 F"),
    Method("alti", alti, "share of each position that comes from each token, layer after layer",
           "Ferrando et al. 2022", "1 F"),
    Method("alti_logit", alti_logit, "each layer's push on the answer, followed back to the tokens",
           "Ferrando et al. 2023", "1 F", ("correct", "wrong")),
)  # fmt: skip

__all__ = [
    "METHODS", "LensScores", "NodeScores", "SourceScores", "TokenInfluence", "alti", "alti_logit",
    "direct_logit_attribution", "logit_lens", "neuron_attribution", "raw_attention", "rollout",
    "source_token_attribution", "token_writes", "value_weighted_norms",
]  # fmt: skip
