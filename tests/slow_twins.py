"""Slow twins: each method again from its definition, with loops and whole forward passes and no cleverness.

Nothing here reads a weight where the model itself can be asked: a head's write is the attention output with all other
heads' z at zero; what a port makes of an input is read from a run whose residual stream was replaced by that input.
`reads` is the order of computation of a transformer, stated once more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from llmtrace.models import describe, final_residual
from llmtrace.models.hook_names import ATTENTION, site_name
from llmtrace.nodes import Edge, Embed, Head, KvHead, Logits, Mlp, Neuron, Node, Port, Site
from llmtrace.prompts import PromptSet

Hook = tuple[str, Callable[[Tensor], Tensor | None]]


# --- asking the model --------------------------------------------------------------------------------------------


def read(model: Any, tokens: Tensor, names: Iterable[str], hooks: Iterable[Hook] = ()) -> dict[str, Tensor]:
    """Activations of one forward pass, after `hooks` changed what they change."""
    found: dict[str, Tensor] = {}

    def keeper(name: str) -> Callable[[Tensor], None]:
        def keep(value: Tensor) -> None:
            found[name] = value

        return keep

    final_residual(model, tokens, [*hooks, *((name, keeper(name)) for name in names)])
    return found


def replace(name: str, value: Tensor) -> Hook:
    return name, lambda _: value


def zeroed(name: str) -> Hook:
    return name, torch.zeros_like


def only_head(layer: int, head: int) -> Hook:
    """All other heads of the layer write nothing."""

    def keep_one(z: Tensor) -> Tensor:
        kept = torch.zeros_like(z)
        kept[:, :, head] = z[:, :, head]
        return kept

    return f"blocks.{layer}.attn.hook_z", keep_one


def output_bias(model: Any, tokens: Tensor, layer: int) -> Tensor:
    """What attention writes when no head writes: b_O."""
    attn_out = f"blocks.{layer}.hook_attn_out"
    return read(model, tokens, [attn_out], [zeroed(f"blocks.{layer}.attn.hook_z")])[attn_out]


def head_write(model: Any, tokens: Tensor, layer: int, head: int, hooks: Iterable[Hook] = ()) -> Tensor:
    attn_out = f"blocks.{layer}.hook_attn_out"
    if describe(model).post_norm:  # the head's share of what arrives: an RMSNorm multiplies all results alike
        name = f"blocks.{layer}.attn.hook_z"
        kept = read(model, tokens, [attn_out, name], hooks)
        z, W_O = kept[name], model.blocks[layer].attn.W_O
        share = (z[:, :, head] @ W_O[head]) / torch.einsum("bphe,hed->bpd", z, W_O)
        return torch.nan_to_num(share) * kept[attn_out]  # 0 of 0 where no head says anything
    alone = read(model, tokens, [attn_out], [*hooks, only_head(layer, head)])[attn_out]
    return alone - output_bias(model, tokens, layer)


def write_of(model: Any, tokens: Tensor, node: Node) -> Tensor:
    """What a node adds to the residual stream, [batch pos d_model]."""
    match node:
        case Embed():
            name = "blocks.0.hook_resid_pre"
        case Mlp(layer):
            name = f"blocks.{layer}.hook_mlp_out"
        case Head(layer, head):
            return head_write(model, tokens, layer, head)
        case Neuron():
            return neuron_write(model, tokens, node)
    return read(model, tokens, [name])[name]


def neuron_write(model: Any, tokens: Tensor, neuron: Neuron, hooks: Iterable[Hook] = ()) -> Tensor:
    """What the MLP writes with this neuron alone, less what it writes without any."""
    post, out = f"blocks.{neuron.layer}.mlp.hook_post", f"blocks.{neuron.layer}.hook_mlp_out"

    def keep_one(activations: Tensor) -> Tensor:
        kept = torch.zeros_like(activations)
        kept[..., neuron.index] = activations[..., neuron.index]
        return kept

    nothing = read(model, tokens, [out], [*hooks, zeroed(post)])[out]
    return read(model, tokens, [out], [*hooks, (post, keep_one)])[out] - nothing


def rest_of_mlp(
    model: Any, tokens: Tensor, layer: int, neurons: Iterable[Neuron], hooks: Iterable[Hook] = ()
) -> Tensor:
    """What the MLP writes when these neurons say nothing."""
    out, silent = f"blocks.{layer}.hook_mlp_out", [neuron.index for neuron in neurons if neuron.layer == layer]

    def silence(activations: Tensor) -> Tensor:
        kept = activations.clone()
        kept[..., silent] = 0
        return kept

    return read(model, tokens, [out], [*hooks, (f"blocks.{layer}.mlp.hook_post", silence)])[out]


def unembedded(model: Any, resid: Tensor) -> Tensor:
    """Logits by the model's own final modules. [batch pos d_model] -> [batch pos d_vocab]"""
    norm = getattr(model, "ln_final", None)
    logits = model.unembed(resid if norm is None else norm(resid))
    cap = getattr(model.cfg, "output_logits_soft_cap", None) or -1.0
    return cap * torch.tanh(logits / cap) if cap > 0 else logits


