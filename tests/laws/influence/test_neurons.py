"""Neurons: statistics against all activations at once, keys and values against the model's own MLP."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from room import for_passes
from slow_twins import read
from tiny import ATTN_ONLY, GPT2, HIDDEN, POST_NORM, VOCAB, Tiny, close, has_mlp, one_of_each, over, prompts

from llmtrace import influence, models
from llmtrace.errors import LLMTraceError, UnsupportedError
from llmtrace.influence.neurons.moments import Moments
from llmtrace.influence.neurons.read_neurons import neuron_sides
from llmtrace.influence.vocabulary import readout, token_vectors
from llmtrace.nodes import Head, Neuron


def test_moments_do_not_depend_on_the_batches() -> None:
    """Merged in parts of any size, at a mean far from zero, they are those of the whole."""
    x = 100 + torch.randn(101, 3).double() ** 3
    for size in (1, 7, 64, 101):
        running = Moments.empty(3)
        for some in x.split(size):
            running.add(some)
        gap = x - x.mean(0)
        close(running.mean, x.mean(0), 1e-12)
        close(running.std, x.std(0, correction=0), 1e-12)
        close(running.kurtosis, gap.pow(4).mean(0) / gap.pow(2).mean(0) ** 2, 1e-9)
        close(running.m3, gap.pow(3).sum(0), 1e-7)
    running.add(x[:0])
    assert running.n == 101


@over(has_mlp)
def test_statistics_are_those_of_all_activations(tiny: Tiny) -> None:
    """Padding is no token; whatever the batches, the numbers are those of one big tensor."""
    p = prompts(padded=True)
    found = influence.neuron_statistics(tiny.model, p, k=4, memory=for_passes(tiny.model, 2, p.clean.shape[1]))
    assert found.n_tokens == int(p.lengths.sum())
    for layer in range(tiny.family.n_layers):
        name = f"blocks.{layer}.mlp.hook_post"
        activation = read(tiny.model, p.clean, [name])[name].double()
        rows = torch.stack([activation[b, i] for b, n in enumerate(p.lengths.tolist()) for i in range(n)])
        close(found.mean[layer], rows.mean(0), tiny.atol)
        close(found.std[layer], rows.std(0, correction=0), tiny.atol)
        close(found.min[layer], rows.min(0).values, tiny.atol)
        close(found.max[layer], rows.max(0).values, tiny.atol)
        close(found.share_active[layer], (rows > 0).double().mean(0), 1e-12)
        close(found.highest[layer], rows.sort(0, descending=True).values[:4].T, tiny.atol)
        for prompt, at in found.where[layer, 3].tolist():
            assert at < p.lengths[prompt]
        values = [activation[prompt, at, 3] for prompt, at in found.where[layer, 3].tolist()]
        close(torch.stack(values), found.highest[layer, 3], tiny.atol)


def test_the_bos_is_left_out_unless_asked_for() -> None:
    model = models.load("tiny-english")
    texts = ["When Eric and Sam went to the garden", "Then Sam offered a key to"]
    without, with_bos = (influence.neuron_statistics(model, texts, with_bos=b, layers=[2]) for b in (False, True))
    assert with_bos.n_tokens == without.n_tokens + 2
    assert (without.where[..., 1] > 0).all()
    (example, *_) = without.examples(without.top("max", 1)[0][0], window=2)
    words = ["<bos>", *texts[example.prompt].split()]
    assert words[example.position] == example.token
    assert example.before.split() == words[max(0, example.position - 2) : example.position]
    assert example.after.split() == words[example.position + 1 : example.position + 3]
    frame = without.df()
    assert len(frame) == model.cfg.d_mlp and frame["max"].max() == pytest.approx(example.activation)


@over(has_mlp)
def test_keys_are_preactivations_and_values_are_writes(tiny: Tiny) -> None:
    """The model's own MLP on a stream that is one token: keys, activation and values give what it writes."""
    layer, some = tiny.family.n_layers - 1, torch.tensor([2, 7, 30])
    embedded = token_vectors(tiny.model, some)
    w, seen = models.mlp_weights(tiny.model, layer), readout(tiny.model)
    written = models.run_mlp(tiny.model, layer, embedded) - w.b_out
    total = torch.zeros(3, VOCAB, dtype=torch.float64)
    for i in range(HIDDEN):
        sides = neuron_sides(tiny.model, Neuron(layer, i), embedded, seen)
        pre = sides["gate"] if tiny.family.gated else sides["key"]
        activation = activate(tiny, pre)
        activation = activation * (sides["in"] + w.b_in[i]) if tiny.family.gated else activation
        total += activation[:, None] * sides["value"]
    close(total, written @ seen.T, max(tiny.atol, 1e-9) * 10)


