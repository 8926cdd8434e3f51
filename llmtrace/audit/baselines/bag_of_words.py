"""Which tokens the prompt has, wherever they stand: a logistic regression without any model inside.

    value = log odds = sum over tokens of w[token] + b

A monitor that is no better has learned the words of the prompts. Cost: none; the fit takes scikit-learn.
Sign: larger = more like prompts at which the model did what is watched for. Known failure: tokens that the fit never
saw count nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from llmtrace.audit.labelled import LabelledPrompts
from llmtrace.audit.monitors.logistic_probe import logistic
from llmtrace.audit.seen import Seen
from llmtrace.audit.watch import Watch
from llmtrace.models import TraceModel, provenance


@dataclass(frozen=True, eq=False)
class BagOfWords(Watch):
    tokens: Int[Tensor, " word"]
    weights: Float[Tensor, " word"]
    bias: float

    def value(self, seen: Seen) -> Float[Tensor, " batch"]:
        return counts(seen.tokens.cpu(), seen.lengths.cpu(), self.tokens) @ self.weights + self.bias


def fit(model: TraceModel, labelled: LabelledPrompts, *, strength: float = 1.0) -> BagOfWords:
    """`strength`: scikit-learn's C, smaller holds the weights back more."""
    labelled.require_both("to tell apart")
    prompts = labelled.prompts
    tokens = prompts.clean[prompts.mask].unique()
    weights, bias = logistic(counts(prompts.clean, prompts.lengths, tokens).double(), labelled.labels, strength)
    return BagOfWords("bag_of_words", provenance(model).as_dict(), tokens, weights.float(), bias)


def counts(
    prompts: Int[Tensor, "batch pos"], lengths: Int[Tensor, " batch"], tokens: Int[Tensor, " word"]
) -> Float[Tensor, "batch word"]:
    """How often each prompt has each token."""
    real = torch.arange(prompts.shape[1]) < lengths[:, None]
    return torch.stack([((prompts == token) & real).sum(-1) for token in tokens], 1).float()