def logit_diff(logits: Tensor, prompts: PromptSet) -> Tensor:
    """Mean logit of the correct minus mean logit of the wrong answers, at END."""
    values = []
    for i, end in enumerate(prompts.positions["END"].tolist()):
        row = logits[i, end]
        right = sum(row[token] for token in prompts.correct[i]) / len(prompts.correct[i])
        wrong = sum(row[token] for token in prompts.wrong[i]) / len(prompts.wrong[i])
        values.append(right - wrong)
    return torch.stack(values)


def metric_of_run(model: Any, prompts: PromptSet, hooks: Iterable[Hook] = (), tokens: Tensor | None = None) -> Tensor:
    final = final_residual(model, prompts.clean if tokens is None else tokens, hooks)
    return logit_diff(unembedded(model, final), prompts)


# --- the graph ---------------------------------------------------------------------------------------------------


def writers(model: Any) -> list[Node]:
    arch = describe(model)
    return [Embed(), *arch.heads, *arch.mlps]


def ports(model: Any) -> Iterator[Port]:
    arch = describe(model)
    for layer in range(arch.n_layers):
        for head in range(arch.n_heads):
            yield Port(Head(layer, head), "q")
        for head in range(arch.n_kv_heads):
            kv_head = Head(layer, head) if arch.n_kv_heads == arch.n_heads else KvHead(layer, head)
            yield Port(kv_head, "k")
            yield Port(kv_head, "v")
        if not arch.attn_only:
            yield Port(Mlp(layer))
    yield Port(Logits())


def reads(writer: Node, port: Port, *, parallel: bool) -> bool:
    """Whether a port comes after a writer."""
    if isinstance(writer, Embed) or isinstance(port.node, Logits):
        return True
    if isinstance(port.node, Mlp | Neuron) and isinstance(writer, Head) and not parallel:
        return writer.layer <= port.node.layer
    return writer.layer < port.node.layer


def all_edges(model: Any) -> list[Edge]:
    parallel = describe(model).parallel
    return [Edge(u, v) for u in writers(model) for v in ports(model) if reads(u, v, parallel=parallel)]


# --- running a circuit: one port, one head at a time ---------------------------------------------------------------

Share = Callable[[Node, Port], Tensor | float]


