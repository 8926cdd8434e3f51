"""Final logits -> one number per prompt: the noun, any function as a metric, and any metric rescaled.

A metric reads one position per prompt, the answer position, and of its logits only the vocabulary rows in `tokens`
(all of them for probabilities). Whoever computes logits may therefore unembed one position and a few rows, and hand
those to `Metric.of_rows`; `Metric(logits)` is the same number from full logits.

    custom            any function of the answer position's logits
    normalised        any metric, rescaled so that the clean run is 1 and the corrupted run is 0

    >>> import torch
    >>> surprise = lt.metrics.custom("surprise", lambda logits: torch.logsumexp(logits, -1), prompts.positions["END"])
    >>> lt.interventions.ablate(model, prompts, ["3.2"], metric=surprise)
    Effects(mean ablation on surprise: 1 interventions, 4 prompts, before 13.9; 3.2 -1.32)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch

from llmtrace.errors import CheckError, InputError, MetricError, MismatchError
from llmtrace.models import TraceModel, unembed
from llmtrace.shapes import Float, Int, PerPrompt, Positions, Tensor

Reduce = Callable[..., Tensor]  # (rows [*lead batch n], *context) -> [*lead batch]


@dataclass(frozen=True, eq=False)
class Metric:
    """A number per prompt, read from the logits of one position per prompt.

    positions         the position that is read, counted from the first token (BOS included)
    tokens            the vocabulary rows that are read; None: all of them
    weights           metric = sum(weights * rows) when that is so (float64: cast to the logits' dtype); else None
    reduce, context   the metric is reduce(rows, *context); every tensor of `context` has the prompts as first axis,
                      so that `metric[index]` can take some of the prompts
    higher_is_better  False for distances
    baseline          what counts as "nothing left of the behaviour": the value of the "corrupted" run, which must be
                      measured, or "zero" (normalised metrics)
    fingerprints      of the prompts that it was made for (`PromptSet.metric`); None: made by hand, for any that fit
    """

    name: str
    positions: Positions
    tokens: Int[Tensor, "batch n"] | None
    weights: Float[Tensor, "batch n"] | None
    reduce: Reduce
    context: tuple[Tensor, ...] = ()
    higher_is_better: bool = True
    baseline: Literal["corrupted", "zero"] = "corrupted"
    fingerprints: Int[Tensor, " batch"] | None = None

    def __post_init__(self) -> None:
        if self.positions.numel() == 0:
            raise InputError(f"Expected at least one prompt for {self.name}, got none; give one position per prompt.")
        if int(self.positions.min()) < 0:
            raise InputError(
                f"Expected positions counted from the first token, got {int(self.positions.min())}; "
                "prompts are padded on the right, so give length - 1 for the last token."
            )
        for tensor in (*self.context, *(t for t in (self.tokens, self.weights, self.fingerprints) if t is not None)):
            if len(tensor) != len(self):
                raise MismatchError(
                    f"Expected {self.name} to hold {len(self)} prompts throughout, got a tensor of {len(tensor)}; "
                    "give every per-prompt argument in the order of the prompts."
                )

    def __len__(self) -> int:
        return len(self.positions)

    def __call__(self, logits: Float[Tensor, "*lead batch pos d_vocab"]) -> Float[Tensor, "*lead batch"]:
        return self.of_rows(self.rows(logits))

    def rows(self, logits: Float[Tensor, "*lead batch pos d_vocab"]) -> Float[Tensor, "*lead batch n"]:
        """What the metric reads of full logits: the answer position, and of it `tokens` (all when None)."""
        here = self.here(logits)
        if self.tokens is None:
            return here
        return gathered(here, self.tokens.to(logits.device))

    def of_rows(self, rows: Float[Tensor, "*lead batch n"]) -> Float[Tensor, "*lead batch"]:
        """The metric from the rows it reads. Half precision is widened first: a difference of logits needs the bits."""
        rows = widened(rows)
        values = self._reduced(rows)
        if not isinstance(values, Tensor) or values.shape != rows.shape[:-1]:
            got = list(values.shape) if isinstance(values, Tensor) else type(values).__name__
            raise InputError(
                f"Expected {self.name} to give one number per prompt, shape {list(rows.shape[:-1])}, got {got}; "
                "reduce the last axis of [*lead batch d_vocab] and nothing else: the position is taken already."
            )
        if bool(values.isnan().any()):
            prompt = int(values.isnan().reshape(-1, len(self)).any(0).nonzero()[0])
            cause = (
                "the logits are NaN already, so look at the model's weights and dtype"
                if bool(rows.isnan().any())
                else "the logits are numbers, so look at the metric's function"
            )
            raise CheckError(
                f"Expected a number from {self.name} for each prompt, got NaN for prompt {prompt}; {cause}."
            )
        return values

    def _reduced(self, rows: Tensor) -> Any:
        """What the function makes of the rows; one that fails is told what it was given."""
        context = (c.to(rows) if c.is_floating_point() else c.to(rows.device) for c in self.context)
        try:
            return self.reduce(rows, *context)
        except torch.OutOfMemoryError:
            raise
        except (TypeError, ValueError, LookupError, RuntimeError, AttributeError) as error:
            raise MetricError(
                f"Expected {self.name} to take logits of the answer position alone, [*lead batch d_vocab] = "
                f"{list(rows.shape)}, and on them it fails ({type(error).__name__}: {' '.join(str(error).split())}); "
                "the position is taken already: index the last axis, logits[..., token]."
            ) from error

    def here(self, values: Float[Tensor, "*lead batch pos d"], *, first: int = 0) -> Float[Tensor, "*lead batch d"]:
        """What stands at the answer position of each prompt: of logits, or of the final residual stream.

        `first`: the position at which `values` begin.
        """
        return at_position(values, self.positions - first)

    def of_residual(
        self, model: TraceModel, resid: Float[Tensor, "*lead batch d_model"]
    ) -> Float[Tensor, "*lead batch"]:
        """The metric from final residual vectors of the answer position: only the rows it reads are unembedded."""
        if self.tokens is not None:
            _require_in_vocabulary(self.tokens, model.W_U.shape[-1])
        rows = None if self.tokens is None else self.tokens.to(resid.device)
        return self.of_rows(unembed(model, resid, rows))

    def __getitem__(self, index: Any) -> Metric:
        """The metric of some prompts (an int, a slice, a list or a mask); of one prompt for an int."""
        chosen = torch.arange(len(self))[index].reshape(-1)

        def take(tensor: Tensor) -> Tensor:
            return tensor[chosen.to(tensor.device)]

        return replace(
            self,
            positions=take(self.positions),
            tokens=None if self.tokens is None else take(self.tokens),
            weights=None if self.weights is None else take(self.weights),
            context=tuple(map(take, self.context)),
            fingerprints=None if self.fingerprints is None else take(self.fingerprints),
        )

    def __repr__(self) -> str:
        reads = "all tokens" if self.tokens is None else f"{self.tokens.shape[1]} tokens"
        return f"Metric({self.name}: {len(self)} prompts, reads {reads} at one position each)"


# What every method takes as `metric=`: a name of METRICS, a bound Metric, or a function [*lead batch d_vocab] -> [...].
MetricLike = str | Metric | Callable[..., Tensor]


def custom(
    name: str,
    function: Reduce,
    positions: Positions | Sequence[int],
    *,
    context: tuple[Tensor, ...] = (),
    higher_is_better: bool = True,
) -> Metric:
    """Any function of the answer position's logits, [*lead batch d_vocab] -> [*lead batch].

    What differs from prompt to prompt comes in as `context`, tensors [batch ...] that are handed to the function after
    the logits; a closure over such tensors could not follow `metric[index]`.
    """
    return Metric(name, torch.as_tensor(positions), None, None, function, context, higher_is_better)


def normalised(metric: Metric, clean: PerPrompt, corrupted: PerPrompt, *, per_prompt: bool = False) -> Metric:
    """The metric rescaled: clean run 1, corrupted run 0; still one number per prompt.

    `clean`, `corrupted`: the metric's values on the two runs. By default all prompts share the scale of the *means*, so
    the mean over prompts of the clean run is 1 (and a prompt whose own gap is near 0 does no harm);
    `per_prompt=True` gives each prompt its own. `normalised(...)[index]` keeps the scale it was made with.
    Raises InputError when both runs give the same value: nothing lies between them.
    """
    if clean.shape != metric.positions.shape or corrupted.shape != metric.positions.shape:
        raise MismatchError(
            f"Expected one value for each of the metric's {len(metric)} prompts, got {list(clean.shape)} clean and "
            f"{list(corrupted.shape)} corrupted; pass metric(clean_logits) and metric(corrupted_logits)."
        )
    high, low = clean.detach(), corrupted.detach()
    if not per_prompt:
        high, low = high.mean().expand_as(high), low.mean().expand_as(low)
    gap = high - low
    # Below float32 noise a gap is no gap; a NaN fails the comparison and is refused too.
    same = ~(gap.abs() > 1e-6 * torch.maximum(high.abs(), low.abs()))
    if same.any():
        which = f"on prompt {int(same.nonzero()[0])}" if per_prompt else "in the mean over prompts"
        raise InputError(
            f"Expected a metric that tells the clean run from the corrupted one, but clean and corrupted runs give the "
            f"same value of {metric.name} {which} ({float(high[same][0]):.6g} and {float(low[same][0]):.6g}); "
            "choose another corruption or another metric."
        )

    def rescaled(rows: Tensor, low: Tensor, gap: Tensor, *context: Tensor) -> Tensor:
        return (metric.reduce(rows, *context) - low) / gap

    return replace(
        metric, name=f"normalised {metric.name}", weights=None, reduce=rescaled, context=(low, gap, *metric.context),
        higher_is_better=True, baseline="zero",
    )  # fmt: skip


def at_position(logits: Tensor, positions: Positions) -> Tensor:
    """[*lead batch d_vocab]: the logits at one position per prompt."""
    batch, length = logits.shape[-3:-1]
    if batch != len(positions):
        raise MismatchError(
            f"Expected logits of the metric's {len(positions)} prompts, got {batch}; metric[index] takes some of them."
        )
    if int(positions.max()) >= length:
        raise InputError(
            f"Expected logits up to position {int(positions.max())}, got {length} positions; run the prompts whole."
        )
    return logits[..., torch.arange(batch, device=logits.device), positions.to(logits.device), :]


def widened(rows: Tensor) -> Tensor:
    return rows.float() if rows.dtype in (torch.float16, torch.bfloat16) else rows


def _require_in_vocabulary(tokens: Tensor, d_vocab: int) -> None:
    if int(tokens.max()) >= d_vocab:
        raise MismatchError(
            f"Expected answers below the vocabulary size {d_vocab}, got token {int(tokens.max())}; "
            "make the prompts with this model's tokenizer."
        )


def gathered(rows: Tensor, tokens: Tensor) -> Tensor:
    _require_in_vocabulary(tokens, rows.shape[-1])
    return rows.gather(-1, tokens.expand(*rows.shape[:-1], tokens.shape[-1]))
