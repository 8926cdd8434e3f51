"""Published activation-patching matrices of GPT-2 small, and TransformerLens' own `patching.py` on a tiny one.

The figures (`data/gpt2_ioi_patching.json`) are those of TransformerLens' demos: eight indirect-object prompts,
corrupted by exchanging the pairs, (LD - corrupted) / (clean - corrupted). The first demo also ran with factored
attention matrices refactored, which rotates q with k and v with W_O inside a head: whole heads do not see it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import ALL, HOOKED_EXISTS, close, prompts

from llmtrace import interventions
from llmtrace.errors import NoWeightsError
from llmtrace.models import describe, load
from llmtrace.nodes import Site
from llmtrace.prompts import PromptSet, from_pairs

GOLDEN = json.loads((Path(__file__).parent / "data" / "gpt2_ioi_patching.json").read_text())
LOGIT_DIFFERENCE, PATCHING = 2e-3, 5e-3


def matrix(model: Any, p: PromptSet, kind: str) -> torch.Tensor:
    """[layer, position] or [layer, head] of normalised effects, denoising."""
    shares = interventions.patch_sweep(model, p, kind).normalised()
    return shares.view(describe(model).n_layers, -1)


@pytest.fixture(scope="module")
def gpt2() -> Any:
    try:
        return load("gpt2", device="cpu", dtype="float32")
    except NoWeightsError:
        pytest.skip("GPT-2 small's weights are not in the local Hugging Face cache: download gpt2 to check its figures")


@pytest.fixture(scope="module")
def published(gpt2: Any) -> PromptSet:
    texts, answers = GOLDEN["setup"]["prompts"], GOLDEN["setup"]["answers"]
    other = [texts[i ^ 1] for i in range(len(texts))]
    return from_pairs(gpt2, [(*pair, *of) for pair, of in zip(zip(texts, other, strict=True), answers, strict=True)])


def test_the_published_logit_differences(gpt2: Any, published: PromptSet) -> None:
    effects = interventions.patch(gpt2, published, ["resid_pre.0@END"], direction="noising")
    close(effects.before, torch.tensor(GOLDEN["logit_diff"]), LOGIT_DIFFERENCE)


@pytest.mark.parametrize(
    ("demo", "kind"), [(demo, kind) for demo in ("exploratory", "activation patching") for kind in GOLDEN[demo]]
)
def test_the_published_matrices(gpt2: Any, published: PromptSet, demo: str, kind: str) -> None:
    expected = torch.tensor(GOLDEN[demo][kind]).double()
    torch.testing.assert_close(matrix(gpt2, published, kind), expected, atol=PATCHING, rtol=0)


@pytest.mark.skipif(not HOOKED_EXISTS, reason="transformer-lens 4 has no HookedTransformer for its patching.py")
@pytest.mark.parametrize("kind", ["resid_pre", "resid_mid", "attn_out", "mlp_out", "z", "q", "k", "v", "pattern"])
def test_transformer_lens_finds_the_same(kind: str) -> None:
    """Parity with the peer, on a tiny GPT-2: every matrix of its `patching.py` with one number per layer and place."""
    from transformer_lens import patching

    model, p = ALL[0].model, prompts()
    theirs = {
        "resid_pre": patching.get_act_patch_resid_pre,
        "resid_mid": patching.get_act_patch_resid_mid,
        "attn_out": patching.get_act_patch_attn_out,
        "mlp_out": patching.get_act_patch_mlp_out,
        "z": patching.get_act_patch_attn_head_out_all_pos,
        "q": patching.get_act_patch_attn_head_q_all_pos,
        "k": patching.get_act_patch_attn_head_k_all_pos,
        "v": patching.get_act_patch_attn_head_v_all_pos,
        "pattern": patching.get_act_patch_attn_head_pattern_all_pos,
    }[kind]
    metric = p.metric()
    with torch.no_grad():
        clean, cache = model.run_with_cache(p.clean)
        high, low = metric(clean).mean(), metric(model(p.corrupted)).mean()
        expected = theirs(model, p.corrupted, cache, lambda logits: (metric(logits).mean() - low) / (high - low))
    close(matrix(model, p, kind), expected, 1e-6)  # their table is float32


@pytest.mark.skipif(not HOOKED_EXISTS, reason="transformer-lens 4 has no HookedTransformer for its patching.py")
def test_transformer_lens_finds_the_same_by_position_and_by_key() -> None:
    from transformer_lens import patching

    model, p = ALL[0].model, prompts()
    metric = p.metric()
    with torch.no_grad():
        cache = model.run_with_cache(p.clean)[1]

        def by(theirs: Any) -> torch.Tensor:
            return theirs(model, p.corrupted, cache, lambda logits: metric(logits).mean())

        z, entries = (
            by(patching.get_act_patch_attn_head_out_by_pos),
            by(patching.get_act_patch_attn_head_pattern_dest_src_pos),
        )
    ours = interventions.patch_sweep(model, p, "z", by="head and position")
    for (site,), value in zip(ours.nodes, ours.after.mean(1), strict=True):
        assert isinstance(site, Site)
        close(value, z[site.layer, int(site.at[0]), site.index], 1e-6)
    ours = interventions.patch_sweep(model, p, "pattern", by="query and key")
    for (site,), value in zip(ours.nodes, ours.after.mean(1), strict=True):
        assert isinstance(site, Site)
        close(value, entries[site.layer, site.index, int(site.at[0]), int(site.keys[0])], 1e-6)
