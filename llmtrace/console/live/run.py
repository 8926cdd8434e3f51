"""A run: one prompt or two, an answer and its foil, and the edits that stand on the model. Its numbers, and its name.

The answer is what the model says after the prompt, the foil what it says after the other prompt (or its second choice),
unless somebody names them. `id` is a hash of the weights, the tokens, the answers and the edits: the same run again is
the same id.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from llmtrace.console.kept import Kept
from llmtrace.console.live.token_text import token_of
from llmtrace.console.program import Answer, Program
from llmtrace.console.schemas import Ablate, Edit, KnockOut, Limits, NewRun, Patch, Prediction, Run, Side, Steer
from llmtrace.errors import InputError, LimitError
from llmtrace.interventions import (
    Ablate as Ablated,
    KnockOut as KnockedOut,
    PatchIn,
    Steer as Steered,
    edited,
)
from llmtrace.models import TraceModel, final_residual, provenance, unembed
from llmtrace.prompts import PromptSet
from llmtrace.prompts.making.assemble import NO_CORRUPTION, Pair, assemble
from llmtrace.prompts.making.token_reader import TokenReader

TOP = 10
AT_ONCE = 256  # positions whose logits are held together


@dataclass(frozen=True, eq=False)
class LiveRun:
    """`about`: what is sent; `program`: the Python that makes it; `patterns`: attention that was asked for, by run and
    layer, for the next one who asks."""

    about: Run
    prompts: PromptSet
    program: Program
    patterns: Kept[Tensor]

    @property
    def id(self) -> str:
        return self.about.id

    @contextmanager
    def on(self, model: TraceModel) -> Iterator[TraceModel]:
        """The model with the run's edits on it."""
        with edited(model, self.prompts, self.edits):
            yield model

    @property
    def edits(self) -> list[Ablated | PatchIn | KnockedOut | Steered]:
        return [library_edit(edit, self.prompts) for edit in self.about.edits]


@torch.no_grad()
def read_run(model: TraceModel, asked: NewRun, limits: Limits, load: str, patterns: Kept[Tensor]) -> LiveRun:
    """Raises InputError for prompts that do not fit each other, an answer that is no token or an edit that is none,
    LimitError over `limits`."""
    require_within(asked, limits)
    reader = TokenReader.of(model)
    ids = _tokens(reader, asked.prompt, limits)
    others = ids if asked.against is None else _tokens(reader, asked.against, limits)
    correct, wrong = _answers(model, reader, asked, ids, others)
    pair = Pair(asked.prompt, asked.against or asked.prompt, ids, others, (correct,), (wrong,))
    prompts = assemble("console", [pair], reader, corruption=NO_CORRUPTION if asked.against is None else "")
    right, foil = (Answer(token, _word(reader, token)) for token in (correct, wrong))
    program = Program(load, asked.prompt, asked.against, right, foil, tuple(asked.edits))
    origin = provenance(model).as_dict()
    parts = (origin["weights"], origin["hooks"], ids, others, correct, wrong)
    before, after = (_digest(*parts, edits) for edits in ([], [edit.model_dump_json() for edit in asked.edits]))
    clean = _side(model, prompts, "clean")
    sides = [clean, None if asked.against is None else _side(model, prompts, "corrupted")]
    if asked.edits:
        with edited(model, prompts, [library_edit(edit, prompts) for edit in asked.edits]):
            sides = [_side(model, prompts, "clean"), sides[1] and _side(model, prompts, "corrupted")]
    assert sides[0] is not None
    about = Run(
        id=after, parent=before if asked.edits else None, name=asked.name or _name(asked), clean=sides[0],
        against=sides[1], correct=token_of(model, correct), wrong=token_of(model, wrong), metric="logit_diff",
        value=sides[0].metric, before=clean.metric, edits=asked.edits,
        python=program.of(
            "metric = prompts.metric()",
            "final = lt.models.final_residual(model, prompts.clean)",
            "result = metric.of_residual(model, metric.here(final)).item()",
        ),
        provenance=origin,
    )  # fmt: skip
    return LiveRun(about, prompts, program, patterns)


