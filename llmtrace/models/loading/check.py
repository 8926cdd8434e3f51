"""A model that llmtrace loads must compute what its source computes: compared once, before the source is dropped.

The source is in memory anyway while its weights are converted, so the reference costs one forward pass over a short
text. It is computed first: a `TransformerBridge` wraps its source in place and changes its weights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from llmtrace.errors import CheckError
from llmtrace.models.hook_names import is_pattern
from llmtrace.shapes import Float, Int, Tensor

TEXT = "When Mary and John went to the store, John gave a drink to Mary. In 1987 the red car was parked."
LONGEST = 32
ROW_SUM_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-4, torch.float16: 2e-3, torch.bfloat16: 2e-2}
LOG_PROB_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-4}  # half precision: by rank
RELATIVE = 1e-5  # of a log-probability: a token at -30 has fewer digits after the point
NEAR_TIE = 0.25  # nats: half precision may swap tokens that are this close
FIRST = 5
SPREAD = 0.15  # of the spread of the log-probabilities: bfloat16 moves those of a real model by .03 to .06
ADVICE = (
    "the conversion is wrong for this model, or its dtype too narrow: try the other backend= or dtype=torch.float32, "
    "and report it (check=False loads it anyway)"
)


@dataclass(frozen=True, eq=False)
class Reference:
    """What the source says about a few tokens."""

    tokens: Int[Tensor, "1 pos"]
    log_probs: Float[Tensor, "1 pos d_vocab"]
    dtype: torch.dtype


def check_weights(model: nn.Module, name: str) -> None:
    """Refuse weights that are not finite.

    Raises:
        CheckError: names the first parameter that holds NaN or infinity.
    """
    for key, parameter in model.named_parameters():
        if not torch.isfinite(parameter.detach()).all():
            raise CheckError(
                f"Expected finite weights in {name!r}, got NaN or infinity in {key}; the file is damaged or its "
                "training diverged: get it again, or load it in a wider dtype."
            )


def reference_of(hf: Any, tokenizer: Any | None, n_ctx: int | None) -> Reference:
    """Log-probabilities of the source on the check text, or on fixed random tokens where there is no tokenizer."""
    weight = hf.get_input_embeddings().weight
    limits = (LONGEST, n_ctx, getattr(hf.config, "max_position_embeddings", None))
    tokens = check_tokens(tokenizer, weight.shape[0], min(limit for limit in limits if limit)).to(weight.device)
    training, attention = hf.training, hf.config._attn_implementation
    try:
        hf.eval()
        hf.set_attn_implementation("eager")
        with torch.no_grad():
            logits = hf(tokens, use_cache=False).logits
    finally:
        hf.train(training)
        hf.set_attn_implementation(attention)
    return Reference(tokens.cpu(), logits.double().log_softmax(-1).cpu(), weight.dtype)


def check_tokens(tokenizer: Any | None, d_vocab: int, length: int) -> Int[Tensor, "1 pos"]:
    """At most `length` tokens of a text; random ones stand in for a missing tokenizer or a text it cannot read."""
    if tokenizer is not None:
        ids = [i for i in tokenizer.encode(TEXT) if i < d_vocab][:length]
        if len(set(ids)) > 4:
            return torch.tensor([ids])
    return torch.randint(d_vocab, (1, length), generator=torch.Generator().manual_seed(0))


def check_model(model: Any, reference: Reference, name: str) -> None:
    """Compare log-probabilities and attention patterns of a freshly loaded model with its source.

    Raises:
        CheckError: the probabilities differ by more than the dtype explains, or a pattern is not one.
    """
    parameter = next(model.parameters())
    patterns: dict[str, Tensor] = {}

    def keep(pattern: Tensor, hook: Any) -> Tensor:
        patterns[hook.name] = pattern
        return pattern  # some hooks of a bridge put back what the function returns

    with torch.no_grad():
        logits = model.run_with_hooks(reference.tokens.to(parameter.device), fwd_hooks=[(is_pattern, keep)])
    _check_log_probs(logits.double().log_softmax(-1).cpu(), reference, parameter.dtype, name)
    sinks = bool(getattr(model.cfg, "use_attention_sinks", False))
    for hook_name, pattern in patterns.items():
        _check_pattern(pattern, f"{name!r}, {hook_name}", parameter.dtype, causal=_is_causal(model), sinks=sinks)


def _check_log_probs(got: Tensor, reference: Reference, dtype: torch.dtype, name: str) -> None:
    expected = reference.log_probs
    if got.shape != expected.shape:
        raise CheckError(f"Expected logits of shape {tuple(expected.shape)} from {name!r}, got {tuple(got.shape)}.")
    if not torch.isfinite(got).all():
        raise CheckError(f"Expected finite log-probabilities from {name!r}, got NaN or infinity on the check text.")
    if dtype in LOG_PROB_TOLERANCE and reference.dtype in LOG_PROB_TOLERANCE:
        tolerance = max(LOG_PROB_TOLERANCE[dtype], LOG_PROB_TOLERANCE[reference.dtype])
        difference = (got - expected).abs()
        if (difference > tolerance + RELATIVE * expected.abs()).any():
            raise CheckError(
                f"Expected {name!r} to give the log-probabilities of its source within {tolerance:g}, got a difference "
                f"of {difference.max():.2g}; {ADVICE}."
            )
    else:
        _check_half_precision(got, expected, name)


def _check_half_precision(got: Tensor, expected: Tensor, name: str) -> None:
    """By rank: a first choice of either side is among the first of the other, or as good as they. And by spread."""
    for ours, theirs in ((got, expected), (expected, got)):
        first = ours.argmax(-1, keepdim=True)
        rank = (theirs > theirs.gather(-1, first)).sum(-1)
        gap = theirs.max(-1).values - theirs.gather(-1, first)[..., 0]
        if ((rank >= FIRST) & (gap > NEAR_TIE)).any():
            raise CheckError(
                f"Expected the first choices of {name!r} among the first {FIRST} of its source, got rank "
                f"{int(rank.max()) + 1}; {ADVICE}."
            )
    share = ((got - expected).std(-1) / expected.std(-1)).max()
    if share > SPREAD:
        raise CheckError(
            f"Expected {name!r} to give the log-probabilities of its source within {SPREAD:.0%} of their spread, got "
            f"{share:.0%}; {ADVICE}."
        )


def _check_pattern(pattern: Tensor, where: str, dtype: torch.dtype, *, causal: bool, sinks: bool) -> None:
    tolerance = ROW_SUM_TOLERANCE.get(dtype, 1e-4)
    rows = pattern.double().sum(-1)
    wrong = (rows > 1 + tolerance) if sinks else ((rows - 1).abs() > tolerance)
    if wrong.any() or not torch.isfinite(rows).all():
        worst = rows.flatten()[(rows - 1).abs().nan_to_num(math.inf).argmax()]
        raise CheckError(f"Expected attention rows that sum to 1 in {where}, got {worst:.4g}.")
    if causal and pattern.triu(1).abs().max() > 0:
        raise CheckError(f"Expected causal attention in {where}, got weight on a later token.")


def _is_causal(model: Any) -> bool:
    return getattr(model.cfg, "attention_dir", "causal") == "causal"