def run_edges(
    model: Any, tokens: Tensor, replaced: dict[Node, Tensor], removed: Share, neurons: Iterable[Neuron] = ()
) -> Tensor:
    """The final residual stream when port v reads  constants + sum_u live_u + removed(u, v) (replaced_u - live_u).

    `removed` is 0 for an edge that is in the circuit and 1 for one that is not; anything in between, per prompt
    ([batch 1 1]) and with a gradient, for edge attribution patching by its definition. `neurons` read and write apart
    from their MLP, which is then the rest.
    """
    arch = describe(model)
    live: dict[Node, Tensor] = {Embed(): write_of(model, tokens, Embed())}
    constants = torch.zeros_like(live[Embed()])

    def input_of(port: Port, constants: Tensor) -> Tensor:
        total = constants
        for u, write in live.items():
            if reads(u, port, parallel=arch.parallel):
                share = removed(u, port)
                total = total + (1 - share) * write + share * replaced[u]
        return total

    for layer in range(arch.n_layers):
        at, before = f"blocks.{layer}.", constants
        slots: dict[str, list[Tensor]] = {"q": [], "k": [], "v": []}
        for slot, per_head in slots.items():
            count = arch.n_heads if slot == "q" else arch.n_kv_heads
            for head in range(count):
                kind = Head if count == arch.n_heads else KvHead
                x = input_of(Port(kind(layer, head), slot), constants)
                name = f"{at}attn.hook_{slot}"
                per_head.append(read(model, tokens, [name], [replace(at + "hook_resid_pre", x)])[name][:, :, head])
        inputs = [replace(f"{at}attn.hook_{slot}", torch.stack(heads, dim=2)) for slot, heads in slots.items()]
        for head in range(arch.n_heads):
            live[Head(layer, head)] = head_write(model, tokens, layer, head, inputs)
        constants = constants + output_bias(model, tokens, layer)
        if not arch.attn_only:
            x = input_of(Port(Mlp(layer)), before if arch.parallel else constants)
            stream = at + ("hook_resid_pre" if arch.parallel else "hook_resid_mid")
            rest = rest_of_mlp(model, tokens, layer, neurons, [replace(stream, x)])
            for neuron in (one for one in neurons if one.layer == layer):
                x = input_of(Port(neuron), before if arch.parallel else constants)
                live[neuron] = neuron_write(model, tokens, neuron, [replace(stream, x)])
            live[Mlp(layer)] = rest
    return input_of(Port(Logits()), constants)


# --- methods from their definitions ------------------------------------------------------------------------------


def path_patched(model: Any, prompts: PromptSet, sender: Node, *, convention: str) -> Tensor:
    """One forward pass on the clean prompts: the sender writes what it writes on the corrupted prompts, every other
    head's z is held at its clean value, MLPs are held too ("all_frozen") or left to react ("heads_frozen")."""
    arch = describe(model)
    z = [f"blocks.{layer}.attn.hook_z" for layer in range(arch.n_layers)]
    mlp_out = [] if arch.attn_only else [f"blocks.{layer}.hook_mlp_out" for layer in range(arch.n_layers)]
    start = "blocks.0.hook_resid_pre"
    clean = read(model, prompts.clean, [start, *z, *mlp_out])
    corrupted = read(model, prompts.corrupted, [start, *z, *mlp_out])
    held = {name: clean[name].clone() for name in (z if convention == "heads_frozen" else [*z, *mlp_out])}
    match sender:
        case Embed():
            held[start] = corrupted[start]
        case Mlp(layer):
            held[mlp_out[layer]] = corrupted[mlp_out[layer]]
        case Head(layer, head):
            held[z[layer]][:, :, head] = corrupted[z[layer]][:, :, head]
    return metric_of_run(model, prompts, [replace(name, value) for name, value in held.items()])


def sides(p: PromptSet, direction: str) -> tuple[torch.Tensor, torch.Tensor]:
    return (p.corrupted, p.clean) if direction == "denoising" else (p.clean, p.corrupted)


def activation_patched(model: Any, p: PromptSet, sites: list[Site], direction: str) -> torch.Tensor:
    """One whole pass; every entry of every site is copied by itself."""
    base, other = sides(p, direction)
    taken = read(model, other, {site_name(site.kind, site.layer) for site in sites})

    def put(site: Site) -> Hook:
        name = site_name(site.kind, site.layer)

        def change(value: torch.Tensor) -> torch.Tensor:
            value = value.clone()
            for i in range(len(p)):
                at = [int(p.position(place)[i]) for place in site.at] or range(int(p.lengths[i]))
                keys = [int(p.position(place)[i]) for place in site.keys] or slice(None)
                for pos in at:
                    head = slice(None) if site.index is None else site.index
                    if site.kind in ATTENTION:
                        value[i, head, pos, keys] = taken[name][i, head, pos, keys]
                    elif site.index is None:
                        value[i, pos] = taken[name][i, pos]
                    else:
                        value[i, pos, head] = taken[name][i, pos, head]
            return value

        return name, change

    return metric_of_run(model, p, [put(site) for site in sites], tokens=base)


