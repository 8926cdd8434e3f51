"""What stands for "this token were not there", the functions of `BASELINES`: input vectors beside a token's own.

    zero        nothing at all, no position either
    mean        the mean embedding of the vocabulary, at the token's position
    resample    the token of the corrupted prompt
    pad         the padding token (end of text, where a tokenizer has none)

An input is what enters the first block: token and position together. Cost: embeddings only, no layer is run.
Known failure: none of them is a text that the model was trained on (but the corrupted one).
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from llmtrace.errors import require_one_of
from llmtrace.influence.rows import BASELINES
from llmtrace.models import TraceModel, embedding
from llmtrace.prompts import PromptSet

Inputs = Float[Tensor, "batch pos d_model"]
AT_ONCE = 4096  # tokens of the vocabulary that are embedded together


@torch.no_grad()
def baseline_inputs(model: TraceModel, prompts: PromptSet, baseline: str) -> Inputs:
    """The inputs of `prompts` with every token taken away. Raises InputError for "resample" without corruption."""
    require_one_of("baseline", BASELINES, baseline)
    absent: Inputs = BASELINES[baseline].function(model, prompts)
    return absent


def mean(model: TraceModel, prompts: PromptSet) -> Inputs:
    return mean_inputs(model, prompts.clean, embedding(model, prompts.clean)[0])


def zero(model: TraceModel, prompts: PromptSet) -> Inputs:
    return torch.zeros_like(embedding(model, prompts.clean)[0])


def resample(model: TraceModel, prompts: PromptSet) -> Inputs:
    prompts.require_corruption("The baseline 'resample'")
    return embedding(model, prompts.corrupted)[0]


def pad(model: TraceModel, prompts: PromptSet) -> Inputs:
    return embedding(model, torch.full_like(prompts.clean, prompts.pad_id))[0]


def mean_inputs(model: TraceModel, tokens: Int[Tensor, "batch pos"], inputs: Inputs) -> Inputs:
    """Each token's embedding exchanged for the mean of the vocabulary's, its position kept.

    Alone at position 0 a token enters as e(token) + position 0, so e(token) - mean e is a difference of two of these,
    whatever a model does to embeddings (scales, norms) before its first block.
    """
    every = torch.arange(model.W_E.shape[0])
    total = sum(embedding(model, some[:, None])[0, :, 0].double().sum(0) for some in every.split(AT_ONCE))
    distinct, place = tokens.unique(return_inverse=True)
    alone = embedding(model, distinct[:, None])[0, :, 0]
    mean = torch.as_tensor(total) / len(every)
    return inputs + (mean.to(alone) - alone)[place.to(alone.device)]
