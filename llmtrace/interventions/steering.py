"""Steering: add a vector to an activation, once or at every step of a generation.

    x := x + coefficient * vector

`steering_vector` is the difference of means between clean and corrupted prompts at a place. Source: Turner et al. 2023
(activation addition), Rimsky et al. 2024 (contrastive activation addition). Cost: one kept pass, then each place
from its layer on; a generation is one full pass per token. Sign: positive change = the vector raises the
metric. Known failure: a large coefficient breaks the text before it changes the topic.

    >>> vector = lt.interventions.steering_vector(model, prompts, place="resid_post.2")
    >>> lt.interventions.steer(model, prompts, vector, places="resid_post.2")
    Effects(steering on logit_diff: 1 interventions, 4 prompts, before 8.72; resid_post 2 +0.249)
    >>> lt.interventions.generate(model, prompts.texts[0], max_new_tokens=2)
    Generation('Eric.' after 15 tokens)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, overload

import torch
from jaxtyping import Float, Int
from torch import Tensor

from llmtrace.errors import InputError, LimitError
from llmtrace.interventions.effects import Effects
from llmtrace.interventions.engine.base_run import keep_sites
from llmtrace.interventions.engine.changes import Add, Change
from llmtrace.interventions.engine.hooks import hooks_of, name_of, part
from llmtrace.interventions.engine.places import Masks, Written, read_place, site_of
from llmtrace.interventions.engine.sweep import Sweep
from llmtrace.metrics import MetricLike
from llmtrace.models import Architecture, TraceModel, describe, final_residual, provenance, require_live, unembed
from llmtrace.models.memory import Memory
from llmtrace.nodes import Site
from llmtrace.plan import Declaration, declares
from llmtrace.progress import track
from llmtrace.prompts import PromptSet, as_prompts, metric_of
from llmtrace.prompts.choice import Choice
from llmtrace.prompts.making.token_reader import TokenReader


@declares
def steer(
    model: TraceModel,
    prompts: PromptSet,
    vector: Float[Tensor, " d"],
    *,
    places: Written | list[Written],
    coefficient: float = 1.0,
    positions: Choice | None = None,
    metric: MetricLike | None = None,
    memory: Memory = "auto",
    resume: str | Path | None = None,
) -> Declaration[Effects]:
    """Add `coefficient * vector` at each place in turn.

    places      a place or a list of places: "resid_post.5", "a9.h6", Site("resid_pre", 3)
    positions   only there, names or indices (default: everywhere, or where a place says: "resid_post.5@END")

    Raises InputError for a vector that is not as wide as the place, or no place at all.
    """
    arch, bound, masks = describe(model), metric_of(model, prompts, metric), Masks(prompts)
    written = places if isinstance(places, list) else [places]
    if not written:
        raise InputError("Expected a place to steer at, got none; write places='resid_post.5', for instance.")
    at = written if positions is None else [(place, prompts.chosen(positions)) for place in written]
    sites = [_site(place, vector, arch, prompts) for place in at]
    variants = [[Change(site, Add(coefficient * vector), masks[site.at])] for site in sites]
    options: dict[str, Any] = {"coefficient": coefficient, "norm": vector.norm().item()}
    return Sweep(
        model=model, prompts=prompts, metric=bound, base=prompts.clean, variants=variants,
        nodes=tuple((site,) for site in sites), method="steering", options=options, memory=memory, resume=resume,
        label="steering",
    )  # fmt: skip


@torch.no_grad()
def steering_vector(
    model: TraceModel, prompts: PromptSet, *, place: Written, position: Choice = "END"
) -> Float[Tensor, " d"]:
    """Mean of the activation on the clean prompts less its mean on the corrupted ones, at one position. Cost: 2 F."""
    prompts = as_prompts(model, prompts)
    prompts.require_corruption("A steering vector")
    arch = describe(model)
    site, where = _everywhere(place, arch), prompts.position(position)
    means = []
    for side in ("clean", "corrupted"):
        kept = part(keep_sites(model, prompts.side(side), [name_of(site)])[name_of(site)], site)
        means.append(kept[torch.arange(len(where)), where.to(kept.device)].mean(0))
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


@overload
def generate(
    model: TraceModel,
    prompt: str | Int[Tensor, " pos"],
    *,
    vector: Float[Tensor, " d"] | None = ...,
    place: Written | None = ...,
    coefficient: float = ...,
    max_new_tokens: int = ...,
    temperature: float = ...,
    seed: int = ...,
) -> Generation: ...


@overload
def generate(
    model: TraceModel,
    prompt: list[str] | tuple[str, ...],
    *,
    vector: Float[Tensor, " d"] | None = ...,
    place: Written | None = ...,
    coefficient: float = ...,
    max_new_tokens: int = ...,
    temperature: float = ...,
    seed: int = ...,
) -> tuple[Generation, ...]: ...


@torch.no_grad()
def generate(
    model: TraceModel,
    prompt: str | Int[Tensor, " pos"] | list[str] | tuple[str, ...],
    *,
    vector: Float[Tensor, " d"] | None = None,
    place: Written | None = None,
    coefficient: float = 1.0,
    max_new_tokens: int = 20,
    temperature: float = 0.0,
    seed: int = 0,
) -> Generation | tuple[Generation, ...]:
    """Go on with `prompt`, with `coefficient * vector` added at a place at every position of every step.

    prompt        text, or token ids as they are; several texts give a generation of each, as if asked for alone
    temperature   0: the likeliest token at each step; above: sampled with `seed`
    Stops at the end-of-sequence token. Cost: one full pass per token. Raises LimitError over the context length.
    """
    if isinstance(prompt, list | tuple):
        return tuple(
            generate(
                model, text, vector=vector, place=place, coefficient=coefficient, max_new_tokens=max_new_tokens,
                temperature=temperature, seed=seed,
            )
            for text in prompt
        )  # fmt: skip
    arch, reader = describe(model), TokenReader.of(model)
    tokens = prompt.cpu().long() if isinstance(prompt, Tensor) else torch.tensor(reader.ids(prompt))
    if not len(tokens) or not 0 <= int(tokens.min()) <= int(tokens.max()) < arch.d_vocab:
        raise InputError(f"Expected token ids from 0 to {arch.d_vocab - 1}, got {tokens.tolist()}; write the text.")
    if vector is None and coefficient != 1.0:
        raise InputError(f"Expected coefficient= with a vector, got {coefficient} without one; leave it out.")
    if (vector is None) != (place is None):
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
    if vector is not None and place is not None:
        changes = [Change(_site(_everywhere(place, arch), vector, arch), Add(coefficient * vector))]
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
    steered = {} if place is None else {"place": str(_site(place, vector, arch)), "coefficient": coefficient}
    return Generation(
        tokens=tokens,
        start=start,
        text=reader.tokenizer.decode(tokens.tolist()),
        continuation=reader.tokenizer.decode(tokens[start:].tolist()),
        options={**steered, "temperature": temperature, "seed": seed},
        provenance=provenance(model).as_dict(),
    )


def _everywhere(written: Written, arch: Architecture) -> Site:
    """The place of an activation, refused where it says positions, which would not be read."""
    site = site_of(read_place(written, arch), arch)
    if site.at or site.keys:
        raise InputError(f"Expected a place without positions, got {site}; write {replace(site, at=(), keys=())}.")
    return site


def _site(written: Written, vector: Tensor | None, arch: Architecture, prompts: PromptSet | None = None) -> Site:
    """The place, refused where the vector does not fit."""
    site = site_of(read_place(written, arch, prompts), arch)
    wide = {"z": arch.d_head, "q": arch.d_head, "k": arch.d_head, "v": arch.d_head}.get(site.kind, arch.d_model)
    if site.kind in ("pattern", "scores", "mlp_pre", "mlp_post") or (wide == arch.d_head and site.index is None):
        raise InputError(f"Expected a residual stream, an output or one head to steer, got {site}.")
    if vector is None or vector.shape != (wide,):
        got = None if vector is None else list(vector.shape)
        raise InputError(f"Expected a vector of shape [{wide}] for {site}, got {got}.")
    return site
