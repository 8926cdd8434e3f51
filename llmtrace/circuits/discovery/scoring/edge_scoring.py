"""The edge engine: what each port reads, how much the metric minds it, and the scores that both make.

    G_v = d metric / d x_v        x_v: what port v reads before its norm
    score(u -> v) = < change of u's write, G_v >

q, k, v and MLP pre-activations each feed one family of ports, so one backward pass from the metric to them gives every
G_v: each goes back through its weights and the norm. Nothing is split inside TransformerLens and key-value heads are
those that exist. The writes lie source-major, so that all sources before a layer are one view, and one matrix product
per layer makes the scores, per prompt.

Passes are halves of one batch: a clean and a corrupted prompt, or several points of a path, ride together. Memory:
nodes x batch x pos x d_model for the change of the writes, and one layer's ports of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import one_hot

from llmtrace.circuits.graph import Graph
from llmtrace.circuits.running.span_columns import SpanOf, span_of
from llmtrace.errors import InputError, UnsupportedError
from llmtrace.influence.tokens.inputs.input_gradients import FLAT
from llmtrace.metrics import Metric
from llmtrace.models import (
    Hook,
    Norm,
    Reader,
    TraceModel,
    attention_weights,
    backward_rule,
    final_norm,
    final_residual,
    head_readers,
    mlp_norm,
    mlp_readers,
    unembed_normed,
)
from llmtrace.models.arithmetic import recording_gradients
from llmtrace.models.hook_names import site_name
from llmtrace.prompts import PromptSet


@dataclass(frozen=True, eq=False)
class Gradients:
    """d metric / d activation at every reader (`of`, by hook name) and at the final residual stream; `streams` are what
    the families of ports read. `lead` repeats of the prompts lie on the first axis."""

    model: TraceModel
    graph: Graph
    of: dict[str, Tensor]
    streams: dict[str, Tensor]
    final: Float[Tensor, "row pos d_model"]
    holds_norms: bool = False
    span_of: SpanOf | None = None
    slope: float = float("nan")  # how much the metric minds its own residual stream, at the prompt where it does most

    def ports(self) -> Iterator[tuple[slice, int, Float[Tensor, "port row pos d_model"]]]:
        """(columns, how many writers come before, G) of each family of ports, layer by layer, the logits last."""
        graph = self.graph
        for layer in range(graph.n_layers):
            norm = attention_weights(self.model, layer).norm
            pre = self.streams[site_name("resid_pre", layer)]
            for slot, reader in head_readers(self.model, layer).items():
                yield graph.head_columns(layer, slot), graph.before(layer), self._to_residual([reader], norm, pre)
            if not graph.attn_only:
                stream = pre if graph.parallel else self.streams[site_name("resid_mid", layer)]
                readers, norm = mlp_readers(self.model, layer), mlp_norm(self.model, layer)
                back = self._to_residual(readers, norm, stream, without=graph.neurons_of(layer))
                yield graph.mlp_columns(layer), graph.mlp_sources(layer), back
                if apart := graph.neurons_of(layer):
                    each = self._neurons_to_residual(readers, norm, stream, apart)
                    yield graph.neuron_columns(layer), graph.mlp_sources(layer), each
        last = len(graph.ports) - 1
        yield slice(last, last + 1), len(graph.nodes), self.final[None]

    def _to_residual(
        self, readers: Sequence[Reader], norm: Norm, stream: Tensor, *, without: Sequence[int] = ()
    ) -> Float[Tensor, "port row pos d_model"]:
        """From the readers' activations back through their weights and the norm; an MLP's two readers add up, `without`
        the neurons that are ports of their own."""
        axes = "row pos port d_out, port d_model d_out -> port row pos d_model"
        of = [_per_port(self.of[reader.hook]) for reader in readers]
        if without:
            of = [gradient.index_fill(-1, torch.tensor(without, device=gradient.device), 0) for gradient in of]
        after_norm = torch.stack([einsum(g, r.weight, axes) for g, r in zip(of, readers, strict=True)]).sum(0)
        return self._before(norm, stream, after_norm)

    def _neurons_to_residual(
        self, readers: Sequence[Reader], norm: Norm, stream: Tensor, neurons: list[int]
    ) -> Float[Tensor, "neuron row pos d_model"]:
        """The same of single neurons, each through its own weights."""
        axes = "row pos neuron, d_model neuron -> neuron row pos d_model"
        parts = [einsum(self.of[r.hook][..., neurons], r.weight[0][:, neurons], axes) for r in readers]
        return self._before(norm, stream, torch.stack(parts).sum(0))

    def _before(self, norm: Norm, stream: Tensor, after_norm: Tensor) -> Tensor:
        if self.holds_norms:
            return norm.frozen_transpose(after_norm, norm.scale(stream))
        return norm.pull_back(stream, after_norm)


def reader_gradients(
    model: TraceModel,
    graph: Graph,
    prompts: PromptSet,
    metric: Metric,
    *,
    tokens: Tensor | None = None,
    inputs: Float[Tensor, "row pos d_model"] | None = None,
    hooks: Sequence[Hook] = (),
    rule: str = "standard",
    flat: bool = False,
) -> Gradients:
    """One forward and one backward pass. The leaf is the input of layer 0; no gradient of parameters is asked for.

    tokens   run these instead of the clean prompts
    inputs   enter the first block instead of the embedding: k points for each prompt, prompts varying fastest
    hooks    ride on the pass (and may change it)
    rule     how gradients pass norms, activations and softmax (`models.RULES`)
    flat     a slope of 0 is an answer: only a part of the activations moves, and it may not matter

    Raises InputError for a metric without a gradient.
    """
    reading, streams = dict[str, Tensor](), dict[str, Tensor]()
    tokens = prompts.clean if tokens is None else tokens
    repeats, backward = 1 if inputs is None else len(inputs) // len(tokens), backward_rule(model, rule)

    def leaf(value: Tensor) -> Tensor:
        start = value if inputs is None else inputs
        streams[site_name("resid_pre", 0)] = start.detach()
        return start.detach().requires_grad_(True)

    wanted = [(site_name("resid_pre", 0), leaf), *hooks, *_keepers(model, graph, reading, streams), *backward.hooks]
    with recording_gradients(model):
        final = final_residual(model, tokens.repeat(repeats, 1), wanted)
        here = metric.here(final.unflatten(0, (repeats, -1)))
        values = _under_held_norm(model, metric, here) if backward.holds_norms else metric.of_residual(model, here)
        total = values.sum()
        if not total.requires_grad:
            raise InputError(
                f"Expected a metric with a gradient, got {metric.name}, which has none (a count or an argmax?); "
                "use 'logit_diff' or 'probability'."
            )
        names = [*reading, "final"]
        found = torch.autograd.grad(total, [*reading.values(), final], allow_unused=True)
    gradients = dict(zip(names, found, strict=True))
    if off := [name for name, gradient in gradients.items() if gradient is None]:
        raise UnsupportedError(
            f"No gradient reaches {off[0]}, so its edges would be scored 0; use method='exact', or a HookedTransformer."
        )
    at_end = gradients.pop("final")
    slope = _slope(metric, at_end.unflatten(0, (repeats, -1)), final.detach().unflatten(0, (repeats, -1)))
    if not flat:
        require_slope(metric, slope, at_end.dtype)
    return Gradients(model, graph, gradients, streams, at_end, backward.holds_norms, span_of(graph, prompts), slope)


def _under_held_norm(model: TraceModel, metric: Metric, here: Tensor) -> Tensor:
    """The metric through a final norm whose scale is a constant."""
    norm = final_norm(model)
    normed = norm(here.detach()) + norm.frozen(here - here.detach(), norm.scale(here.detach()))
    rows = None if metric.tokens is None else metric.tokens.to(here.device)
    return metric.of_rows(unembed_normed(model, normed, rows))


def _keepers(model: TraceModel, graph: Graph, reading: dict[str, Tensor], streams: dict[str, Tensor]) -> list[Hook]:
    def keep(name: str, into: dict[str, Tensor]) -> Hook:
        def hook(value: Tensor) -> Tensor:
            into[name] = value if into is reading else value.detach()
            return value  # a bridge stays on the autograd path only when the hook returns its tensor

        return name, hook

    hooks: list[Hook] = []
    for layer in range(graph.n_layers):
        hooks += [keep(reader.hook, reading) for reader in head_readers(model, layer).values()]
        hooks += [] if layer == 0 else [keep(site_name("resid_pre", layer), streams)]
        if not graph.attn_only:
            hooks += [keep(reader.hook, reading) for reader in mlp_readers(model, layer)]
            hooks += [] if graph.parallel else [keep(site_name("resid_mid", layer), streams)]
    return hooks


def edge_products(
    gradients: Gradients, change: Float[Tensor, "node batch pos d_model"]
) -> Float[Tensor, "batch node port"]:
    """< change of u's write, G_v > for every edge, per prompt; several points of a path are averaged."""
    graph, (nodes, batch) = gradients.graph, change.shape[:2]
    last = len(graph.ports) - 1
    difference = change.flatten(2).transpose(0, 1)  # batch node (pos d_model)
    scores = change.new_zeros(batch, nodes, len(graph.ports))
    for columns, sources, gradient in gradients.ports():
        points = gradient.unflatten(1, (-1, batch))
        along = points.mean(1) if points.shape[1] > 1 else points[:, 0]
        if gradients.span_of is None or columns.start == last:
            scores[:, :sources, columns] = difference[:, :sources] @ along.flatten(2).permute(1, 2, 0)
        else:
            scores[:, :sources, columns] = _by_span(len(graph.spans), gradients.span_of, change[:sources], along)
    return scores