def library_edit(edit: Edit, prompts: PromptSet) -> Ablated | PatchIn | KnockedOut | Steered:
    """The library's own value of an edit. A mean is one over all positions: of a single prompt there is no other."""
    match edit:
        case Ablate():
            side = "corrupted" if prompts.has_corruption else "clean"
            return Ablated(edit.node, edit.how, edit.positions, over="global", reference=side)  # type: ignore[arg-type]
        case Patch():
            return PatchIn(edit.node, edit.positions)
        case KnockOut():
            return KnockedOut(edit.layer, edit.head, edit.query, edit.key)
        case Steer():
            return Steered(edit.layer, edit.coefficient)


def require_within(asked: NewRun, limits: Limits) -> None:
    """Before anything is read of it."""
    for what in ("prompt", "against", "correct", "wrong", "name"):
        text = getattr(asked, what) or ""
        if len(text) > limits.prompt_characters:
            raise LimitError(
                f"Expected {what} of at most {limits.prompt_characters:,} characters, got {len(text):,}; shorten it."
            )
    if len(asked.edits) > limits.edits:
        raise LimitError(f"Expected at most {limits.edits} edits at once, got {len(asked.edits)}; undo some.")


def _tokens(reader: TokenReader, text: str, limits: Limits) -> list[int]:
    ids = reader.ids(text)
    if len(ids) > limits.tokens:
        raise LimitError(f"Expected a prompt of at most {limits.tokens:,} tokens, got {len(ids):,}; shorten it.")
    return ids


def _answers(
    model: TraceModel, reader: TokenReader, asked: NewRun, ids: Sequence[int], others: Sequence[int]
) -> tuple[int, int]:
    """The named ones, or what the unedited model says."""
    first, second = (_ranked(model, ids) if asked.correct is None or asked.wrong is None else [0, 0])[:2]
    correct = first if asked.correct is None else reader.answer(asked.correct)
    if asked.wrong is not None:
        wrong = reader.answer(asked.wrong)
        if wrong == correct:
            raise InputError(f"Expected an answer and a foil that differ, got {asked.wrong!r} for both; name another.")
        return correct, wrong
    there = _ranked(model, others)[0] if asked.against is not None else correct
    return correct, next(token for token in (there, first, second) if token != correct)


def _ranked(model: TraceModel, ids: Sequence[int]) -> list[int]:
    """The likeliest tokens after a prompt."""
    found: list[int] = unembed(model, final_residual(model, torch.tensor([ids]))[:, -1])[0].topk(2).indices.tolist()
    return found


def _word(reader: TokenReader, token: int) -> str | None:
    """The text of an answer, where it gives the token back."""
    text = reader.pieces([token])[0]
    try:
        return text if reader.answer(text) == token else None
    except InputError:
        return None


def _side(model: TraceModel, prompts: PromptSet, side: str) -> Side:
    """What the model makes of one prompt, as it is at this moment."""
    tokens = prompts.side(side)
    final, metric = final_residual(model, tokens), prompts.metric()
    said = _log_probability(model, final[0], tokens[0])
    logits = unembed(model, final[:, -1])[0].double().cpu()
    log_p = logits.log_softmax(-1)
    best = logits.topk(min(TOP, len(logits)))
    return Side(
        prompt=(prompts.texts if side == "clean" else prompts.corrupted_texts)[0],
        tokens=[token_of(model, token) for token in tokens[0].tolist()],
        log_probability=[None, *said.tolist()],
        top=[
            Prediction(token=token_of(model, token), probability=log_p[token].exp().item(), logit=logit)
            for token, logit in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        ],
        metric=metric.of_residual(model, metric.here(final)).item(),
        entropy=-(log_p.exp() * log_p.clamp(min=-1e4)).sum().item(),
    )


def _log_probability(
    model: TraceModel, final: Float[Tensor, "pos d_model"], tokens: Int[Tensor, " pos"]
) -> Float[Tensor, " later"]:
    """Of each token but the first, given those before it."""
    found = [
        unembed(model, some[:, None])[:, 0].double().log_softmax(-1).cpu().gather(-1, token[:, None])[:, 0]
        for some, token in zip(final[:-1].split(AT_ONCE), tokens[1:].split(AT_ONCE), strict=True)
    ]
    return torch.cat(found) if found else final.new_zeros(0)


def _name(asked: NewRun) -> str:
    edits = [getattr(edit, "node", f"layer {getattr(edit, 'layer', '')}") for edit in asked.edits]
    return " + ".join(edits) if edits else asked.prompt[:40]


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
