"""The logit lens on chosen tokens: their probability and rank at every stage and position.

    p = softmax(unembed(final_norm(resid_stage)))        rank = 1 + number of tokens with a larger logit

Source: nostalgebraist 2020. Cost: one forward pass, and one unembedding per stage (of one stage and batch at a time).
Law: at the last stage these are the model's own probabilities (law 7). Sign: a probability, and rank 1 is the token
that the stage would say.
Known failure: early stages need not be written in the final layer's basis; a low rank there is not ignorance.

    >>> lens = lt.influence.token_lens(model, prompts)
    >>> lens.first_stage(0, 0)
    '3_mid'
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from llmtrace.errors import InputError
from llmtrace.influence.stages import stream_stages
from llmtrace.models import TraceModel, describe, provenance, require_readout, token_labels, unembed
from llmtrace.models.memory import Memory, in_one_pass
from llmtrace.progress import track
from llmtrace.prompts import PromptSet, as_prompts
from llmtrace.prompts.choice import Choice
from llmtrace.results import Result
from llmtrace.signals import capture

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class TokenLens(Result):
    """`positions`: where it was read, per prompt (-1: padding); `rank` 1 is the first choice."""

    stages: tuple[str, ...]
    probability: Float[Tensor, "stage batch pos token"]
    rank: Int[Tensor, "stage batch pos token"]
    top_tokens: tuple[tuple[tuple[str, ...], ...], ...]  # stage, prompt, position
    top_probability: Float[Tensor, "stage batch pos"]
    tokens: tuple[tuple[str, ...], ...]  # prompt, chosen token
    positions: Int[Tensor, "batch pos"]
    labels: tuple[tuple[str, ...], ...]  # prompt, every position: the prompt's own tokens
    provenance: Mapping[str, Any]

    def df(self) -> pd.DataFrame:
        """One row per stage, prompt, position and chosen token; padding has none."""
        import pandas as pd

        rows = [
            (stage, prompt, at, self.labels[prompt][at], token, self.probability[s, prompt, p, t].item(),
             int(self.rank[s, prompt, p, t]), self.top_tokens[s][prompt][p], self.top_probability[s, prompt, p].item())
            for s, stage in enumerate(self.stages)
            for prompt, places in enumerate(self.positions.tolist())
            for p, at in enumerate(places)
            for t, token in enumerate(self.tokens[prompt])
            if at >= 0
        ]  # fmt: skip
        columns = ["stage", "prompt", "position", "at", "token", "probability", "rank", "top_token", "top_probability"]
        return pd.DataFrame(rows, columns=columns)

    def first_stage(self, prompt: int = 0, token: int = 0, position: int = -1) -> str | None:
        """The stage from which on a token stays the first choice; None where it is not the first choice at the end."""
        firsts = (self.rank[:, prompt, position, token] == 1).tolist()
        if not firsts[-1]:
            return None
        return self.stages[max((i + 1 for i, first in enumerate(firsts) if not first), default=0)]

    def __repr__(self) -> str:
        _, prompts, places, tokens = self.rank.shape
        return f"TokenLens({len(self.stages)} stages, {prompts} prompts x {places} positions x {tokens} tokens)"


@torch.no_grad()
def token_lens(
    model: TraceModel,
    prompts: PromptSet | str | Sequence[str],
    *,
    tokens: Sequence[Sequence[int]] | Sequence[str] | None = None,
    positions: Choice | None = "END",
    memory: Memory = "auto",
) -> TokenLens:
    """Rank and probability of `tokens` at every stage.

    tokens      the same number for each prompt: numbers per prompt, or words for all prompts alike (default: the first
                correct and the first wrong answer; where there are none, what the model says in the end)
    positions   names or numbers of places; None: every token of the prompts
    memory      for a pass beside what is read of it: bytes, "300MB" or "auto"
    """
    prompts = as_prompts(model, prompts)
    require_readout(model)
    arch, places = describe(model), _places(prompts, positions)
    stages = stream_stages(arch)
    given = None if tokens is None and not all(prompts.correct) else _tokens(model, prompts, tokens)
    parts: list[_Read] = []
    at_once = in_one_pass(arch, prompts.clean.shape[1], memory, model.W_E)
    for chunk in track(prompts.batches(at_once), "reading stages"):
        at = places[chunk]
        trace = capture(model, prompts[chunk], what=tuple(stages.values()), positions=None if positions is None else at)
        some = None if given is None else given[chunk]
        slots = at if positions is None else torch.arange(at.shape[1]).expand_as(at)
        parts.append(_read(model, [trace[name] for name in stages.values()], slots, some))
    chosen = torch.cat([part.tokens for part in parts])
    best = torch.cat([part.top for part in parts], 1)
    top = tuple(token_labels(model, stage.flatten(0, 1)[:, None]) for stage in best)
    width = places.shape[1]
    return TokenLens(
        stages=tuple(stages),
        probability=torch.cat([part.probability for part in parts], 1),
        rank=torch.cat([part.rank for part in parts], 1),
        top_tokens=tuple(
            tuple(tuple(row[0] for row in stage[p * width : (p + 1) * width]) for p in range(len(prompts)))
            for stage in top
        ),
        top_probability=torch.cat([part.top_probability for part in parts], 1),
        tokens=token_labels(model, chosen),
        positions=places,
        labels=token_labels(model, prompts.clean),
        provenance=provenance(model).as_dict(),
    )


@dataclass(frozen=True, eq=False)
class _Read:
    tokens: Int[Tensor, "batch token"]
    probability: Float[Tensor, "stage batch pos token"]
    rank: Int[Tensor, "stage batch pos token"]
    top: Int[Tensor, "stage batch pos"]
    top_probability: Float[Tensor, "stage batch pos"]


def _read(model: TraceModel, stages: list[Tensor], at: Int[Tensor, "batch pos"], tokens: Tensor | None) -> _Read:
    """One batch; the logits of one stage at a time."""
    rows = torch.arange(len(at))[:, None]
    if tokens is None:  # what the model says at the last of the places asked for
        last = stages[-1][rows[:, 0], at.max(1).values]
        tokens = unembed(model, last).argmax(-1)[:, None].cpu()
    probability, rank, top, top_probability = [], [], [], []
    for stream in stages:
        logits = unembed(model, stream[rows, at.clamp(min=0)].transpose(0, 1)).transpose(0, 1)
        logits = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
        wanted = tokens[:, None].expand(-1, at.shape[1], -1).to(logits.device)
        own = logits.gather(-1, wanted)
        log_total = logits.logsumexp(-1, keepdim=True)
        best = logits.max(-1)
        probability.append((own - log_total).exp())
        rank.append(1 + torch.stack([(logits > own[..., [t]]).sum(-1) for t in range(own.shape[-1])], -1))
        top.append(best.indices)
        top_probability.append((best.values - log_total[..., 0]).exp())
    return _Read(tokens, *(torch.stack(x) for x in (probability, rank, top, top_probability)))


def _places(prompts: PromptSet, positions: Choice | None) -> Int[Tensor, "batch pos"]:
    if positions is None:
        every = torch.arange(prompts.clean.shape[1]).expand(len(prompts), -1)
        return every.where(prompts.mask, -1)
    return prompts.places(positions)


def _tokens(model: Any, prompts: PromptSet, tokens: Any) -> Int[Tensor, "batch token"]:
    if tokens is None:
        sides = (prompts.correct, prompts.wrong) if all(prompts.wrong) else (prompts.correct,)
        return torch.tensor([[side[i][0] for side in sides] for i in range(len(prompts))])
    if not isinstance(tokens, Sequence) or isinstance(tokens, str) or not tokens:
        raise InputError(f"Expected a list of words, or of token numbers per prompt, got {tokens!r}; write [' Mary'].")
    if all(isinstance(word, str) for word in tokens):
        from llmtrace.prompts.making.token_reader import TokenReader

        reader = TokenReader.of(model)
        return torch.tensor([[reader.answer(word) for word in tokens]] * len(prompts))
    rows = [list(row) if isinstance(row, Sequence) else [row] for row in tokens]
    size = describe(model).d_vocab
    if len(rows) != len(prompts) or len({len(row) for row in rows}) != 1 or not rows[0]:
        raise InputError(
            f"Expected the same number of tokens for each of {len(prompts)} prompts, got {[len(row) for row in rows]}."
        )
    if not all(isinstance(t, int) and 0 <= t < size for row in rows for t in row):
        raise InputError(f"Expected token numbers from 0 to {size - 1}, got {rows[0]}; words are given as text.")
    return torch.tensor(rows)
