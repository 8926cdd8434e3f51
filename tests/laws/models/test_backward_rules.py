"""Backward rules: values stay, and each slope is that of a model in which what the rule holds is a constant."""

from __future__ import annotations

from typing import Any

import pytest
import slow_twins as slow
import torch
from tiny import ALL, HOOKED_EXISTS, POST_NORM, WIDE, Tiny, close, hooked, one_of_each, over, prompts

from llmtrace import circuits
from llmtrace.errors import InputError, UnsupportedError
from llmtrace.models import RULES, backward_rule, describe, final_residual

pytestmark = pytest.mark.skipif(
    not HOOKED_EXISTS, reason="backward rules need HookedTransformer (transformer-lens 3.9)"
)
HOOKED = [tiny for tiny in [*ALL, *WIDE, *POST_NORM] if hooked(tiny)] or ALL


@over(one_of_each, among=HOOKED)
def test_values_stay(tiny: Tiny) -> None:
    p = prompts(padded=True)
    plain = final_residual(tiny.model, p.clean)
    for name in RULES:
        close(final_residual(tiny.model, p.clean, backward_rule(tiny.model, name).hooks), plain, tiny.atol)


def held(model: Any, tokens: torch.Tensor) -> list[slow.Hook]:
    """Hooks that make constants of what RelP holds: scales of norms, slopes of activations, half of each factor."""
    arch = describe(model)
    scales = [name for name in model.hook_dict if name.endswith("hook_scale") and not name.startswith("ln_final")]
    hooks = [slow.replace(name, value) for name, value in slow.read(model, tokens, scales).items()]
    for layer in range(0 if arch.attn_only else arch.n_layers):
        at, now = f"blocks.{layer}.mlp.hook_", dict[str, torch.Tensor]()
        clean = slow.read(model, tokens, [at + "pre", at + "post", *([at + "pre_linear"] if arch.gated else [])])
        acted = model.blocks[layer].mlp.act_fn(clean[at + "pre"])

        def keep(name: str, now: dict[str, torch.Tensor] = now) -> slow.Hook:
            return name, lambda value: now.__setitem__(name, value)

        def post(
            value: torch.Tensor, at: str = at, now: Any = now, clean: Any = clean, acted: torch.Tensor = acted
        ) -> torch.Tensor:
            slope = acted / clean[at + "pre"]
            if not arch.gated:
                return now[at + "pre"] * slope
            return (now[at + "pre"] * slope * clean[at + "pre_linear"] + acted * now[at + "pre_linear"]) / 2

        hooks += [keep(name) for name in clean if "post" not in name] + [(at + "post", post)]
    return hooks


