"""Tokens and spans taken out of a run: the metric without any set of them, many sets in one pass.

    zero, mean, resample, pad    another input stands at the token's place (see `tokens.baselines` of influence); of
                                 "resample" only tokens that differ  are ranked
    attention                    no other position sees the token, in any layer
    edge                         the metric's position does not see it, in any layer: the edges target -> source are
                                 knocked out, and what reaches the target by way of others stays

Source: as occlusion and attention knockout (Li et al. 2016; Geva et al. 2023). Cost: 1 F for each set, stacked within
the memory budget; single tokens by occlusion, about half an F each. The metric's own position stays under "attention"
and "edge": nothing needs to see it, and a query must keep a key, so it is not ranked there.
Known failure: a prompt without tokens is none that the model was trained on, least of all with most of them gone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from einops import einsum
from jaxtyping import Bool, Float
from torch import Tensor

from llmtrace.errors import require_one_of
from llmtrace.influence import occlusion
from llmtrace.influence.tokens.inputs.baseline_inputs import baseline_inputs
from llmtrace.metrics import Metric
from llmtrace.models import Hook, TraceModel, describe, embedding, require_live, resume, token_labels
from llmtrace.models.hook_names import site_name
from llmtrace.models.memory import Memory, at_once, budget, bytes_per_position, stack_room
from llmtrace.nodes import Position
from llmtrace.progress import track
from llmtrace.prompts import PromptSet, Spans
from llmtrace.validation.checks.removal import Removal, require_two
from llmtrace.validation.rows import EDGES, token_ablations

METHODS = {"attention": "occlusion (attention)", "edge": "knockout of the edges to the target"}


class TokenRemoval(Removal):
    """Tokens up to the metric's position, each alone or (with `spans`) a span at a time.

    keep   positions that are never taken away nor ranked, such as 0 for the first token
    """

    def __init__(
        self,
        model: TraceModel,
        prompts: PromptSet,
        metric: Metric,
        *,
        ablation: str = "mean",
        spans: Spans | None = None,
        keep: Sequence[Position] = (),
        memory: Memory = "auto",
    ) -> None:
        require_one_of("ablation of tokens", token_ablations(), ablation)
        self.model, self.prompts, self.metric, self.ablation, self.memory = model, prompts, metric, ablation, memory
        if ablation in EDGES:
            require_live(model, [site_name("scores", layer) for layer in range(describe(model).n_layers)])
        self._absent = None if ablation in EDGES else baseline_inputs(model, prompts, ablation)
        target = metric.positions.cpu()[:, None]
        at = torch.arange(prompts.clean.shape[1])
        removable = (at < target) if ablation in EDGES else (at <= target)
        if ablation == "resample":  # a token that both prompts share is not taken away, whatever the model does
            removable = removable & (prompts.clean != prompts.corrupted)
        kept = prompts.places(keep, "positions to keep", least=0)
        removable = removable & (at[None, :, None] != kept[:, None]).all(-1)
        self._members: Bool[Tensor, "batch span pos"] | None = None
        if spans is None:
            self.there, labels = removable, token_labels(model, prompts.clean)
            self.names = tuple(tuple(f"{label} ({i})" for i, label in enumerate(row)) for row in labels)
        else:
            spans.require_of(prompts)
            self._members = spans.members & removable[:, None]
            self.there, self.names = self._members.any(-1), (spans.names,) * len(prompts)
        which = " that the corruption changes" if ablation == "resample" else ""
        require_two(self.there, f"{'tokens' if spans is None else 'spans'}{which}")

    @property
    def method(self) -> str:
        return METHODS.get(self.ablation, f"occlusion ({self.ablation})")

    def singles(self) -> Float[Tensor, "batch unit"]:
        if self._members is not None or self.ablation == "edge":
            return super().singles()
        found = occlusion(self.model, self.prompts, metric=self.metric, ablation=self.ablation, memory=self.memory)
        self.passes += 1 + self.there.sum(1).double().mean().item() / 2
        return found.values[:, 0].cpu().masked_fill(~self.there, 0.0)

    @torch.no_grad()
    def without(self, sets: Bool[Tensor, "variant batch unit"]) -> Float[Tensor, "variant batch"]:
        """Rows (variant, prompt) are stacked, as many as fit."""
        if self._members is None:
            gone = sets & self.there
        else:
            of_spans = einsum(
                sets.float(), self._members.float(), "variant batch span, batch span pos -> variant batch pos"
            )
            gone = of_spans > 0
        n_variants, batch = sets.shape[:2]
        last = int(self.metric.positions.max()) + 1
        inputs = embedding(self.model, self.prompts.clean)[0][:, :last]
        arch, device = describe(self.model), self.model.W_E.device
        each = last * bytes_per_position(arch, last, self.model.W_E.element_size())
        room = stack_room(budget(self.memory, device), 0, self.memory, device)
        fit = at_once(room, each, n_variants * batch, "one prompt", asked=self.memory)
        rows = torch.arange(batch).repeat(n_variants)
        parts = []
        for some in track(list(zip(gone.flatten(0, 1).split(fit), rows.split(fit), strict=True)), "removing"):
            parts.append(self._of_rows(inputs, some[0][:, :last], some[1]).cpu())
        self.passes += n_variants
        return torch.cat(parts).unflatten(0, (n_variants, batch))

    def _of_rows(
        self, inputs: Float[Tensor, "batch pos d_model"], gone: Bool[Tensor, "row pos"], rows: Tensor
    ) -> Float[Tensor, " row"]:
        here = rows.to(inputs.device)
        streams, hooks = inputs[here], list[Hook]()
        metric = self.metric[rows]
        if self._absent is not None:
            taken = gone.to(inputs.device)[..., None]
            streams = torch.where(taken, self._absent[here, : streams.shape[1]], streams)
        else:
            hidden = _hidden(gone, metric.positions.cpu() if self.ablation == "edge" else None)
            hooks = [(site_name("scores", n), _hide(hidden)) for n in range(describe(self.model).n_layers)]
        final = resume(self.model, streams, 0, hooks, tokens=self.prompts.clean[rows])
        at = metric.positions.to(final.device)
        return metric.of_residual(self.model, final[torch.arange(len(rows), device=final.device), at])


def _hidden(gone: Bool[Tensor, "row pos"], target: Tensor | None) -> Bool[Tensor, "row query key"]:
    """Which query does not see which key. Every query sees itself, so that it has something to see."""
    at = torch.arange(gone.shape[1])
    others = gone[:, None, :] & (at[:, None] != at)
    return others if target is None else others & (at == target[:, None])[:, :, None]


def _hide(hidden: Bool[Tensor, "row query key"]) -> Callable[[Tensor], Tensor]:
    def cut(scores: Float[Tensor, "row head query key"]) -> Tensor:
        return scores.masked_fill(hidden[:, None].to(scores.device), -torch.inf)

    return cut
