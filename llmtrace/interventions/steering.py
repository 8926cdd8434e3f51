"""Steering: add a vector to an activation, once or at every step of a generation.

    x := x + coefficient * vector

`steering_vector` is the difference of means between clean and corrupted prompts at a place. Source: Turner et al. 2023
(activation addition), Rimsky et al. 2024 (contrastive activation addition). Cost: one kept pass, then each place
from its layer on; a generation is one full pass per token. Sign: positive change = the vector raises the
metric. Known failure: a large coefficient breaks the text before it changes the topic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from llmtrace.errors import InputError, LimitError
from llmtrace.interventions.declared import Declared
from llmtrace.interventions.effects import Effects
from llmtrace.interventions.engine import Sweep
from llmtrace.interventions.hooks import hooks_of, name_of, part
from llmtrace.interventions.kept import keep_sites
from llmtrace.interventions.places import Written, mask_of, read_place, site_of
from llmtrace.interventions.values import Add, Change
from llmtrace.metrics import MetricLike
from llmtrace.models import Architecture, TraceModel, describe, final_residual, provenance, require_live, unembed
from llmtrace.models.budget import Memory
from llmtrace.nodes import Position, Site
from llmtrace.progress import track
from llmtrace.prompts import PromptSet, as_prompts, metric_of
from llmtrace.prompts.tokens import TokenReader


def steer(
    model: TraceModel,
    prompts: PromptSet,
    vector: Float[Tensor, " d"],
    *,
    at: Written | list[Written],
    coefficient: float = 1.0,
    positions: Sequence[Position] | None = None,
    metric: MetricLike | None = None,
    memory: Memory = "auto",
    resume: str | Path | None = None,
) -> Effects:
    """Add `coefficient * vector` at each place in turn.

    at          a place or a list of places: "resid_post.5", "a9.h6", Site("resid_pre", 3)
    positions   only there, names or indices (default: everywhere)

    Raises InputError for a vector that is not as wide as the place.
    """
    return plan_steer(
        model, prompts, vector, at=at, coefficient=coefficient, positions=positions, metric=metric, memory=memory
    ).run(resume)  # fmt: skip


def plan_steer(
    model: TraceModel,
    prompts: PromptSet,
    vector: Float[Tensor, " d"],
    *,
    at: Written | list[Written],
    coefficient: float = 1.0,
    positions: Sequence[Position] | None = None,
    metric: MetricLike | None = None,
    memory: Memory = "auto",
) -> Declared:
    """The same, to be looked at before it is run: `.plan` says passes and memory, `.run()` gives the effects."""
    arch, bound = describe(model), metric_of(model, prompts, metric)
    places: list[Any] = at if isinstance(at, list) else [at]
    sites = [_site(written, vector, arch) for written in places]
    where = mask_of(prompts, tuple(positions or ()))
    variants = [[Change(site, Add(coefficient * vector), where)] for site in sites]
    sweep = Sweep(model, prompts, bound, variants, prompts.clean, None, memory=memory, label="steering")
    options: dict[str, Any] = {"coefficient": coefficient, "norm": vector.norm().item()}
    return Declared(sweep, tuple((site,) for site in sites), "steering", options)


@torch.no_grad()
def steering_vector(
    model: TraceModel, prompts: PromptSet, *, at: Written, position: Position = "END"
) -> Float[Tensor, " d"]:
    """Mean of the activation on the clean prompts less its mean on the corrupted ones, at one position. Cost: 2 F."""
    prompts = as_prompts(model, prompts)
    prompts.require_corruption("A steering vector")
    arch = describe(model)
    site, where = site_of(read_place(at, arch), arch), mask_of(prompts, (position,))
    assert where is not None
    means = []
    for side in ("clean", "corrupted"):
        kept = part(keep_sites(model, prompts.side(side), [name_of(site)])[name_of(site)], site)
        means.append(kept[where.to(kept.device)].mean(0))
    return means[0] - means[1]


@dataclass(frozen=True, eq=False)
class Generation:
    """What a model went on to say. `tokens`: prompt and continuation; `start`: where the continuation begins."""

    tokens: Int[Tensor, " pos"]
    start: int
    text: str
    continuation: str
    options: dict[str, Any]
    provenance: dict[str, Any]

    def __repr__(self) -> str:
        return f"Generation({self.continuation!r} after {self.start} tokens)"


@torch.no_grad()
def generate(
    model: TraceModel,
    prompt: str | Int[Tensor, " pos"],
    *,
    vector: Float[Tensor, " d"] | None = None,
    at: Written | None = None,
    coefficient: float = 1.0,
    max_new_tokens: int = 20,
    temperature: float = 0.0,
    seed: int = 0,
) -> Generation:
    """Go on with `prompt`, with `coefficient * vector` added at a place at every position of every step.

    prompt        text, or token ids as they are
    temperature   0: the likeliest token at each step; above: sampled with `seed`
    Stops at the end-of-sequence token. Cost: one full pass per token. Raises LimitError over the context length.
    """
    arch, reader = describe(model), TokenReader.of(model)
    tokens = prompt.cpu().long() if isinstance(prompt, Tensor) else torch.tensor(reader.ids(prompt))
    if (vector is None) != (at is None):
        raise InputError("Expected a vector and the place where it is added, got one of them; say both or neither.")
    if max_new_tokens < 1 or temperature < 0:
        raise InputError(
            f"Expected at least one new token and a temperature of at least 0, got {max_new_tokens} and {temperature}."
        )
    if len(tokens) + max_new_tokens > arch.n_ctx:
        raise LimitError(
            f"Expected at most {arch.n_ctx} tokens in all, got {len(tokens)} and {max_new_tokens} new ones; "
            "ask for fewer."
        )
    changes = []
    if vector is not None and at is not None:
        changes = [Change(_site(at, vector, arch), Add(coefficient * vector))]
        require_live(model, [name_of(change.site) for change in changes])
    generator, start = torch.Generator().manual_seed(seed), len(tokens)
    for _ in track(range(max_new_tokens), "generating"):
        final = final_residual(model, tokens[None], hooks_of([changes], 1))[:, -1]
        logits = unembed(model, final)[0].float().cpu()
        if temperature > 0:
            chosen = torch.multinomial((logits / temperature).softmax(-1), 1, generator=generator)
        else:
            chosen = logits.argmax(-1, keepdim=True)
        tokens = torch.cat([tokens, chosen])
        if int(chosen) == reader.tokenizer.eos_token_id:
            break
    steered = {} if at is None else {"at": str(_site(at, vector, arch)), "coefficient": coefficient}
    return Generation(
        tokens=tokens,
        start=start,
        text=reader.tokenizer.decode(tokens.tolist()),
        continuation=reader.tokenizer.decode(tokens[start:].tolist()),
        options={**steered, "temperature": temperature, "seed": seed},
        provenance=provenance(model).as_dict(),
    )


def _site(written: Written, vector: Tensor | None, arch: Architecture) -> Site:
    """The place, refused where the vector does not fit."""
    site = site_of(read_place(written, arch), arch)
    wide = {"z": arch.d_head, "q": arch.d_head, "k": arch.d_head, "v": arch.d_head}.get(site.kind, arch.d_model)
    if site.kind in ("pattern", "scores", "mlp_pre", "mlp_post") or (wide == arch.d_head and site.index is None):
        raise InputError(f"Expected a residual stream, an output or one head to steer, got {site}.")
    if vector is None or vector.shape != (wide,):
        got = None if vector is None else list(vector.shape)
        raise InputError(f"Expected a vector of shape [{wide}] for {site}, got {got}.")
    return site
