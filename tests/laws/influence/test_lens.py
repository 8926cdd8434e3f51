"""Layers: chosen tokens through the stages, and what each stage makes of the residual stream."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from room import for_passes
from slow_twins import logit_diff, read, unembedded
from tiny import GPT2, PLAIN, POST_NORM, VOCAB, Tiny, close, over, prompts
from torch import Tensor

from llmtrace import influence, models
from llmtrace.errors import LLMTraceError, UnsupportedError
from llmtrace.nodes import Bias, Embed, Head, Mlp
from llmtrace.prompts import PromptSet


def stage_names(stages: tuple[str, ...], n_layers: int) -> list[str]:
    """Hook names, spelled out again."""
    last = f"blocks.{n_layers - 1}.hook_resid_post"
    return [last if s == "final" else "blocks.{}.hook_resid_{}".format(*s.split("_")) for s in stages]


def two(tiny: Tiny, p: PromptSet) -> int:
    """Memory for two prompts at once."""
    return for_passes(tiny.model, 2, p.clean.shape[1])


@over()
@pytest.mark.parametrize("positions", ["END", None, ("MID", -1)], ids=["END", "all", "two"])
def test_ranks_and_probabilities_are_those_of_the_lens(tiny: Tiny, positions: Any) -> None:
    """Every stage, prompt and place by the model's own final modules; the last stage is the model (law 7)."""
    p = prompts(padded=True)
    lens = influence.token_lens(tiny.model, p, positions=positions, memory=two(tiny, p))
    kept = read(tiny.model, p.clean, names := stage_names(lens.stages, tiny.family.n_layers))
    for s, name in enumerate(names):
        logits = unembedded(tiny.model, kept[name])
        chances = logits.softmax(-1)
        for b, places in enumerate(lens.positions.tolist()):
            for i, at in enumerate(places):
                if at < 0:
                    assert at == -1 and positions is None
                    continue
                for t, token in enumerate((p.correct[b][0], p.wrong[b][0])):
                    assert float(lens.probability[s, b, i, t]) == pytest.approx(float(chances[b, at, token]), abs=1e-5)
                    larger = int((logits[b, at] > logits[b, at, token]).sum())
                    assert int(lens.rank[s, b, i, t]) == 1 + larger
                assert lens.top_tokens[s][b][i] == str(int(logits[b, at].argmax()))
                assert float(lens.top_probability[s, b, i]) == pytest.approx(float(chances[b, at].max()), abs=1e-5)
    final = tiny.model(p.clean, return_type="logits").softmax(-1)
    ends = torch.arange(len(p)), p.lengths - 1, torch.tensor([tokens[0] for tokens in p.correct])
    if positions == "END":
        close(lens.probability[-1, :, 0, 0].double(), final[ends].double(), max(tiny.atol, 1e-9))
        assert len(lens.df()) == len(lens.stages) * len(p) * 2


@over(among=POST_NORM)
def test_the_token_lens_caps_as_the_model_does(tiny: Tiny) -> None:
    p = prompts()
    lens = influence.token_lens(tiny.model, p)
    final = tiny.model(p.clean, return_type="logits")[:, -1].softmax(-1)
    close(lens.top_probability[-1, :, 0].double(), final.max(-1).values.double(), 1e-5)


def test_words_numbers_and_what_the_model_says() -> None:
    model = models.load("tiny-english")
    text = "When Eric and Sam went to the garden, Sam offered a key to"
    said = influence.token_lens(model, text)
    assert said.tokens == (("Eric",),) and said.rank[-1, 0, 0, 0] == 1
    first = said.first_stage()
    assert first is not None and (said.rank[said.stages.index(first) :, 0, 0, 0] == 1).all()
    before = said.stages.index(first) - 1
    assert before < 0 or said.rank[before, 0, 0, 0] > 1
    both = influence.token_lens(model, text, tokens=["Eric", "Sam"])
    assert both.tokens == (("Eric", "Sam"),) and both.first_stage(token=1) is None
    close(both.probability[..., 0], said.probability[..., 0], 1e-6)


def stream_of(tiny: Tiny, stages: tuple[str, ...]) -> Tensor:
    p = prompts(padded=True)
    kept = read(tiny.model, p.clean, names := stage_names(stages, tiny.family.n_layers))
    return torch.stack(
        [torch.stack([kept[n][b, end] for b, end in enumerate((p.lengths - 1).tolist())]) for n in names]
    )


