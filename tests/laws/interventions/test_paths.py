"""Path patching to any receivers, over several hops, in every convention, against its definition in whole passes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace as changed
from typing import Any

import pytest
import slow_twins as slow
import torch
from slow_twins import Hook, metric_of_run, read, replace
from tiny import ALL, POST_NORM, Tiny, close, has_mlp, one_of_each, over, prompts, ungrouped
from torch import Tensor

from llmtrace import interventions, models
from llmtrace.errors import InputError, UnsupportedError
from llmtrace.nodes import Edge, Embed, Head, KvHead, Logits, Mlp, Node, Path, Port, parse_path
from llmtrace.prompts import PromptSet

Activations = dict[str, Tensor]  # by name; what is held


def last(tiny: Tiny) -> int:
    return tiny.family.n_layers - 1


def kv(tiny: Tiny, layer: int, head: int) -> Head | KvHead:
    grouped = tiny.family.kv_heads < tiny.family.n_heads
    return KvHead(layer, head // (tiny.family.n_heads // tiny.family.kv_heads)) if grouped else Head(layer, head)


def receivers_of(tiny: Tiny) -> dict[str, list[Port]]:
    layer = last(tiny)
    found = {slot: [Port(Head(layer, 1) if slot == "q" else kv(tiny, layer, 1), slot)] for slot in ("q", "k", "v")}
    found["several"] = [*found["q"], *found["v"], Port(Head(layer, 0), "q")]
    if has_mlp(tiny):
        found["mlp"] = [Port(Mlp(layer))]
        found["mlp and q"] = [Port(Mlp(0)), *found["q"]]
    return found


# --- slow twins: the definition, in whole passes -------------------------------------------------------------------


def z_names(model: Any) -> list[str]:
    return [f"blocks.{layer}.attn.hook_z" for layer in range(models.describe(model).n_layers)]


def mlp_names(model: Any) -> list[str]:
    arch = models.describe(model)
    return [] if arch.attn_only else [f"blocks.{layer}.hook_mlp_out" for layer in range(arch.n_layers)]


def port_name(port: Port) -> str:
    if isinstance(port.node, Mlp):
        return f"blocks.{port.node.layer}.hook_mlp_out"
    return f"blocks.{port.node.layer}.attn.hook_{port.slot}"


def held_by(
    model: Any, p: PromptSet, senders: Sequence[Node], written: dict[str, Tensor], *, convention: str,
    where: Tensor | None = None,
) -> list[Hook]:  # fmt: skip
    """All heads (and MLPs) as in the clean run, the senders as in `written`, which holds activations by name."""
    start = "blocks.0.hook_resid_pre"
    clean = read(model, p.clean, [start, *z_names(model), *mlp_names(model)])
    held = {name: clean[name].clone() for name in z_names(model)}
    if convention == "all_frozen":
        held |= {name: clean[name].clone() for name in mlp_names(model)}

    def put(name: str, head: int | None) -> None:
        value = clean[name].clone() if name not in held else held[name]
        for i in range(len(p)):
            for pos in range(value.shape[1]):
                if where is None or where[i, pos]:
                    at = (i, pos) if head is None else (i, pos, head)
                    value[at] = written[name][at]
        held[name] = value

    for node in senders:
        match node:
            case Embed():
                put(start, None)
            case Mlp(layer):
                put(f"blocks.{layer}.hook_mlp_out", None)
            case Head(layer, head):
                put(f"blocks.{layer}.attn.hook_z", head)
    return [replace(name, value) for name, value in held.items()]


def ports_read(model: Any, p: PromptSet, hooks: Iterable[Hook], ports: Iterable[Port]) -> Activations:
    """The ports' activations in a run, taken down before anything holds them."""
    found: Activations = {}

    def keep(name: str) -> Hook:
        return name, lambda value: found.__setitem__(name, value.clone())

    models.final_residual(model, p.clean, [*(keep(port_name(port)) for port in ports), *hooks])
    return found


def put_ports(values: Activations, ports: Iterable[Port]) -> list[Hook]:
    """Only the heads named, not the activations' other heads."""
    hooks: list[Hook] = []
    for port in ports:
        name = port_name(port)

        def put(value: Tensor, name: str = name, port: Port = port) -> Tensor:
            if isinstance(port.node, Mlp):
                return values[name]
            new = value.clone()
            new[:, :, port.node.head] = values[name][:, :, port.node.head]
            return new

        hooks.append((name, put))
    return hooks


