"""The table of metrics: final logits -> one number per prompt. A row's `needs` are what its function is given."""

from __future__ import annotations

from llmtrace.methods import Method, Table

METRICS = Table(
    "metric",
    Method("logit_diff", "llmtrace.metrics.logit_diff:logit_diff", "mean logit of correct minus wrong answers",
           "Wang et al. 2022", "reads a few vocabulary rows", ("correct", "wrong"), gives="logits"),
    Method("probability", "llmtrace.metrics.probabilities:probability", "summed probability of the correct answers",
           "", "reads all vocabulary rows", ("correct",), gives="probability"),
    Method("log_probability", "llmtrace.metrics.probabilities:log_probability", "log of that probability (nats)",
           "", "reads all vocabulary rows", ("correct",), gives="nats"),
    Method("probability_diff", "llmtrace.metrics.probabilities:probability_diff", "P(correct) - P(wrong)",
           "Hanna et al. 2023", "reads all vocabulary rows", ("correct", "wrong"), gives="probability"),
    Method("kl", "llmtrace.metrics.kl:kl", "KL(reference run || now) in nats", "Conmy et al. 2023",
           "reads all vocabulary rows", ("reference",), gives="nats"),
)  # fmt: skip
