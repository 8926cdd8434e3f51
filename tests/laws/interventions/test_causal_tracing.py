"""Causal tracing against whole passes: noise on the subject, one clean activation restored."""

from __future__ import annotations

import pytest
import torch
from slow_twins import metric_of_run, read
from tiny import ALL, POST_NORM, Tiny, close, one_of_each, over, prompts

from llmtrace import interventions
from llmtrace.errors import Cancelled, InputError
from llmtrace.interventions.causal_tracing import noises
from llmtrace.models import load
from llmtrace.progress import listen
from llmtrace.prompts import ioi


def hidden(p, subject):
    mask = torch.zeros_like(p.mask)
    for name in subject:
        mask[torch.arange(len(p)), p.position(name)] = True
    return mask


@over(one_of_each, among=[*ALL, *POST_NORM])
def test_tracing_equals_its_slow_twin(tiny: Tiny) -> None:
    """The same draws of noise; residual streams in turn, attention outputs in a window of two layers."""
    p, subject, n = prompts(padded=True), ["MID", 1], tiny.family.n_layers
    mask = hidden(p, subject)
    draws = noises(tiny.model, p, mask, 2.0, 2, 5)
    for what, window in (("resid_pre", 1), ("attn_out", 2)):
        effects = interventions.causal_trace(
            tiny.model, p, subject, what=what, window=window, positions=["MID", "END"], noise=2.0, draws=2, seed=5,
            metric="logit_diff",
        )  # fmt: skip
        assert len(effects.nodes) == 2 * n
        before, after = [], []
        for drawn in draws:
            hide = ("blocks.0.hook_resid_pre", lambda x, drawn=drawn: x + (drawn * mask[..., None]).to(x))
            before.append(metric_of_run(tiny.model, p, [hide]))
            rows = []
            for layer in range(n):
                start = layer - (window - 1) // 2
                names = [f"blocks.{at}.hook_{what}" for at in range(start, start + window) if 0 <= at < n]
                for position in ("MID", "END"):
                    clean = read(tiny.model, p.clean, names)

                    def restore(name, position=position, clean=clean):
                        def put(x):
                            x = x.clone()
                            at = torch.arange(len(p)), p.position(position)
                            x[at] = clean[name][at]
                            return x

                        return name, put

                    rows.append(metric_of_run(tiny.model, p, [hide, *map(restore, names)]))
            after.append(torch.stack(rows))
        close(effects.before, torch.stack(before).mean(0), 10 * tiny.atol)
        close(effects.after, torch.stack(after).mean(0), 10 * tiny.atol)
        assert effects.other is not None
        close(effects.other, metric_of_run(tiny.model, p), tiny.atol)
        assert effects.change.abs().max() > 1e-4


def test_restoring_the_embedding_of_the_subject_restores_everything() -> None:
    p = prompts()
    effects = interventions.causal_trace(
        ALL[0].model, p, ["MID"], what="resid_pre", positions=["MID"], metric="logit_diff", draws=2
    )  # fmt: skip
    close(effects.normalised()[0], torch.ones(()), 1e-9)


def test_noise_is_seeded_and_measured_on_the_subjects_own_embeddings() -> None:
    p, model = prompts(), ALL[0].model
    mask = hidden(p, ["MID"])
    one, two, other = (noises(model, p, mask, 3.0, 1, seed)[0] for seed in (0, 0, 1))
    assert torch.equal(one, two) and not torch.equal(one, other)
    std = torch.stack([model.W_E[p.clean[i, 3]] for i in range(len(p))]).std().item()
    assert noises(model, p, mask, 3.0, 200, 0)[0].std().item() == pytest.approx(3 * std, rel=0.15)


def test_the_subject_of_tiny_english_is_read_at_its_place_early_and_at_the_end_late() -> None:
    model = load("tiny-english")
    p = ioi(model, 8, seed=0)
    effects = interventions.causal_trace(model, p, ["S2"], positions=["S2", "END"], draws=2)
    at_s2, at_end = effects.normalised()[0::2], effects.normalised()[1::2]
    assert at_s2[0] > 0.9 > 0.5 > at_s2[3] and at_end[3] > 0.9 > 0.5 > at_end[0]


def test_a_stopped_trace_goes_on_with_the_next_draw(tmp_path) -> None:
    p, file, seen = prompts(), tmp_path / "partial", []

    def stop(done, total, label):
        seen.append(done)
        if done == 2:
            raise Cancelled("Stopped from outside.")

    how = {"positions": ["MID"], "draws": 3, "metric": "logit_diff", "memory": "100kB"}  # a few prompts at once
    whole = interventions.causal_trace(ALL[0].model, p, ["MID"], **how)
    with pytest.raises(Cancelled), listen(stop):
        interventions.causal_trace(ALL[0].model, p, ["MID"], resume=file, **how)
    assert file.is_file()
    again = interventions.causal_trace(ALL[0].model, p, ["MID"], resume=file, **how)
    assert torch.equal(again.after, whole.after) and torch.equal(again.before, whole.before) and not file.exists()


@pytest.mark.parametrize(
    ("subject", "options", "sentence"),
    [
        ([], {}, "Expected a list of positions as subject, got []; write a list, such as ['END']"),
        (["MID"], {"noise": 0.0}, "Expected noise above 0 and at least one draw, got noise=0.0 and draws=10."),
        (["MID"], {"what": "z"}, "Expected what to be one of resid_pre, resid_mid,"),
        (["MID"], {"window": 0, "what": "mlp_out"}, "Expected a window of 1 to 2 layers, got 0."),
    ],
)
def test_what_cannot_be_traced_is_refused(subject, options, sentence) -> None:
    with pytest.raises(InputError) as error:
        interventions.causal_trace(ALL[0].model, prompts(), subject, **options)
    assert sentence in str(error.value)