def path_patched(model: Any, p: PromptSet, path: Path, *, convention: str, where: Tensor | None = None) -> Tensor:
    """Hop by hop: what the ports read when their senders change and all else is held; then only what the nodes of these
    ports make of it; at last either the logits of the held run, or a run in which everything else reacts."""
    arch = models.describe(model)
    written = read(model, p.corrupted, ["blocks.0.hook_resid_pre", *z_names(model), *mlp_names(model)])
    senders: list[Node] = list(path.senders)
    for index, ports in enumerate(path.steps):
        hooks = held_by(model, p, senders, written, convention=convention, where=where if index == 0 else None)
        if ports == (Port(Logits()),):
            return metric_of_run(model, p, hooks)
        values = ports_read(model, p, hooks, ports)
        if index + 1 == len(path.steps):
            return metric_of_run(model, p, put_ports(values, ports))
        written = {}
        senders = []
        for layer in {port.node.layer for port in ports}:
            here = [port for port in ports if port.node.layer == layer]
            heads = [port for port in here if not isinstance(port.node, Mlp)]
            for port in here:
                match port.node:
                    case KvHead(_, head):
                        senders += [Head(layer, h) for h in range(head * arch.group, (head + 1) * arch.group)]
                    case node:
                        senders.append(node)
                        if isinstance(node, Mlp):
                            written[port_name(port)] = values[port_name(port)]
            written |= read(model, p.clean, [f"blocks.{layer}.attn.hook_z"], put_ports(values, heads))
    raise AssertionError("a path without steps")


def edges_patched(model: Any, p: PromptSet, edges: Iterable[Edge]) -> Tensor:
    """All edges live but these, which carry the corrupted write: one port, one head at a time."""
    removed = set(edges)
    corrupted = {u: slow.write_of(model, p.corrupted, u) for u in slow.writers(model)}
    final = slow.run_edges(model, p.clean, corrupted, lambda u, v: float(Edge(u, v) in removed))
    return slow.logit_diff(slow.unembedded(model, final), p)


# --- one hop ---------------------------------------------------------------------------------------------------------


@over(one_of_each)
@pytest.mark.parametrize("convention", ["heads_frozen", "all_frozen"])
def test_path_patching_to_ports_equals_its_slow_twin(tiny: Tiny, convention: str) -> None:
    """Queries, keys, values, MLPs, and several receivers at once; two lengths of prompts."""
    p, senders = prompts(padded=True), [Embed(), Head(0, 1), *([Mlp(0)] if has_mlp(tiny) else [])]
    for name, ports in receivers_of(tiny).items():
        effects = interventions.path_patch(
            tiny.model, p, senders=senders, receivers=ports, convention=convention
        )  # fmt: skip
        for i, sender in enumerate(senders):
            expected = path_patched(tiny.model, p, Path((sender,), (tuple(ports),)), convention=convention)
            close(effects.after[i], expected, 10 * tiny.atol)
        assert effects.change.abs().max() > 1e-5, name


@over(one_of_each)
def test_edge_patching_equals_its_slow_twin(tiny: Tiny) -> None:
    """Receivers of two layers, a sender before and one between them: what they read of each other is live."""
    p, layer = prompts(), last(tiny)
    ports = [
        Port(Head(0, 0), "q"),
        Port(kv(tiny, layer, 1), "k"),
        Port(Logits()),
        *([Port(Mlp(0))] if has_mlp(tiny) else []),
    ]
    arch = models.describe(tiny.model)
    senders = [Embed(), Head(0, 0), Head(layer, 1)]
    effects = interventions.path_patch(tiny.model, p, senders=senders, receivers=ports, convention="edges")
    for i, sender in enumerate(senders):
        edges = [Edge(sender, port) for port in ports if arch.reads(port, sender)]
        close(effects.after[i], edges_patched(tiny.model, p, edges), 10 * tiny.atol)
    assert effects.change.abs().amax(1).min() > 1e-6


@over(one_of_each)
def test_one_edge_is_the_same_in_two_conventions(tiny: Tiny) -> None:
    """For one receiver nothing else could be live between: all frozen = edge patching."""
    for ports in receivers_of(tiny).values():
        if len(ports) == 1:
            frozen, edges = (
                interventions.path_patch(tiny.model, prompts(), receivers=ports, convention=convention).after
                for convention in ("all_frozen", "edges")
            )
            close(edges, frozen, 10 * tiny.atol)


