"""Random interventions: whatever is patched or ablated, wherever and with whatever else, equals a whole pass."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
import slow_twins as slow
import torch
from hypothesis import HealthCheck, given, settings, strategies as st
from tiny import ALL, HOOKED_EXISTS, LAYERS, MISTRAL, VOCAB, WIDE, Tiny, close, prompts

from llmtrace import interventions, models
from llmtrace.nodes import Head, KvHead, Mlp, Neuron, Site
from llmtrace.prompts import PromptSet

# LayerNorm, grouped queries with rotation, a sliding window; each once
MODELS = [ALL[0], next(tiny for tiny in ALL if tiny.family.kv_heads < tiny.family.n_heads)]
MODELS += [tiny for tiny in WIDE if tiny.family is MISTRAL and HOOKED_EXISTS][:1]
QUICK = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


@pytest.fixture(autouse=True, scope="module")
def loaded() -> None:
    """Before anything is drawn: building a model uses random numbers of its own."""
    assert all(tiny.model is not None for tiny in MODELS)


@cache
def random_prompts(seed: int, width: int) -> PromptSet:
    """Lengths, tokens and differences at random; some pairs may differ nowhere but one must."""
    generator = torch.Generator().manual_seed(seed)
    plain = prompts()
    n = len(plain)
    clean = torch.randint(1, VOCAB, (n, width), generator=generator)
    differs = torch.rand(n, width, generator=generator) < 0.3
    differs[0, int(torch.randint(width - 2, (1,), generator=generator))] = True
    corrupted = torch.where(differs, (clean + 5) % VOCAB, clean)
    lengths = torch.randint(width - 2, width + 1, (n,), generator=generator)
    mask = torch.arange(width) < lengths[:, None]
    middle = torch.randint(width - 2, (n,), generator=generator)
    return replace(
        plain, clean=clean.where(mask, 0), corrupted=corrupted.where(mask, 0), lengths=lengths,
        positions={"END": lengths - 1, "MID": middle},
    )  # fmt: skip


def positions(width: int) -> st.SearchStrategy[tuple[int | str, ...]]:
    one = st.one_of(st.sampled_from(["END", "MID", -1]), st.integers(0, width - 3))
    return st.lists(one, max_size=3, unique=True).map(tuple)


@st.composite
def drawn_sites(draw: st.DrawFn, width: int) -> tuple[str, int, bool, int, tuple[int | str, ...]]:
    """Kind, layer, whether the whole of it, which part, where: plain data, since type checks use random numbers too."""
    kinds = ["resid_pre", "resid_post", "resid_mid", "attn_out", "mlp_out", "mlp_post", "z", "q", "k", "v", "pattern"]
    part, layer = draw(st.integers(0, 23)), draw(st.integers(0, LAYERS - 1))
    return draw(st.sampled_from(kinds)), layer, draw(st.booleans()), part, draw(positions(width))


def site_of(tiny: Tiny, kind: str, layer: int, whole: bool, part: int, at: tuple[int | str, ...]) -> Site:
    arch = models.describe(tiny.model)
    if kind == "resid_mid" and tiny.backend == "bridge":  # beside the model, refused
        kind = "resid_pre"
    if whole or kind[:5] == "resid" or kind in ("attn_out", "mlp_out"):
        return Site(kind, layer, at)
    if kind == "mlp_post":
        return Site(kind, Neuron(layer, part % arch.d_mlp), at)
    if kind in "kv" and arch.group > 1:
        return Site(kind, KvHead(layer, part % arch.n_kv_heads), at)
    return Site(kind, Head(layer, part % arch.n_heads), at)


def entered_once(rows: list[list[Site]]) -> list[list[Site]]:
    """Places that overlap are patched with the same run, so their order does not matter, but a residual stream written
    over by what was patched before it would: one stream to a row."""
    return [[site for i, site in enumerate(row) if site.kind[:5] != "resid" or i == 0] or row[:1] for row in rows]


@QUICK
@given(data=st.data())
def test_random_patches_are_whole_passes(data: st.DataObject) -> None:
    tiny = MODELS[data.draw(st.integers(0, len(MODELS) - 1))]
    width = data.draw(st.integers(4, 9))
    p = random_prompts(data.draw(st.integers(0, 40)), width)
    direction = data.draw(st.sampled_from(["denoising", "noising"]))
    drawn = data.draw(st.lists(st.lists(drawn_sites(width), min_size=1, max_size=3), min_size=1, max_size=4))
    rows = entered_once([[site_of(tiny, *one) for one in row] for row in drawn])
    memory = data.draw(st.sampled_from(["auto", "90kB"]))
    effects = interventions.patch(tiny.model, p, rows, direction=direction, memory=memory)
    for i, row in enumerate(rows):
        close(effects.after[i], slow.activation_patched(tiny.model, p, row, direction), 10 * tiny.atol)


@QUICK
@given(data=st.data())
def test_random_ablations_are_whole_passes(data: st.DataObject) -> None:
    """Zero, mean over template groups, resample; of heads and MLPs in turn or together, everywhere."""
    tiny = MODELS[data.draw(st.integers(0, len(MODELS) - 1))]
    width = data.draw(st.integers(4, 9))
    p = random_prompts(data.draw(st.integers(0, 40)), width)
    how = {"ablation": data.draw(st.sampled_from(["zero", "mean", "resample"]))}
    how |= {"reference": data.draw(st.sampled_from(["clean", "corrupted"]))} if how["ablation"] == "mean" else {}
    arch = models.describe(tiny.model)
    places: list[Head | Mlp] = [*arch.heads, *arch.mlps]
    chosen = data.draw(st.lists(st.integers(0, len(places) - 1), min_size=1, max_size=4, unique=True))
    nodes = [places[i] for i in chosen]
    each = interventions.ablate(tiny.model, p, nodes, **how)
    for i, node in enumerate(nodes):
        close(each.after[i], slow.ablated(tiny.model, p, [node], **how), 10 * tiny.atol)
    together = interventions.ablate(tiny.model, p, nodes, **how, together=True)
    close(together.after[0], slow.ablated(tiny.model, p, nodes, **how), 10 * tiny.atol)