def ablated(
    model: Any, prompts: PromptSet, nodes: Iterable[Node], *, ablation: str, reference: str = "corrupted"
) -> Tensor:
    """One forward pass with every node's output replaced."""
    hooks = []
    for node in nodes:
        name = f"blocks.{node.layer}.attn.hook_z" if isinstance(node, Head) else f"blocks.{node.layer}.hook_mlp_out"
        side = "corrupted" if ablation == "resample" else reference
        other = read(model, prompts.side(side), [name])[name]
        new = torch.zeros_like(other) if ablation == "zero" else means(other, prompts) if ablation == "mean" else other
        hooks.append((name, _put(new, node.head if isinstance(node, Head) else None)))
    return metric_of_run(model, prompts, hooks)


def _put(new: Tensor, head: int | None) -> Callable[[Tensor], Tensor]:
    """The whole activation, or one head of it: the heads beside an ablated one must stay free to react."""

    def change(activation: Tensor) -> Tensor:
        if head is None:
            return new
        changed = activation.clone()
        changed[:, :, head] = new[:, :, head]
        return changed

    return change


def means(value: Tensor, prompts: PromptSet) -> Tensor:
    """Per position, the mean over the prompts of the same group that are that long."""
    means = torch.zeros_like(value)
    for i in range(len(prompts)):
        for pos in range(value.shape[1]):
            rows = [value[j, pos] for j in range(len(prompts))
                    if prompts.groups[j] == prompts.groups[i] and pos < prompts.lengths[j]]  # fmt: skip
            if rows:
                means[i, pos] = sum(rows) / len(rows)
    return means


def edge_gradients(model: Any, prompts: PromptSet, instead: dict[Node, Tensor] | None = None) -> dict[Edge, Tensor]:
    """d metric / d mask_e at mask = 0, per prompt, where the mask mixes an edge's clean write with its corrupted one,
    or with what stands `instead`.

    One backward pass through a run with an explicit mask per edge and prompt.
    """
    edges = all_edges(model)
    masks = {edge: torch.zeros(len(prompts), 1, 1, dtype=torch.float64, requires_grad=True) for edge in edges}
    corrupted = {u: write_of(model, prompts.corrupted, u) for u in writers(model)} if instead is None else instead
    with torch.enable_grad():
        final = run_edges(model, prompts.clean, corrupted, lambda u, v: masks[Edge(u, v)])
        total = logit_diff(unembedded(model, final), prompts).sum()
        gradients = torch.autograd.grad(total, list(masks.values()))
    return {edge: gradient.flatten() for edge, gradient in zip(edges, gradients, strict=True)}


def mean_writes(model: Any, prompts: PromptSet, over: str, side: str = "clean") -> dict[Node, Tensor]:
    """What each node writes on average over the prompts that are as long, prompt by prompt and place by place."""
    found: dict[Node, Tensor] = {}
    for u in writers(model):
        write = write_of(model, prompts.side(side), u)
        mean = torch.zeros_like(write)
        for i in range(len(prompts)):
            alike = [j for j in range(len(prompts)) if over != "group" or prompts.groups[j] == prompts.groups[i]]
            for at in range(int(prompts.lengths[i])):
                places = range(write.shape[1]) if over == "global" else [at]
                mean[i, at] = torch.stack([write[j, k] for j in alike for k in places if k < prompts.lengths[j]]).mean(
                    0
                )
        found[u] = mean
    return found


def attribution_patching(model: Any, prompts: PromptSet) -> dict[Node, Tensor]:
    """d metric / d t at t = 0, per prompt, of a plain run in which u writes a_u(clean) + t (a_u(corr) - a_u(clean))."""
    scores: dict[Node, Tensor] = {}
    for node in writers(model):
        t = torch.zeros(len(prompts), dtype=torch.float64, requires_grad=True)
        match node:
            case Embed():
                name = "blocks.0.hook_resid_pre"
            case Mlp(layer):
                name = f"blocks.{layer}.hook_mlp_out"
            case Head(layer, _):
                name = f"blocks.{layer}.attn.hook_z"
        change = read(model, prompts.corrupted, [name])[name] - read(model, prompts.clean, [name])[name]
        if isinstance(node, Head):
            alone = torch.zeros_like(change)
            alone[:, :, node.head] = change[:, :, node.head]
            change = alone
        along = t.view(-1, *(1,) * (change.ndim - 1)) * change
        with torch.enable_grad():
            total = metric_of_run(model, prompts, [(name, lambda value, along=along: value + along)]).sum()
        (scores[node],) = torch.autograd.grad(total, t)
    return scores