@over(ungrouped, one_of_each)
def test_all_edges_into_a_head_are_its_corrupted_output(tiny: Tiny) -> None:
    """Law 25 and 24: every writer changed at q, k and v of a head = the head patched."""
    layer = last(tiny)
    everyone = [u for u in slow.writers(tiny.model) if models.describe(tiny.model).reads(Port(Head(layer, 0), "q"), u)]
    p = prompts()
    edges = [f"{u}->a{layer}.h0<{slot}>" for u in everyone for slot in "qkv"]
    patched = interventions.ablate(tiny.model, p, edges, ablation="resample", together=True)
    whole = interventions.ablate(tiny.model, p, [Head(layer, 0)], ablation="resample")
    close(patched.after[0], whole.after[0], 10 * tiny.atol)


@over(one_of_each)
def test_positions_limit_what_is_sent(tiny: Tiny) -> None:
    """At named positions, and at positions that differ in number between prompts."""
    p = prompts(padded=True)
    for positions in (["MID"], ["END"], ["MID", "END"]):
        where = torch.zeros_like(p.mask)
        for name in positions:
            where[torch.arange(len(p)), p.positions[name]] = True
        ports = receivers_of(tiny)["several"]
        effects = interventions.path_patch(tiny.model, p, senders=[Head(0, 1)], receivers=ports, positions=positions)
        path = Path((Head(0, 1),), (tuple(ports),))
        expected = path_patched(tiny.model, p, path, convention="heads_frozen", where=where)
        close(effects.after[0], expected, 10 * tiny.atol)
    to_logits = interventions.path_patch(tiny.model, p, senders=[Head(0, 1)], positions=["MID"])
    assert torch.equal(to_logits.after[0], to_logits.before), "the logits read END alone"


def test_denoising_is_noising_of_the_prompts_exchanged() -> None:
    p = prompts(padded=True)
    other = changed(p, clean=p.corrupted, corrupted=p.clean)
    tiny = ALL[0]
    for ports in ([Port(Logits())], receivers_of(tiny)["several"]):
        for convention in ("heads_frozen", "edges"):
            ours = interventions.path_patch(
                tiny.model, p, receivers=ports, direction="denoising", convention=convention
            )
            theirs = interventions.path_patch(tiny.model, other, receivers=ports, convention=convention)
            close(ours.after, theirs.after, tiny.atol)
            close(ours.before, theirs.before, tiny.atol)


def test_no_receivers_no_effect() -> None:
    """Law 27: a sender that no receiver comes after would move nothing and is refused, and so are no receivers."""
    model = ALL[0].model
    for convention in ("heads_frozen", "all_frozen", "edges"):
        late, early = [Head(1, 0)], ["a0.h1<q>"]
        with pytest.raises(InputError, match=r"some receiver comes after, got a1\.h0: no path.*what a0\.h1<q> reads"):
            interventions.path_patch(model, prompts(), senders=late, receivers=early, convention=convention)
        with pytest.raises(InputError, match="receivers"):
            interventions.path_patch(model, prompts(), senders=late, receivers=[], convention=convention)


# --- chains ----------------------------------------------------------------------------------------------------------


def chains(tiny: Tiny) -> list[Path]:
    layer = last(tiny)
    v = Port(kv(tiny, layer, 1), "v")
    found = [
        Path((Head(0, 1),), ((Port(Head(layer, 1), "q"),), (Port(Logits()),))),
        Path((Embed(),), ((Port(kv(tiny, 0, 1), "v"), Port(Head(0, 0), "q")), (v,), (Port(Logits()),))),
        Path((Embed(), Head(0, 0)), ((v, Port(Head(layer, 1), "q")), (Port(Logits()),))),
        Path((Embed(),), ((Port(kv(tiny, 0, 0), "k"),), (Port(Head(layer, 0), "q"),))),
    ]
    if has_mlp(tiny):
        found.append(Path((Embed(),), ((Port(Mlp(0)),), (v,), (Port(Logits()),))))
    return found


@over(one_of_each)
@pytest.mark.parametrize("convention", ["heads_frozen", "all_frozen"])
def test_chains_equal_their_slow_twin(tiny: Tiny, convention: str) -> None:
    """Two and three hops, sets of senders and of ports, to the logits and to a port behind which all reacts."""
    p, paths = prompts(padded=True), chains(tiny)
    effects = interventions.patch_chains(tiny.model, p, paths, convention=convention)
    for i, path in enumerate(paths):
        close(effects.after[i], path_patched(tiny.model, p, path, convention=convention), 10 * tiny.atol)
    assert effects.change.abs().amax(1).min() > 1e-7