def activate(tiny: Tiny, pre: torch.Tensor) -> torch.Tensor:
    from torch.nn import functional

    if tiny.family.gated:
        return functional.silu(pre)
    if tiny.family.norm is None:
        return functional.relu(pre)
    return functional.gelu(pre, approximate="none" if tiny.family.name == "neox" else "tanh")


@over(has_mlp, one_of_each)
def test_a_reading_ranks_every_token(tiny: Tiny) -> None:
    neurons = [Neuron(0, 3), Neuron(1, 5)]
    found = influence.read_neurons(tiny.model, neurons, k=VOCAB)
    assert found.sides == (("gate", "in", "value") if tiny.family.gated else ("key", "value"))
    w = models.mlp_weights(tiny.model, 1)
    highest, lowest = found.of(Neuron(1, 5))
    values = readout(tiny.model) @ w.W_out[5]
    assert [int(token) for token, _ in highest] == values.argsort(descending=True).tolist()
    assert [token for token, _ in lowest] == [token for token, _ in reversed(highest)]
    assert len(found.df()) == 2 * len(found.sides) * 2 * VOCAB


def test_values_promote_what_a_neuron_then_pushes() -> None:
    """More of a last-layer neuron moves the logits along its value: promoted tokens rise most, under the same scale."""
    model = models.load("tiny-english")
    neuron = Neuron(3, 17)
    (best, _), (worst, _) = (side[0] for side in influence.read_neurons(model, [neuron], k=1).of(neuron))
    tokens = influence.token_lens(model, "When Eric and Sam went to the garden", tokens=[best, worst])
    assert tokens.tokens == ((best, worst),)
    p = models.final_residual(model, torch.tensor([[0, 5, 9]]))[:, -1]
    before, after = (models.unembed(model, x) for x in (p, p + 0.1 * models.mlp_weights(model, 3).W_out[17]))
    moved = (after - before)[0]
    labels = models.token_labels(model, torch.arange(len(moved))[None])[0]
    ranks = [labels[i] for i in moved.argsort(descending=True).tolist()]
    assert ranks.index(best) < len(ranks) // 4 and ranks.index(worst) > len(ranks) - len(ranks) // 4


@over(among=POST_NORM)
def test_after_a_norm_statistics_stand_and_readings_do_not(tiny: Tiny) -> None:
    assert influence.neuron_statistics(tiny.model, prompts()).mean.isfinite().all()
    with pytest.raises(UnsupportedError, match="post-norm"):
        influence.read_neurons(tiny.model, [Neuron(0, 0)])


def test_what_attention_only_models_have_not_is_refused() -> None:
    model = Tiny(ATTN_ONLY, "bridge", False).model
    for call in (
        lambda: influence.neuron_statistics(model, prompts()),
        lambda: influence.read_neurons(model, [Neuron(0, 0)]),
        lambda: token_vectors(model, through_mlp0=True),
    ):
        with pytest.raises(UnsupportedError, match="attention-only"):
            call()


BAD: dict[str, tuple[Any, str]] = {
    "a layer": (lambda m: influence.neuron_statistics(m, prompts(), layers=[4]), "layers between 0 and 1"),
    "no activations": (lambda m: influence.neuron_statistics(m, prompts(), k=0), "got k=0"),
    "no memory": (lambda m: influence.neuron_statistics(m, prompts(), memory=0), "Expected memory as bytes"),
    "a statistic": (lambda m: influence.neuron_statistics(m, prompts()).top("kurt"), "'kurt'.*'kurtosis'"),
    "a neuron of another layer": (
        lambda m: influence.neuron_statistics(m, prompts(), layers=[1]).examples(Neuron(0, 1)), "a neuron of layers 1"
    ),
    "a head": (lambda m: influence.read_neurons(m, [Head(0, 0)]), "Neuron"),
    "a neuron that is not there": (lambda m: influence.read_neurons(m, [Neuron(0, 99)]), "not in this model"),
    "no tokens": (lambda m: influence.read_neurons(m, [Neuron(0, 0)], k=0), "Expected k from 1"),
    "a side": (lambda m: influence.read_neurons(m, [Neuron(0, 0)]).of(Neuron(0, 0), "gate"), "one of the sides key"),
}  # fmt: skip


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize(("call", "sentence"), BAD.values(), ids=BAD)
def test_bad_input_is_a_sentence(call: Any, sentence: str) -> None:
    with pytest.raises(LLMTraceError, match=sentence):
        call(Tiny(GPT2, "bridge", True).model)