def _by_span(
    n_spans: int,
    span_of: SpanOf,
    change: Float[Tensor, "node batch pos d_model"],
    along: Float[Tensor, "port batch pos d_model"],
) -> Float[Tensor, "batch node column"]:
    """The same sums, position by position first, then over the positions of each span."""
    here = one_hot(span_of, n_spans).to(change)
    products = einsum(change, along, "node batch pos d_model, port batch pos d_model -> batch node port pos")
    return einsum(products, here, "batch node port pos, batch pos span -> batch node port span").flatten(2)


def _per_port(gradient: Tensor) -> Float[Tensor, "row pos port d_out"]:
    return gradient if gradient.ndim == 4 else gradient[:, :, None]


def _slope(metric: Metric, gradient: Tensor, final: Tensor) -> float:
    return float((metric.here(gradient).norm(dim=-1) * metric.here(final).norm(dim=-1)).max())


def require_slope(metric: Metric, slope: float, dtype: torch.dtype) -> None:
    """KL to the clean run has its minimum at the clean run: every score would be 0 (law 34)."""
    if slope < FLAT[dtype]:
        raise InputError(
            f"Expected a task metric for EAP: the gradient of {metric.name} is zero at the clean run, as that of KL to "
            "the clean run always is, so every score would be 0; use 'logit_diff' or 'probability'."
        )