@over(one_of_each)
def test_a_chain_of_one_hop_is_path_patching(tiny: Tiny) -> None:
    p = prompts()
    for ports in (*receivers_of(tiny).values(), [Port(Logits())]):
        chain = interventions.patch_chains(tiny.model, p, [f"input -> {' + '.join(map(str, ports))}"])
        one = interventions.path_patch(tiny.model, p, senders=[Embed()], receivers=ports)
        close(chain.after, one.after, tiny.atol)


@over(one_of_each)
def test_how_paths_are_stacked_does_not_matter(tiny: Tiny) -> None:
    p, ports = prompts(padded=True), receivers_of(tiny)["several"]
    plan = interventions.path_patch.declare(tiny.model, p, receivers=ports, memory="80kB").plan
    assert plan.prompts_at_once < len(p), "the small budget splits the prompts"
    small, large = (interventions.path_patch(tiny.model, p, receivers=ports, memory=m).after for m in ("80kB", "auto"))
    close(small, large, tiny.atol)


# --- what is refused -------------------------------------------------------------------------------------------------


def test_paths_are_read_and_printed() -> None:
    text = "a5.h5 + m3 -> a8.h6<v> -> a9.h9<q> + a9.h6<q> -> logits"
    path = parse_path(text)
    assert str(path) == text and parse_path(str(path)) == path
    assert path.label == "5.5 + MLP 3 -> 8.6<v> -> 9.9<q> + 9.6<q> -> logits"


REFUSED: dict[str, tuple[Callable[[Any, PromptSet], object], str]] = {
    "backwards": (
        lambda m, p: interventions.patch_chains(m, p, ["a1.h0 -> a0.h1<q> -> logits"]),
        "Expected a path that leads forwards, got a1.h0 -> a0.h1<q> -> logits: nothing before a0.h1<q> reaches it.",
    ),
    "logits in the middle": (
        lambda m, p: interventions.patch_chains(m, p, ["a0.h0 -> logits -> a1.h1<q>"]),
        "Expected the logits alone and at the end of a path, got a0.h0 -> logits -> a1.h1<q>.",
    ),
    "no list": (
        lambda m, p: interventions.patch_chains(m, p, "a0.h0 -> logits"),
        "Expected paths as a list, each a path or text, got 'a0.h0 -> logits'; put it in a list: ['a0.h0 -> logits'].",
    ),
    "a node is no path": (
        lambda m, p: interventions.patch_chains(m, p, ["a0.h0"]),
        "Expected a path such as 'a5.h5 -> a8.h6<v> -> logits', got 'a0.h0'; write its receivers.",
    ),
    "logits beside others": (
        lambda m, p: interventions.path_patch(m, p, receivers=["logits", "a1.h0<q>"]),
        "Expected the logits alone as receiver, got other ports beside them; what the logits read would override all "
        "else: use convention='edges', or patch twice.",
    ),
    "one receiver alone": (
        lambda m, p: interventions.path_patch(m, p, receivers="logits"),
        "Expected receivers as a list, each a Port or text, got 'logits'; put it in a list: ['logits'].",
    ),
    "nobody sends": (
        lambda m, p: interventions.path_patch(m, p, receivers=["a0.h0<q>"]),
        "Expected receivers that some head comes before, got ['a0.h0<q>']; name senders.",
    ),
    "edges have no chains": (
        lambda m, p: interventions.patch_chains(m, p, ["a0.h0 -> logits"], convention="edges"),
        "Expected convention to be one of heads_frozen, all_frozen, got 'edges'; choose one.",
    ),
    "direction": (
        lambda m, p: interventions.path_patch(m, p, direction="sideways"),
        "Expected direction to be one of denoising, noising, got 'sideways'; choose one.",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_meant_is_refused(name: str, as_users_run: None) -> None:
    call, sentence = REFUSED[name]
    with pytest.raises(InputError) as error:
        call(ALL[0].model, prompts())
    assert str(error.value) == sentence


def test_shared_keys_are_named_as_they_are() -> None:
    grouped = next(tiny for tiny in ALL if tiny.family.kv_heads < tiny.family.n_heads)
    with pytest.raises(InputError, match=r"so a1\.h3<v> is not its own; write a1\.kv1<v>\."):
        interventions.path_patch(grouped.model, prompts(), receivers=["a1.h3<v>"])


def test_writes_that_do_not_add_up_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="Path patching needs writes that add up"):
        interventions.path_patch(POST_NORM[0].model, prompts())
