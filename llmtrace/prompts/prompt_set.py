"""`PromptSet`: what a model is asked, what it is compared with, and which answers count."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Iterator, Sized
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import pandas as pd
import torch

from llmtrace.arguments import shown
from llmtrace.errors import InputError, MismatchError, NotFoundError, did_you_mean
from llmtrace.metrics import METRICS, Metric, custom
from llmtrace.nodes import Position
from llmtrace.prompts.choice import Choice, read_positions
from llmtrace.prompts.fingerprints import fingerprints, require_same
from llmtrace.results import Result
from llmtrace.shapes import Int, PositionMask, Positions, Tensor, Tokens


@dataclass(frozen=True, eq=False, repr=False)
class PromptSet(Result):
    """Clean and corrupted prompts, token for token of equal length, padded on the right. Immutable, on the CPU.

    lengths            real tokens of each prompt, BOS included; clean and corrupted have the same
    correct, wrong     per prompt, one or more answer tokens (`wrong` may be empty where a metric needs none)
    positions          named token positions per prompt, BOS counted; answers are read at "END", the last real token
    groups             which of `group_names` (template and order) a prompt was made from: mean ablation averages within
    corruption         name of the corruption that made the corrupted prompts
    left_out           what the tokenizer could not say in one token, counted: {"names": 3}
    answer_texts       the answers as text, by token
    vocabulary         what the tokenizer calls each token that is used, so that a model with another one is refused;
                       empty: made from token ids, nobody knows
    default_metric     what `.metric()` gives
    """

    _together = "make them together: from_pairs(model, [*pairs, *others])"

    name: str
    clean: Tokens
    corrupted: Tokens
    lengths: Positions
    correct: tuple[tuple[int, ...], ...]
    wrong: tuple[tuple[int, ...], ...]
    positions: dict[str, Positions]
    groups: Positions
    group_names: tuple[str, ...]
    texts: tuple[str, ...]
    corrupted_texts: tuple[str, ...]
    seed: int | None
    prepend_bos: bool
    pad_id: int
    left_out: dict[str, int] = field(default_factory=dict)
    corruption: str = ""
    answer_texts: dict[int, str] = field(default_factory=dict)
    vocabulary: dict[int, str] = field(default_factory=dict)
    default_metric: str = "logit_diff"

    def __post_init__(self) -> None:
        n = len(self.clean)
        if n == 0:
            raise InputError("Expected at least one prompt, got none; give a pair, or ask a maker for n >= 1.")
        if self.corrupted.shape != self.clean.shape:
            raise InputError(
                f"Expected corrupted prompts of shape {list(self.clean.shape)}, got {list(self.corrupted.shape)}; "
                "pair every prompt with one of the same length."
            )
        per_prompt: dict[str, Sized] = {
            "lengths": self.lengths, "correct": self.correct, "wrong": self.wrong, "groups": self.groups,
            "texts": self.texts, "corrupted_texts": self.corrupted_texts, **self.positions,
        }  # fmt: skip
        for what, values in per_prompt.items():
            if len(values) != n:
                raise InputError(f"Expected {what} for {n} prompts, got {len(values)}; give one for each prompt.")
        if int(self.lengths.min()) < 1 or int(self.lengths.max()) > self.clean.shape[1]:
            raise InputError(
                f"Expected lengths from 1 to {self.clean.shape[1]}, got {int(self.lengths.min())} to "
                f"{int(self.lengths.max())}; count the tokens of each prompt, BOS included, padding not."
            )
        for what, at in self.positions.items():
            if bool((at < 0).any() | (at >= self.lengths).any()):
                raise InputError(f"Expected position {what!r} inside every prompt, got {at.tolist()}; count from BOS.")
        if "END" not in self.positions or not torch.equal(self.positions["END"], self.lengths - 1):
            raise InputError(
                "Expected positions['END'] to be lengths - 1, the last real token; padding is on the right."
            )

    def __len__(self) -> int:
        return len(self.clean)

    @property
    def mask(self) -> PositionMask:
        """True at real tokens, False at padding."""
        return torch.arange(self.clean.shape[1]) < self.lengths[:, None]

    def __getitem__(self, index: Any) -> PromptSet:
        """Some of the prompts (an int, a slice, a list or a mask), without the padding that they no longer need."""
        try:
            chosen = torch.arange(len(self))[index].reshape(-1)
        except (IndexError, TypeError, ValueError, RuntimeError) as error:
            place = isinstance(index, str) and index in self.positions
            advice = f"where it stands is .position({index!r})" if place else "see .df()"
            raise InputError(
                f"Expected prompts 0 to {len(self) - 1} (a number, a list, a slice or a mask), got {shown(index)}; "
                f"{advice}."
            ) from error
        if len(chosen) == 0:
            raise InputError(f"Expected to take at least one of {len(self)} prompts, got none; choose another index.")
        longest = int(self.lengths[chosen].max())
        rows = chosen.tolist()
        return replace(
            self,
            clean=self.clean[chosen, :longest],
            corrupted=self.corrupted[chosen, :longest],
            lengths=self.lengths[chosen],
            correct=tuple(self.correct[i] for i in rows),
            wrong=tuple(self.wrong[i] for i in rows),
            positions={name: at[chosen] for name, at in self.positions.items()},
            groups=self.groups[chosen],
            texts=tuple(self.texts[i] for i in rows),
            corrupted_texts=tuple(self.corrupted_texts[i] for i in rows),
        )

    def __iter__(self) -> Iterator[PromptSet]:
        return (self[row] for row in range(len(self)))

    def side(self, side: str) -> Tokens:
        """The "clean" or the "corrupted" tokens."""
        if side not in ("clean", "corrupted"):
            raise InputError(f"Expected side 'clean' or 'corrupted', got {side!r}; choose one.")
        return self.clean if side == "clean" else self.corrupted

    @cached_property
    def fingerprints(self) -> Positions:
        """A number that stands for each clean prompt; metrics, spans and scores carry those of theirs."""
        return fingerprints(self.clean, self.lengths)

    @property
    def has_corruption(self) -> bool:
        """Whether any corrupted prompt differs from its clean one."""
        return not torch.equal(self.clean, self.corrupted)

    def require_corruption(self, method: str) -> None:
        """Refuse prompts that have nothing to patch in: every difference would be 0, whatever the model does."""
        if not self.has_corruption:
            raise InputError(
                f"{method} needs corrupted prompts that differ from the clean ones, got {self.name!r}, which has none; "
                "make prompts with ioi(model) or from_pairs(model, pairs)."
            )

    def chosen(self, asked: Choice, what: str = "positions", *, least: int = 1) -> tuple[Position, ...]:
        """Names and numbers of what was written: a name, a number, a list of them, a slice, a mask (`choice.py`)."""
        return read_positions(asked, self.lengths, what, least=least)

    def position(self, place: Choice) -> Positions:
        """Where a named position is in each prompt; an index (negative: from the end of the real tokens) as well."""
        place, *others = self.chosen(place)
        if others:
            raise InputError(f"Expected one position, got {len(others) + 1}; write 'END' or -1.")
        if isinstance(place, str):
            if place not in self.positions:
                known = list(self.positions)
                raise NotFoundError(
                    f"Expected a named position, one of {', '.join(known)}, or an index; got {place!r}."
                    + did_you_mean(place, known)
                )
            return self.positions[place]
        at = self.lengths + place if place < 0 else torch.full_like(self.lengths, place)
        if bool((at < 0).any() | (at >= self.lengths).any()):
            raise InputError(
                f"Expected a position inside every prompt, the shortest of which has {int(self.lengths.min())} tokens, "
                f"got {place}; take fewer prompts or another position."
            )
        return at

    def places(self, asked: Choice, what: str = "positions", *, least: int = 1) -> Int[Tensor, "batch place"]:
        """`position` of each that was chosen; `what` they are, for the sentence that refuses fewer than `least`."""
        none = self.lengths.new_empty(len(self), 0)
        return torch.cat([none, *(self.position(place)[:, None] for place in self.chosen(asked, what, least=least))], 1)

    def batches(self, size: int | None) -> list[slice]:
        """Slices of at most `size` prompts (None: all at once): what goes through in one pass."""
        whole = isinstance(size, int) and not isinstance(size, bool)
        if size is not None and (not whole or size < 1):
            raise InputError(f"Expected a batch size of at least 1, got {size!r}; leave it out for all at once.")
        step = size or len(self)
        return [slice(start, start + step) for start in range(0, len(self), step)]

    def metric(self, metric: str | Metric | Callable[..., Any] | None = None, *, reference: Any = None) -> Metric:
        """A metric of these prompts' answers, read at END.

        `metric`: a name of `METRICS` (None: this set's own, `default_metric`), a function of logits
        [*lead batch d_vocab], or a `Metric`, which is returned as it is (MismatchError for one of other prompts).
        `reference`: logits of the reference run ([batch pos d_vocab] or [batch d_vocab]), for "kl".
        """
        if isinstance(metric, Metric):
            if len(metric) != len(self):
                raise MismatchError(
                    f"Expected a metric of these {len(self)} prompts, got one of {len(metric)}; "
                    "slice metric and prompts alike."
                )
            require_same("a metric", metric.fingerprints, self.fingerprints)
            return metric
        return replace(self._bound(metric, reference), fingerprints=self.fingerprints)

    def _bound(self, metric: str | Callable[..., Any] | None, reference: Any) -> Metric:
        end = self.positions["END"]
        if callable(metric):
            for row in METRICS.values():
                if inspect.unwrap(metric) is inspect.unwrap(row.function):
                    raise InputError(
                        f"Expected a metric as a name, a function of logits or a Metric, got the function {row.name}, "
                        f"which makes one; write {row.name!r}."
                    )
            return custom(getattr(metric, "__name__", "custom"), metric, end)
        if metric is not None and not isinstance(metric, str):
            raise InputError(
                f"Expected a metric as a name, a function of logits or a Metric, got {type(metric).__name__}; "
                "write 'logit_diff'."
            )
        row = METRICS[self.default_metric if metric is None else metric]
        if "reference" in row.needs and reference is None:
            raise InputError(f"Expected reference logits for the metric {row.name}, got none; pass reference=.")
        for which, answers in (("correct", self.correct), ("wrong", self.wrong)):
            if which in row.needs and not all(answers):
                raise InputError(
                    f"Expected {which} answers for the metric {row.name}, got none for prompt "
                    f"{[bool(answer) for answer in answers].index(False)}; give them, or choose another metric."
                )
        inputs = {"correct": self.correct, "wrong": self.wrong, "reference": reference}
        return row(end, **{need: inputs[need] for need in row.needs})

    def df(self) -> pd.DataFrame:
        """One row per prompt: text, corrupted text, answers as text, group, length in tokens."""

        def words(answers: tuple[tuple[int, ...], ...]) -> list[str]:
            return [" | ".join(self.answer_texts.get(token, str(token)) for token in answer) for answer in answers]

        return pd.DataFrame(
            {
                "prompt": range(len(self)),
                "text": self.texts,
                "corrupted_text": self.corrupted_texts,
                "correct": words(self.correct),
                "wrong": words(self.wrong),
                "group": [self.group_names[g] for g in self.groups.tolist()],
                "tokens": self.lengths.tolist(),
            }
        )

    def __repr__(self) -> str:
        short, long = int(self.lengths.min()), int(self.lengths.max())
        parts = [
            f"{len(self)} prompts of {short if short == long else f'{short} to {long}'} tokens",
            f"{len(Counter(self.groups.tolist()))} groups",
            *([] if self.seed is None else [f"seed {self.seed}"]),
            *([] if self.prepend_bos else ["no BOS"]),
            *([f"left out {', '.join(f'{n} {what}' for what, n in self.left_out.items())}"] if self.left_out else []),
        ]
        return f"PromptSet({self.name}{'/' + self.corruption if self.corruption else ''}: {', '.join(parts)})"
