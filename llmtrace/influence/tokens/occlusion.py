"""Occlusion: what the metric loses when one token is taken away. An intervention: the oracle of its own question.

    score(j) = metric(prompt) - metric(prompt without token j)

"Without" is a row of `BASELINES`, another input at position j (`baseline_inputs.py`), or "attention": no other position
sees j, in any layer. Source: Zeiler & Fergus 2014; Li et al. 2016. Sign: positive raises the metric.
Cost: 1 F, and about half an F per token: nothing before position j changes, so its keys and values are taken from the
clean run and the pass starts at j (a whole F per token on bridges, and where a model's positions cannot be skipped).
Not complete: tokens act together, so rows have no total.
Known failure: where two tokens say the same, taking either away changes nothing (the OR gate). By "attention" a token
at the metric's own position is not taken away: nothing needs to see it.

    >>> found = lt.influence.occlusion(model, prompts)
    >>> found.labels[0][found.values[0, -1].argmax()]
    'Eric'
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

from llmtrace.errors import require_one_of
from llmtrace.influence.rows import BASELINES
from llmtrace.influence.tokens.inputs.baseline_inputs import baseline_inputs
from llmtrace.influence.tokens.inputs.input_gradients import require_inputs
from llmtrace.influence.tokens.inputs.metric_readings import Readings
from llmtrace.influence.tokens.results.token_influence import TokenInfluence
from llmtrace.metrics import MetricLike
from llmtrace.models import (
    Hook,
    KeysValues,
    TraceModel,
    can_skip_positions,
    describe,
    embedding,
    final_residual,
    looks_back_only,
    require_live,
    resume,
    run_and_keep,
)
from llmtrace.models.hook_names import site_name
from llmtrace.models.memory import Memory, at_once, budget, bytes_per_position, stack_room
from llmtrace.progress import track
from llmtrace.prompts import PromptSet, metric_of

ENOUGH = {"cpu": 512, "cuda": 16384}  # token rows: below that a shorter pass is hardly faster


def occlusion(
    model: TraceModel,
    prompts: PromptSet,
    *,
    metric: MetricLike | None = None,
    ablation: str = "mean",
    memory: Memory = "auto",
) -> TokenInfluence:
    """[batch 1 source]: what the metric loses without each token. `ablation`: a row of `BASELINES`, or "attention"."""
    bound = metric_of(model, prompts, metric)
    values = occluded(model, prompts, Readings.one_per_prompt(bound), ablation=ablation, memory=memory)
    return TokenInfluence.of(
        model, prompts, values[:, None], "occlusion", targets=bound.positions[:, None], metric=bound.name,
        options={"ablation": ablation, "oracle": True},
    )  # fmt: skip


@torch.no_grad()
def occluded(
    model: TraceModel, prompts: PromptSet, readings: Readings, *, ablation: str = "mean", memory: Memory = "auto"
) -> Float[Tensor, "reading source"]:
    """The scores of every reading: a pass without token j serves all readings after j."""
    require_one_of("ablation", (*BASELINES, "attention"), ablation)
    if ablation == "attention":
        require_live(model, [site_name("scores", layer) for layer in range(describe(model).n_layers)])
    else:
        require_inputs(model)
    width, device = prompts.clean.shape[1], model.W_E.device
    token_bytes = bytes_per_position(describe(model), width, model.W_E.element_size())
    room = stack_room(budget(memory, device), 0, memory, device)
    fit = at_once(room, width * token_bytes, len(prompts), "one prompt", asked=memory)
    tokens = max(fit * width, min(room // token_bytes, ENOUGH.get(device.type, ENOUGH["cpu"])))
    absent = None if ablation == "attention" else baseline_inputs(model, prompts, ablation)
    values = torch.zeros(len(readings.row), width, dtype=torch.promote_types(model.W_E.dtype, torch.float32))
    for rows in track(prompts.batches(fit), "occluding"):
        chosen, some = readings.within(rows, len(prompts))
        of_rows = None if absent is None else absent[rows]
        values[chosen] = _of_batch(model, prompts.clean[rows], of_rows, some, tokens).to(values)
    return values.to(device)


def _of_batch(
    model: TraceModel,
    clean: Int[Tensor, "batch pos"],
    absent: Float[Tensor, "batch pos d_model"] | None,
    readings: Readings,
    tokens_at_once: int,
) -> Float[Tensor, "reading source"]:
    inputs = embedding(model, clean)[0]
    past = None
    if can_skip_positions(model):
        final, past = run_and_keep(model, clean)
    else:
        final = final_residual(model, clean)
    before = readings.value(model, final)
    values = before.new_zeros(len(before), clean.shape[1])
    back = looks_back_only(model)
    last = int(readings.positions.max()) + 1 if back else clean.shape[1]
    for first, end in stretches(len(clean), last, tokens_at_once, skips=past is not None):
        reached = ((readings.positions >= first) | (not back)).nonzero()[:, 0]
        alive, row = readings.row[reached].unique(return_inverse=True)
        start = first if past is not None else 0
        after = _without(model, clean, inputs, absent, past, alive, (first, end, start, last))
        some = Readings(readings.metric[reached], row)
        after_values = some.metric.of_residual(
            model, after[:, row.to(after.device), (some.positions - start).to(after.device)]
        )
        values[reached.to(values.device), first:end] = (before[reached.to(before.device)] - after_values).T
    if not back:
        return values
    later = torch.arange(clean.shape[1]) > readings.positions[:, None]
    return values.masked_fill(later.to(values.device), 0.0)  # a reading never minds what comes after it


def stretches(n_rows: int, last: int, tokens_at_once: int, *, skips: bool) -> Iterator[tuple[int, int]]:
    """[first, end) of the tokens taken away in one pass, which starts at the first of them; from the last on."""
    end = last
    while end > 0:
        first = end - 1
        while first > 0 and (end - first + 1) * n_rows * (last - (first - 1) * skips) <= tokens_at_once:
            first -= 1
        yield first, end
        end = first


def _without(
    model: TraceModel,
    clean: Int[Tensor, "batch pos"],
    inputs: Float[Tensor, "batch pos d_model"],
    absent: Float[Tensor, "batch pos d_model"] | None,
    past: list[KeysValues] | None,
    rows: Int[Tensor, " row"],
    span: tuple[int, int, int, int],
) -> Float[Tensor, "variant row later d_model"]:
    """Final residual streams from `start` to `last`, without each of the tokens [first, end) in turn."""
    first, end, start, last = span
    rows = rows.to(inputs.device)
    clean = clean.to(inputs.device)
    streams = inputs[rows, start:last].repeat(end - first, 1, 1, 1)
    hooks: list[Hook] = []
    if absent is None:
        hooks = [_unseen(site_name("scores", n), first, end, start, len(rows)) for n in range(describe(model).n_layers)]
    else:
        for variant, j in enumerate(range(first, end)):
            streams[variant, :, j - start] = absent[rows, j]
    kept = None
    if past is not None and start:
        kept = [KeysValues(layer.keys[rows, :start], layer.values[rows, :start]) for layer in past]
    final = resume(model, streams.flatten(0, 1), 0, hooks, tokens=clean[rows], past=kept)
    return final.unflatten(0, (end - first, -1))


def _unseen(name: str, first: int, end: int, start: int, n_rows: int) -> Hook:
    """No query but j itself sees key j, in the j-th stack of rows."""

    def hide(scores: Float[Tensor, "rows head query key"]) -> Tensor:
        keys = torch.arange(scores.shape[-1])
        queries = start + torch.arange(scores.shape[-2])
        taken = torch.arange(first, end).repeat_interleave(n_rows)[:, None, None]
        hidden = (keys == taken) & (queries[:, None] != taken)
        return scores.masked_fill(hidden[:, None].to(scores.device), -torch.inf)

    return name, hide
