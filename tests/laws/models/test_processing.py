"""Laws 10-13: weight processing changes the description, not the function. Exact to about 1e-6, in float64 too."""

from __future__ import annotations

import torch
from tiny import POST_NORM, PROCESSED, UNPROCESSED, Tiny, close, has_value_bias, loaded, over, prompts

from llmtrace import models, signals

PROCESSING = 1e-5  # the processing itself is done in float32


def raw(tiny: Tiny) -> Tiny:
    return Tiny(tiny.family, tiny.backend, processed=False)


@over(among=[*PROCESSED, *POST_NORM])
def test_log_probabilities_do_not_change(tiny: Tiny) -> None:
    """Law 10: log-probabilities are those of the raw weights."""
    folded, plain = (models.logits(model, prompts().clean) for model in (tiny.model, loaded(raw(tiny))))
    close(folded.log_softmax(-1), plain.log_softmax(-1), PROCESSING)


@over(among=PROCESSED)
def test_logits_change_by_a_constant_per_position(tiny: Tiny) -> None:
    """Law 11: logits(folded) - logits(raw) is the same for all tokens of a position, and it is not zero. (Under a
    final soft cap `center_unembed` is not applied at all: POST_NORM is left out.)"""
    folded, plain = (models.logits(model, prompts().clean) for model in (tiny.model, loaded(raw(tiny))))
    shift = folded - plain
    close(shift, shift.mean(-1, keepdim=True).expand_as(shift), PROCESSING)
    assert shift.abs().max() > 1e-2


@over(among=PROCESSED)
def test_patterns_do_not_change(tiny: Tiny) -> None:
    """Law 12: attention patterns are those of the raw weights."""
    folded, plain = (signals.capture(model, prompts(), what="pattern") for model in (tiny.model, loaded(raw(tiny))))
    for layer in range(tiny.family.n_layers):
        close(signals.attention_pattern(folded, layer), signals.attention_pattern(plain, layer), PROCESSING)


@over(has_value_bias, among=PROCESSED)
def test_folding_value_biases_changes_head_results(tiny: Tiny) -> None:
    """Law 13: z carries the value bias or it does not, so head results differ by far more than rounding; the sum of
    attention does not. Hence every result records the flags."""
    source = tiny.family.source(0)
    folded, kept = (
        tiny.build(source, **(UNPROCESSED | {"fold_value_biases": fold, "check": False})) for fold in (True, False)
    )
    with_fold, without = (signals.capture(model, prompts(), what=("z", "attn_out")) for model in (folded, kept))
    for layer in range(tiny.family.n_layers):
        results = [signals.head_result(t, m, layer) for t, m in ((with_fold, folded), (without, kept))]
        assert (results[0] - results[1]).abs().max() > 0.05
        name = f"blocks.{layer}.hook_attn_out"
        close(with_fold[name], without[name], PROCESSING)
    assert with_fold.provenance["flags"]["fold_value_biases"] and not without.provenance["flags"]["fold_value_biases"]


@over(among=PROCESSED)
def test_folded_norms_have_nothing_left(tiny: Tiny) -> None:
    """What `fold_ln` means to the algebra above: norms without weight or bias (a weight of ones is as good)."""
    for norm in (models.final_norm(tiny.model), models.attention_weights(tiny.model, 0).norm):
        assert norm.weight is None or torch.equal(norm.weight, torch.ones_like(norm.weight))
        assert norm.bias is None or not norm.bias.any()