# --- algebra without a model -------------------------------------------------------------------------------------


def rollout(patterns: list[Tensor]) -> Tensor:
    """[batch query key] from per-layer patterns [batch head query key], one entry at a time."""
    batch, n_heads, width = patterns[0].shape[:3]
    rolled = torch.eye(width, dtype=patterns[0].dtype).repeat(batch, 1, 1)
    for pattern in patterns:
        step = torch.zeros(batch, width, width, dtype=pattern.dtype)
        for b in range(batch):
            for i in range(width):
                for j in range(width):
                    step[b, i, j] = 0.5 * sum(pattern[b, h, i, j] for h in range(n_heads)) / n_heads + 0.5 * (i == j)
        rolled = torch.stack([step[b] @ rolled[b] for b in range(batch)])
    return rolled


def slopes_of_patterns(model: Any, prompt: PromptSet, layers: Iterable[int]) -> list[Tensor]:
    """d metric / d pattern of one prompt, [head query key] per layer: of a 0 that is added to each."""
    return _slopes_of_zeros(model, prompt, [f"blocks.{layer}.attn.hook_pattern" for layer in layers])


def slopes_of_patterns_by_values(model: Any, prompt: PromptSet, layers: Iterable[int]) -> list[Tensor]:
    """The same from z, which is a sum of values: one more of A[h, i, j] is one more of v[j] in z[h, i]."""
    found = []
    of_z = _slopes_of_zeros(model, prompt, [f"blocks.{layer}.attn.hook_z" for layer in layers])
    for slope, layer in zip(of_z, layers, strict=True):
        name = f"blocks.{layer}.attn.hook_v"
        v, n_heads = read(model, prompt.clean, [name])[name][0], slope.shape[1]
        group = n_heads // v.shape[1]
        found.append(torch.stack([slope[:, head] @ v[:, head // group].T for head in range(n_heads)]))
    return found


def _slopes_of_zeros(model: Any, prompt: PromptSet, names: list[str]) -> list[Tensor]:
    there = read(model, prompt.clean, names)
    zeros = {name: torch.zeros_like(found).requires_grad_(True) for name, found in there.items()}
    hooks: list[Hook] = [(name, lambda value, zero=zero: value + zero) for name, zero in zeros.items()]
    with torch.enable_grad():
        (value,) = metric_of_run(model, prompt, hooks)
        return [slope[0] for slope in torch.autograd.grad(value, [zeros[name] for name in names])]


def gradient_rollout(patterns: list[Tensor], slopes: list[Tensor]) -> Tensor:
    """[query key] from [head query key] per layer: R <- R + A R with the heads one by one."""
    rolled = torch.eye(patterns[0].shape[-1], dtype=patterns[0].dtype)
    for pattern, slope in zip(patterns, slopes, strict=True):
        heads = [torch.relu(s * a) for s, a in zip(slope, pattern, strict=True)]
        rolled = rolled + torch.stack(heads).sum(0) / len(heads) @ rolled
    return rolled


def greedy(graph: Any, magnitude: Tensor, n: int) -> set[Edge]:
    """Rescan everything at every step: the best edge into a port that is in; its writer's ports are then in."""
    edges, group = list(graph.edges()), graph.n_heads // graph.n_kv_heads
    inside: set[Port] = {Port(Logits())}
    chosen: set[Edge] = set()
    while len(chosen) < n:
        best, best_size = None, -1.0
        for edge in edges:
            size = float(magnitude[graph.index(edge)])
            if edge.port in inside and edge not in chosen and size > best_size:
                best, best_size = edge, size
        if best is None:
            break
        chosen.add(best)
        match best.writer:
            case Mlp():
                inside.add(Port(best.writer))
            case Head(layer, head):
                kv_head = Head(layer, head) if group == 1 else KvHead(layer, head // group)
                inside |= {Port(best.writer, "q"), Port(kv_head, "k"), Port(kv_head, "v")}
    return chosen


def bootstrap_means(values: Tensor, samples: Tensor) -> Tensor:
    """[draw]: the mean of each resample of a list of numbers."""
    return torch.stack([torch.stack([values[i] for i in row]).mean() for row in samples.tolist()])