@over(one_of_each, among=[tiny for tiny in HOOKED if not tiny.family.post_norm])
def test_relp_is_the_derivative_of_a_model_with_held_parts(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """EAP under relp = the slow twin of EAP on that model."""
    p, plain_read, plain_unembed = prompts(padded=True), slow.read, slow.unembedded
    hooks = held(tiny.model, p.clean)
    corrupted = {u: slow.write_of(tiny.model, p.corrupted, u) for u in slow.writers(tiny.model)}
    clean_end = final_residual(tiny.model, p.clean)
    scale = slow_scale(tiny.model, clean_end)

    def read(model: Any, tokens: Any, names: Any, also: Any = ()) -> Any:
        return plain_read(model, tokens, names, [*hooks, *also])

    def unembedded(model: Any, resid: torch.Tensor) -> torch.Tensor:
        with model.hooks(fwd_hooks=[] if scale is None else [("ln_final.hook_scale", lambda value, hook: scale)]):
            return plain_unembed(model, resid)

    edges = slow.all_edges(tiny.model)
    masks = {edge: torch.zeros(len(p), 1, 1, dtype=torch.float64, requires_grad=True) for edge in edges}
    monkeypatch.setattr(slow, "read", read)
    with torch.enable_grad():
        final = slow.run_edges(tiny.model, p.clean, corrupted, lambda u, v: masks[slow.Edge(u, v)])
        total = slow.logit_diff(unembedded(tiny.model, final), p).sum()
        by_hand = torch.autograd.grad(total, list(masks.values()))
    scores = circuits.eap(tiny.model, p, rule="relp")
    for edge, gradient in zip(edges, by_hand, strict=True):
        close(scores.of(edge), gradient.flatten(), 100 * tiny.atol)


def slow_scale(model: Any, resid: torch.Tensor) -> torch.Tensor | None:
    if "ln_final.hook_scale" not in model.hook_dict:
        return None
    found: list[torch.Tensor] = []
    with model.hooks(fwd_hooks=[("ln_final.hook_scale", lambda value, hook: found.append(value))]):
        model.ln_final(resid)
    return found[0]


@over(one_of_each, among=[tiny for tiny in HOOKED if tiny.family.norm is None])
def test_without_norms_and_with_relu_relp_is_the_derivative(tiny: Tiny) -> None:
    """relu(x) / x is relu'(x)."""
    p = prompts(padded=True)
    plain = circuits.eap(tiny.model, p).per_prompt
    close(circuits.eap(tiny.model, p, rule="relp").per_prompt, plain, tiny.atol)
    assert (circuits.eap(tiny.model, p, rule="gim").per_prompt - plain).abs().max() > 1e-3


@over(one_of_each, among=[tiny for tiny in HOOKED if tiny.family.attn_only])
def test_gim_by_hand_in_the_last_layer(tiny: Tiny) -> None:
    """Edges into v of the last layer take half the slope; those into q a quarter of the slope of softmax(s / 2)."""
    p, graph = prompts(), circuits.Graph.of(tiny.model)
    plain, gim = (circuits.eap(tiny.model, p, rule=rule).per_prompt for rule in ("standard", "gim"))
    last = graph.n_layers - 1
    v, q = graph.head_columns(last, "v"), graph.head_columns(last, "q")
    close(gim[:, :, v], plain[:, :, v] / 2, tiny.atol)
    close(gim[:, :, -1], plain[:, :, -1], tiny.atol)
    kept: dict[str, torch.Tensor] = {}
    at = f"blocks.{last}.attn.hook_"

    def scores(value: torch.Tensor) -> None:
        kept["scores"] = value

    def cooler(pattern: torch.Tensor) -> torch.Tensor:
        soft = (kept["scores"] / 2).softmax(-1)
        return pattern.detach() + soft - soft.detach()

    base = {u: slow.write_of(tiny.model, p.clean, u) for u in slow.writers(tiny.model)}
    with torch.enable_grad():
        query = slow.read(tiny.model, p.clean, [at + "q"])[at + "q"].detach().requires_grad_(True)
        hooks = [slow.replace(at + "q", query), (at + "attn_scores", scores), (at + "pattern", cooler)]
        (slope,) = torch.autograd.grad(slow.metric_of_run(tiny.model, p, hooks).sum(), query)
    for row, node in enumerate(graph.nodes[: graph.before(last)]):
        change = slow.write_of(tiny.model, p.corrupted, node) - base[node]
        moved = torch.einsum("bpd,hde->bphe", change, tiny.model.blocks[last].attn.W_Q)
        close(gim[:, row, q], (moved * slope).sum((1, 3)) / 4, 10 * tiny.atol)


def test_what_a_rule_cannot_do_is_refused() -> None:
    with pytest.raises(InputError, match="one of standard, relp, gim, got 'lrp'"):
        circuits.eap(HOOKED[0].model, prompts(), rule="lrp")
    bridge = next(tiny for tiny in ALL if tiny.backend == "bridge")
    with pytest.raises(UnsupportedError, match="TransformerBridge does not hook"):
        circuits.eap(bridge.model, prompts(), rule="relp")
