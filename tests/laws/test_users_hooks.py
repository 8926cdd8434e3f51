"""Law 54: with a hook of the user's on the model a function gives what the hooked model gives, or refuses and names it.

What the hooked model gives is said by a twin whose weights do what the hook does. Every method of the tables is held
against it, and the functions beside them that take a model.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from every_method import TABLES, Scores, asked, half_circuit
from tiny import BACKENDS, GPT2, WIDTH, Tiny, loaded, prompts

from llmtrace import circuits, influence, interventions, models, signals
from llmtrace.errors import LLMTraceError, UnsupportedError
from llmtrace.models.hook_names import is_pattern
from llmtrace.nodes import Head, Neuron

# Every method several times over: shapes are checked where each has its own laws.
pytestmark = pytest.mark.usefixtures("as_users_run")

TINIES = [Tiny(GPT2, backend, processed=False) for backend in BACKENDS]
HEAD, S = 1, 0.5
D_HEAD = WIDTH // GPT2.n_heads
OF_HEAD = slice(HEAD * D_HEAD, (HEAD + 1) * D_HEAD)
STEP = torch.linspace(-1, 1, WIDTH, dtype=torch.float64)


def times(value: torch.Tensor, hook: Any) -> torch.Tensor:
    return S * value


def times_one_head(value: torch.Tensor, hook: Any) -> torch.Tensor:
    value = value.clone()
    value.view(*value.shape[:2], GPT2.n_heads, D_HEAD)[:, :, HEAD] *= S
    return value


def plus(value: torch.Tensor, hook: Any) -> torch.Tensor:
    return value + STEP.to(value)


def attention(source: Any) -> Any:
    return source.transformer.h[0].attn


def mlp(source: Any) -> Any:
    return source.transformer.h[0].mlp


# name of a hook point, the hook, and what it scales (or adds to) in the weights of a twin
Twin = Callable[[Any], list[torch.Tensor]]
HOOKS: dict[str, tuple[Callable[..., Any], Twin]] = {
    "blocks.0.attn.hook_z": (times_one_head, lambda m: [attention(m).c_proj.weight[OF_HEAD]]),
    "blocks.0.attn.hook_pattern": (
        times, lambda m: [attention(m).c_attn.weight[:, 2 * WIDTH :], attention(m).c_attn.bias[2 * WIDTH :]],
    ),
    "blocks.0.hook_attn_out": (times, lambda m: [attention(m).c_proj.weight, attention(m).c_proj.bias]),
    "blocks.0.hook_mlp_out": (times, lambda m: [mlp(m).c_proj.weight, mlp(m).c_proj.bias]),
    "blocks.1.hook_resid_pre": (plus, lambda m: [mlp(m).c_proj.bias]),
    "ln_final.hook_normalized": (times, lambda m: [m.transformer.ln_f.weight]),
}  # fmt: skip


@functools.cache
def twin(tiny: Tiny, name: str) -> Any:
    source = tiny.family.source(0)
    with torch.no_grad():
        for tensor in HOOKS[name][1](source):
            if HOOKS[name][0] is plus:
                tensor += STEP
            else:
                tensor *= S
    return tiny.build(source)


@contextmanager
def hooked(tiny: Tiny, name: str) -> Iterator[Any]:
    with tiny.model.hooks(fwd_hooks=[(name, HOOKS[name][0])]):
        yield tiny.model


# --- what is held against the twin -----------------------------------------------------------------------------------

OPTIONS: dict[str, dict[str, Any]] = {
    "acdc": {"tau": 0.5}, "edge_pruning": {"n_edges": 40, "steps": 2}, "causal_trace": {"subject": ["MID"]},
}  # fmt: skip
# an edge in a run of its own, as `ablated_edges` below; many passes of what `eap_ig` does in few
SLOW = {"exact", "eap_ig_activations"}


@functools.cache
def circuit() -> circuits.Circuit:
    return half_circuit(loaded(TINIES[0]))


BESIDE: dict[str, Scores] = {
    "run_circuit": lambda m, p: circuits.run_circuit(m, p, circuit()),
    "evaluate": lambda m, p: circuits.evaluate(m, p, circuit(), draws=0).alone,
    "ablated_edges": lambda m, p: interventions.ablate(m, p, ["a0.h1->m1", "m0->a1.h0<v>"], ablation="resample").after,
    "ablated_neurons": lambda m, p: interventions.ablate(m, p, ["m0.n3", "m1.n2"]).after,
    "directly": lambda m, p: direct_effects(interventions.ablate(m, p, [Head(0, HEAD), "m0", "m1"])),
    "path_patch_q": lambda m, p: interventions.path_patch(m, p, receivers=["a1.h0<q>", "a1.h2<v>"]).after,
    "path_patch_frozen": lambda m, p: interventions.path_patch(m, p, convention="all_frozen").after,
    "residuals": lambda m, p: signals.capture(m, p, what="resid_post").activations["blocks.1.hook_resid_post"],
    "writes": lambda m, p: signals.node_writes(m, p.clean).values,
    "logits": lambda m, p: models.logits(m, p.clean),
    "embedding": lambda m, p: models.embedding(m, p.clean),
    "token_lens": lambda m, p: influence.token_lens(m, p).rank,
    "residual_stream": lambda m, p: influence.residual_stream(m, p, metric="logit_diff").direct,
    "greedy": lambda m, p: models.greedy(m, p.clean[0], 6),
    "copying_scores": lambda m, p: influence.copying_scores(m, k=2, tokens=[1, 2, 3]).values,
    "head_composition": lambda m, p: influence.head_composition(m).values.nan_to_num(),
    "ov_circuit": lambda m, p: influence.ov_circuit(m, Head(0, HEAD)).rows(torch.arange(4)),
    "qk_circuit": lambda m, p: influence.qk_circuit(m, Head(0, HEAD)).rows(torch.arange(4)),
    "read_neurons": lambda m, p: torch.tensor(
        [score for side in influence.read_neurons(m, [Neuron(0, 1)], k=3).highest[0] for _, score in side]
    ),
}


def direct_effects(found: Any) -> torch.Tensor:
    if found.direct is None:
        raise UnsupportedError("no direct effects beside hook_")
    return found.direct


METHODS = BESIDE | {
    name: asked(row, **OPTIONS.get(name, {})) for table in TABLES for name, row in table.items() if name not in SLOW
}
# Their answer is the pattern itself: after a hook that halves it they show halves, which no weights give.
SHOW_THE_PATTERN = {"raw_attention", "rollout", "attention_flow", "gradient_rollout"}
# What must not be refused: what needs no more than whole passes, or reads behind the hook.
GIVEN = {
    "blocks.0.attn.hook_z": {"ablate", "patch_sweep", "path_patch", "eap", "direct_logit_attribution", "writes"},
    "blocks.0.attn.hook_pattern": {"ablate", "path_patch", "eap", "decompx"},
    "blocks.0.hook_attn_out": {"ablate", "patch_sweep", "logit_lens", "steer"},
    "blocks.0.hook_mlp_out": {"ablate", "eap", "direct_logit_attribution", "path_patch_frozen"},
    "blocks.1.hook_resid_pre": {"ablate", "patch_sweep", "steer"},
    "ln_final.hook_normalized": {"residuals", "embedding"},
}


# Beside the HookedTransformer of 3.9 a bridge is the second way to run: one method of each engine is enough there, as
# it is on the pattern for what does not read it.
ON_BOTH = ("blocks.0.attn.hook_z", "blocks.1.hook_resid_pre")
OF_EACH_ENGINE = {
    *("ablate", "patch_sweep", "path_patch", "path_patch_frozen", "eap", "direct_logit_attribution", "writes", "steer"),
    *("run_circuit", "decompx", "occlusion", "integrated_gradients", "logits"),
}


def asked_under(tiny: Tiny, name: str) -> set[str]:
    if tiny is not TINIES[0]:
        return OF_EACH_ENGINE
    if is_pattern(name):
        return OF_EACH_ENGINE | {row.name for row in influence.METHODS.giving("tokens")} - SHOW_THE_PATTERN
    return set(METHODS)


CASES = [(tiny, name) for tiny in TINIES for name in HOOKS if tiny is TINIES[0] or name in ON_BOTH]


@pytest.mark.parametrize(("tiny", "name"), CASES, ids=[f"{tiny.name}-{name}" for tiny, name in CASES])
def test_the_hooked_model_or_a_refusal_that_names_the_hook(tiny: Tiny, name: str) -> None:
    """Law 54."""
    p, other, given = prompts()[:2], twin(tiny, name), set[str]()
    for method, scores in METHODS.items():
        if method not in asked_under(tiny, name):
            continue
        with hooked(tiny, name) as model:
            try:
                found = scores(model, p)
            except LLMTraceError as refusal:
                assert "hook_" in str(refusal), (method, refusal)
                continue
        expected = scores(other, p)
        assert torch.allclose(found, expected.to(found), atol=1e-6, rtol=1e-6), (method, found, expected)
        given.add(method)
    assert GIVEN[name] <= given, GIVEN[name] - given
    assert not models.user_hooks(tiny.model)