@over()
def test_measures_of_the_stream_are_those_of_its_vectors(tiny: Tiny) -> None:
    """Norms, steps and cosines one by one; shares sum to 1."""
    p = prompts(padded=True)
    found = influence.residual_stream(tiny.model, p, memory=two(tiny, p))
    x = stream_of(tiny, found.stages)
    close(found.norm, x.norm(dim=-1), tiny.atol)
    close(found.step[0], x[0].norm(dim=-1), tiny.atol)
    close(found.cosine[0], torch.ones(5), 1e-6)
    for s in range(1, len(x)):
        close(found.step[s], (x[s] - x[s - 1]).norm(dim=-1), tiny.atol)
        close(found.cosine[s], (x[s] * x[s - 1]).sum(-1) / x[s].norm(dim=-1) / x[s - 1].norm(dim=-1), tiny.atol)
        expected = ((x[s] - x[s - 1]) * x[-1]).sum(-1) / (x[-1] * x[-1]).sum(-1)
        close(found.share[s], expected, tiny.atol)
    close(found.share.sum(0), torch.ones(5), 1e-9 if tiny.backend == "hooked" else 1e-6)
    assert found.direct is None and len(found.df()) == len(found.stages) == len(found.added_by)


@over()
def test_layers_add_what_their_nodes_add(tiny: Tiny) -> None:
    """Law 9 for every stage: a layer's direct effect is that of its heads, b_O and MLP; together, the metric."""
    p, n_heads = prompts(padded=True), tiny.family.n_heads
    found = influence.residual_stream(tiny.model, p, metric="logit_diff")
    assert found.direct is not None
    scores = influence.direct_logit_attribution(tiny.model, p)
    for by, direct in zip(found.added_by, found.direct, strict=True):
        kind, _, layer = by.partition(" ")
        attention = [*(Head(int(layer or 0), h) for h in range(n_heads)), Bias("b_O", int(layer or 0))]
        mlp = [] if tiny.family.attn_only else [Mlp(int(layer or 0))]
        nodes = {"embedding": [Embed()], "attention": attention, "MLP": mlp, "layer": [*attention, *mlp]}[kind]
        close(direct, sum(scores.of(node) for node in nodes), tiny.atol * 10)
    whole = found.direct.sum(0) + scores.of(Bias("unembedding", tiny.family.n_layers))
    close(whole, logit_diff(tiny.model(p.clean, return_type="logits"), p), tiny.atol * 10)


@over(among=POST_NORM)
def test_the_stream_of_a_post_norm_model_is_read_and_its_capped_logits_are_not(tiny: Tiny) -> None:
    found = influence.residual_stream(tiny.model, prompts())
    close(found.share.sum(0), torch.ones(5), 1e-5)
    with pytest.raises(UnsupportedError, match="caps its logits"):
        influence.residual_stream(tiny.model, prompts(), metric="logit_diff")


def test_the_metric_is_read_where_it_stands() -> None:
    """`direct` belongs to the metric's position, the other measures to the one that was asked for."""
    model, p = Tiny(PLAIN, "bridge", False).model, prompts()
    end, mid = (influence.residual_stream(model, p, position=at, metric="logit_diff") for at in ("END", "MID"))
    close(end.direct, mid.direct, 1e-9)
    assert (end.norm - mid.norm).abs().max() > 1e-3


BAD: dict[str, tuple[Any, str]] = {
    "a position": (lambda m: influence.token_lens(m, prompts(), positions="S9"), "'S9'"),
    "no position": (lambda m: influence.token_lens(m, prompts(), positions=[]), "a list of positions"),
    "a word alone": (lambda m: influence.token_lens(m, prompts(), tokens="Mary"), "Expected tokens as a list, each"),
    "a token too far": (lambda m: influence.token_lens(m, prompts(), tokens=[[VOCAB]] * 5), "from 0 to 39"),
    "tokens of one prompt": (lambda m: influence.token_lens(m, prompts(), tokens=[[1]]), "each of 5 prompts"),
    "a measure": (lambda m: influence.residual_stream(m, prompts()).of("direct"), "'direct' needs metric="),
    "a metric": (lambda m: influence.residual_stream(m, prompts(), metric="probability"), "linear in the logits"),
}


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize(("call", "sentence"), BAD.values(), ids=BAD)
def test_bad_input_is_a_sentence(call: Any, sentence: str) -> None:
    with pytest.raises(LLMTraceError, match=sentence):
        call(Tiny(GPT2, "bridge", True).model)
