"""Laws 49-53: how much of each position comes from which token. Each method against its definition in loops."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from room import for_patterns
from scipy.optimize import linprog
from slow_twins import read
from tiny import ATTN_ONLY, GPT2, NEOX, POST_NORM, Tiny, close, has_mlp, one_of_each, over, prompts
from torch import Tensor

from llmtrace import influence, models
from llmtrace.errors import FileFormatError, InputError, LimitError, UnsupportedError
from llmtrace.influence.tokens import alti as alti_file, attention_flow as flow_file
from llmtrace.influence.tokens.attention.head_proximity import head_proximity
from llmtrace.influence.tokens.attention.proximity import dropped_below, proximity
from llmtrace.influence.tokens.attention_flow import flows
from llmtrace.models.hand_built.designs import known_circuit
from llmtrace.prompts import from_pairs

# --- the paper's pieces, by hand -----------------------------------------------------------------------------------


def kept(tiny: Tiny, layer: int, *kinds: str) -> list[Tensor]:
    """Activations of a layer on the random prompts."""
    names = [f"blocks.{layer}.{kind}" for kind in kinds]
    found = read(tiny.model, prompts(padded=True).clean, names)
    return [found[name] for name in names]


@functools.cache
def head_parts(tiny: Tiny, layer: int) -> tuple[Tensor, Tensor, Tensor]:
    """What each head moves from source to target [batch head target source d_model], the stream before attention and
    the stream after it [batch pos d_model] (for parallel blocks the sum that would stand there)."""
    pattern, v, pre = kept(tiny, layer, "attn.hook_pattern", "attn.hook_v", "hook_resid_pre")
    w = models.attention_weights(tiny.model, layer)
    group = len(w.W_O) // v.shape[2]
    parts = torch.stack(
        [pattern[:, h, :, :, None] * (v[:, :, h // group] @ w.W_O[h])[:, None] for h in range(len(w.W_O))], 1
    )
    return parts, pre, pre + parts.sum((1, 3)) + w.b_O


def toward(part: Tensor, whole: Tensor) -> float:
    return max(0.0, float(whole.abs().sum() - (whole - part).abs().sum()))


@functools.cache
def slow_alti(tiny: Tiny) -> list[Tensor]:
    """ALTI up to the input of layer 0, after attention of layer 0, of layer 1, ...: one [batch pos pos] each."""
    n, width = prompts().clean.shape
    rolled = [torch.eye(width, dtype=torch.float64).repeat(n, 1, 1)]
    for layer in range(tiny.family.n_layers):
        parts, pre, whole = head_parts(tiny, layer)
        step = torch.zeros(n, width, width, dtype=torch.float64)
        for b in range(n):
            for i in range(width):
                for j in range(i + 1):
                    moved = parts[b, :, i, j].sum(0) + (pre[b, i] if i == j else 0)
                    step[b, i, j] = toward(moved, whole[b, i])
                if step[b, i].sum() == 0:  # nothing points along y: i keeps to itself
                    step[b, i, i] = 1
                step[b, i] /= step[b, i].sum()
        rolled.append(step @ rolled[-1])
    return rolled


def direction(tiny: Tiny, final: Tensor) -> Tensor:
    """d metric / d final stream with the norm's scale frozen, at END: by autograd."""
    p, model = prompts(padded=True), tiny.model
    end = final[torch.arange(len(p)), p.positions["END"]]
    norm = models.final_norm(model)
    scale = norm.scale(end)
    leaf = torch.zeros_like(end).requires_grad_(True)
    rows = [
        model.W_U[:, list(a)].mean(1) - model.W_U[:, list(b)].mean(1) for a, b in zip(p.correct, p.wrong, strict=True)
    ]
    total = (norm.frozen(leaf, scale) * torch.stack(rows)).sum()
    return torch.autograd.grad(total, leaf)[0]


# --- ALTI ----------------------------------------------------------------------------------------------------------


@over()
def test_alti_is_its_definition(tiny: Tiny) -> None:
    """Law 50 too: rows sum to one, and nothing comes from later tokens."""
    p = prompts(padded=True)
    found = influence.alti(tiny.model, p)
    close(found.values, slow_alti(tiny)[-1], tiny.atol * 10)
    assert found.per_layer is not None and len(found.per_layer) == tiny.family.n_layers
    for step in (found.values, *found.per_layer):
        close(step.sum(-1), torch.ones_like(step[..., 0]), tiny.atol)
        assert float(step.triu(1).abs().max()) == 0 and float(step.min()) >= 0
    rolled = found.per_layer[0]
    for step in found.per_layer[1:]:
        rolled = step @ rolled
    close(found.values, rolled, tiny.atol)


def test_blocks_and_batches_do_not_change_alti(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny, p = Tiny(GPT2, "bridge", True), prompts(padded=True)
    whole = influence.alti(tiny.model, p).values
    monkeypatch.setattr(alti_file, "QUERIES", 3)
    monkeypatch.setattr(alti_file, "KEYS", 2)
    close(influence.alti(tiny.model, p, memory=for_patterns(tiny.model, 2, p)).values, whole, tiny.atol)
    metric = p.metric()
    rooms = ("auto", for_patterns(tiny.model, 2, p))
    parts = [influence.alti_logit(tiny.model, p, metric=metric, memory=room).values for room in rooms]
    close(*parts, tiny.atol)


def test_a_part_that_nothing_points_along_keeps_to_itself() -> None:
    """y = 1 = 10 - 9: both overshoot, so neither is nearer to y than nothing is."""
    pattern = torch.tensor([[[1.0, 0], [1, 0]]]).double()
    written = torch.tensor([[[-9.0]], [[0.0]]]).double()
    stream = torch.tensor([[10.0], [10.0]]).double()
    found = alti_file.contributions(pattern, written, stream, stream - 9, causal=True)
    assert found.tolist() == [[1, 0], [0, 1]]


@over(among=POST_NORM)
def test_alti_refuses_norms_after_the_blocks(tiny: Tiny) -> None:
    with pytest.raises(UnsupportedError, match="ALTI needs writes that add up"):
        influence.alti(tiny.model, prompts())
    with pytest.raises(UnsupportedError, match="ALTI-Logit needs writes that add up"):
        influence.alti_logit(tiny.model, prompts())


@over()
def test_alti_logit_is_its_definition_and_complete(tiny: Tiny) -> None:
    """Every update by hand, followed back through the slow ALTI; with the biases they sum to the metric."""
    p, model, rolled = prompts(padded=True), tiny.model, slow_alti(tiny)
    found = influence.alti_logit(model, p)
    final = models.final_residual(model, p.clean)
    seen = direction(tiny, final)
    expected = torch.zeros(len(p), p.clean.shape[1], dtype=torch.float64)
    biases = torch.zeros(len(p), dtype=torch.float64)
    for layer in range(tiny.family.n_layers):
        parts, pre, _ = head_parts(tiny, layer)
        for b, i in enumerate(p.positions["END"].tolist()):
            expected[b, i] += pre[b, i] @ seen[b] if layer == 0 else 0
            for j in range(i + 1):
                expected[b] += (parts[b, :, i, j].sum(0) @ seen[b]) * rolled[layer][b, j]
            if has_mlp(tiny):
                (mlp,) = kept(tiny, layer, "hook_mlp_out")
                expected[b] += (mlp[b, i] @ seen[b]) * rolled[layer + (not tiny.family.parallel)][b, i]
            biases[b] += models.attention_weights(model, layer).b_O.double() @ seen[b].double()
    close(found.values[:, 0], expected, tiny.atol * 100)
    assert found.gap is not None and found.per_layer is not None
    assert float(found.gap.abs().max()) < tiny.atol * 100
    close(found.per_layer.sum(0), found.values, tiny.atol * 10)
    metric = p.metric()(model(p.clean, return_type="logits"))
    with_biases = found.values.sum((1, 2)) + torch.tensor(found.options["biases"])
    close(with_biases, metric, tiny.atol * 100)


# --- information flow routes ---------------------------------------------------------------------------------------


def test_proximity_by_hand() -> None:
    """Law 53's numbers: shares of three parts, and what is left of them above a threshold."""
    parts = torch.tensor([[1.0, 1], [2, 2], [1, 1]]).double()
    near = proximity(parts, parts.sum(0))
    assert (near / near.sum()).tolist() == [0.25, 0.5, 0.25]
    kept, residual = dropped_below(
        0.1, torch.tensor([0.05, 0.15], dtype=torch.float64), torch.tensor(0.8, dtype=torch.float64)
    )
    close(torch.cat([kept, residual[None]]), torch.tensor([0, 0.15 / 0.95, 0.8 / 0.95], dtype=torch.float64), 1e-12)


def slow_shares(parts: list[Tensor], residual: Tensor, whole: Tensor, threshold: float) -> tuple[list[float], float]:
    near, own = [toward(part, whole) for part in parts], toward(residual, whole)
    own = own if own + sum(near) > 0 else 1.0
    total = own + sum(near)
    kept = [x / total if x / total > threshold else 0.0 for x in near]
    left = own / total + sum(kept)
    return [x / left for x in kept], own / total / left


def slow_routes(tiny: Tiny, prompt: int, target: int, threshold: float) -> tuple[Tensor, dict[tuple, float]]:
    """Flow at every input token, and of every edge, by a walk over one place after another."""
    width, family = prompts().clean.shape[1], tiny.family
    final = models.final_residual(tiny.model, prompts(padded=True).clean)
    flow, edges = torch.zeros(width, dtype=torch.float64), {}
    flow[target] = 1
    for layer in reversed(range(family.n_layers)):
        parts, pre, mid = head_parts(tiny, layer)
        post = final if layer == family.n_layers - 1 else head_parts(tiny, layer + 1)[1]
        mlp = kept(tiny, layer, "hook_mlp_out")[0] if has_mlp(tiny) else None
        below = torch.zeros_like(flow)
        for i in range(width):
            if flow[i] == 0:
                continue
            stage = f"{layer}_post"
            if mlp is not None and not family.parallel:
                (of_mlp,), own = slow_shares([mlp[prompt, i]], mid[prompt, i], post[prompt, i], threshold)
                edges |= {(stage, "mlp", -1, i, i): flow[i] * of_mlp, (stage, "residual", -1, i, i): flow[i] * own}
                stage = f"{layer}_mid"
            whole = mid if stage == f"{layer}_mid" else post
            ways = [("head", h, j) for h in range(family.n_heads) for j in range(i + 1)]
            vectors = [parts[prompt, h, i, j] for _, h, j in ways]
            if mlp is not None and family.parallel:
                ways, vectors = [*ways, ("mlp", -1, i)], [*vectors, mlp[prompt, i]]
            shares, own = slow_shares(vectors, pre[prompt, i], whole[prompt, i], threshold)
            for (kind, h, j), share in zip([*ways, ("residual", -1, i)], [*shares, own], strict=True):
                edges[stage, kind, h, j, i] = flow[i] * share
                below[j] += flow[i] * share
        flow = below
    return flow, {edge: float(value) for edge, value in edges.items() if value > 0}


@over()
@pytest.mark.parametrize("threshold", [0.0, 0.05])
def test_flow_routes_are_their_definition(tiny: Tiny, threshold: float) -> None:
    """For two targets at once; rows sum to one after dropping too (law 53), nothing comes from later tokens."""
    p = prompts(padded=True)
    found = influence.flow_routes(tiny.model, p, threshold=threshold, positions=["MID", "END"])
    close(found.values.sum(-1), torch.ones_like(found.values[..., 0]), tiny.atol)
    for prompt in (0, 1):
        for row, target in enumerate((3, int(p.lengths[prompt]) - 1)):
            expected, _ = slow_routes(tiny, prompt, target, threshold)
            close(found.values[prompt, row], expected, tiny.atol * 100)
            assert float(found.values[prompt, row, target + 1 :].abs().sum()) == 0
    alone = influence.flow_routes(tiny.model, p, threshold=threshold)
    close(alone.values[:, 0], found.values[:, 1], tiny.atol)


@over(one_of_each)
def test_flow_routes_without_patterns_and_in_blocks(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """Attention that is run again in the walk, a few targets at a time, is what the pass showed."""
    p = prompts(padded=True)
    whole = influence.flow_routes(tiny.model, p, threshold=0.05, positions=["MID", "END"]).values
    monkeypatch.setattr("llmtrace.influence.tokens.attention.flow_walk.KEPT", 0)
    monkeypatch.setattr("llmtrace.influence.tokens.attention.head_proximity.TARGETS", 2)
    again = influence.flow_routes(tiny.model, p, threshold=0.05, positions=["MID", "END"]).values
    close(again, whole, tiny.atol)


@over(among=[Tiny(GPT2, "bridge", True), Tiny(NEOX, "bridge", False), Tiny(ATTN_ONLY, "bridge", False)])
def test_the_flow_graph_holds_every_edge(tiny: Tiny) -> None:
    """Places pass on what reaches them; the edges are those of the walk in loops; the input is `flow_routes`."""
    p = prompts(padded=True)
    graph = influence.flow_graph(tiny.model, p[1], threshold=0.05)
    _, expected = slow_routes(tiny, 1, 4, 0.05)
    columns = zip(graph.stage, graph.kind, graph.head, graph.source, graph.target, graph.flow, strict=True)
    found = {(graph.stages[s], graph.KINDS[k], int(h), int(j), int(i)): float(flow) for s, k, h, j, i, flow in columns}
    assert found.keys() == expected.keys()
    assert all(found[edge] == pytest.approx(expected[edge], abs=tiny.atol * 100) for edge in found)
    close(graph.places.sum(1), torch.ones(len(graph.stages)), tiny.atol)
    close(graph.tokens(), influence.flow_routes(tiny.model, p[1], threshold=0.05).values[0, 0], tiny.atol)
    assert len(graph.df()) == len(found) and graph.df().flow.is_monotonic_decreasing


@pytest.mark.parametrize("columns", [(1,), (2, 5), (16, 40)])
@pytest.mark.parametrize("targets", [1, 2, 128])
def test_the_ways_to_measure_heads_agree(
    targets: int, columns: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever number of columns decides, and where the stream or a value is 0, proximity is its definition."""
    monkeypatch.setattr("llmtrace.influence.tokens.attention.head_proximity.FEW", columns)
    monkeypatch.setattr("llmtrace.influence.tokens.attention.head_proximity.BLOCK", 64)
    monkeypatch.setattr("llmtrace.influence.tokens.attention.head_proximity.TARGETS", targets)
    generator = torch.Generator().manual_seed(0)
    pattern, v, W_O, whole = (
        torch.randn(size, generator=generator).double() for size in ((4, 3, 6), (6, 2, 5), (4, 5, 16), (3, 16))
    )
    pattern = pattern.div(2).exp() * 10.0 ** torch.randint(-6, 1, pattern.shape, generator=generator)
    whole[0, :4], whole[1], v[2], pattern[:, 2, 4:], pattern[:, 0] = 0, 0, 0, 0, 0  # target 0 looks nowhere
    got = head_proximity(pattern, v, W_O, whole)
    for target in range(3):
        for source in range(6):
            for head in range(4):
                part = pattern[head, target, source] * (v[source, head // 2] @ W_O[head])
                expected = whole[target].abs().sum() - (whole[target] - part).abs().sum()
                assert float(got[target, source, head]) == pytest.approx(float(expected), abs=1e-9)


def test_flow_graphs_on_disk(tmp_path: Path) -> None:
    graph = influence.flow_graph(Tiny(GPT2, "bridge", True).model, prompts()[0])
    file = graph.save(tmp_path / "graph.json")
    again = influence.FlowGraph.load(file)
    assert again.df().equals(graph.df()) and repr(again) == repr(graph)
    assert (again.stages, again.labels, again.at) == (graph.stages, graph.labels, graph.at)
    content = json.loads(file.read_text())
    assert content["kind"] == "llmtrace.flow_graph" and content["schema_version"] == 1
    assert set(content) == set(influence.flow_graph_json_schema()["properties"])
    for broken in (
        content | {"kind": "llmtrace.circuit"},
        content | {"schema_version": 2},
        content | {"edges": content["edges"] | {"kind": ["tail"] * len(graph.kind)}},
        content | {"edges": content["edges"] | {"share": [0.5]}},
        content | {"at": 99},
    ):
        file.write_text(json.dumps(broken))
        with pytest.raises(FileFormatError):
            influence.FlowGraph.load(file)


def test_what_a_flow_cannot_be_asked() -> None:
    model = Tiny(GPT2, "bridge", True).model
    with pytest.raises(InputError, match="threshold from 0 to below 1"):
        influence.flow_routes(model, prompts(), threshold=1.0)
    with pytest.raises(InputError, match="Expected one prompt, got 5"):
        influence.flow_graph(model, prompts())
    with pytest.raises(InputError, match="a list of positions"):
        influence.flow_routes(model, prompts(), positions=[])


@over(among=POST_NORM)
def test_flow_routes_refuse_norms_after_the_blocks(tiny: Tiny) -> None:
    with pytest.raises(UnsupportedError, match="Information flow routes needs writes that add up"):
        influence.flow_routes(tiny.model, prompts())


# --- attention flow ------------------------------------------------------------------------------------------------


def flow_by_programme(steps: Tensor, target: int, source: int) -> float:
    """The maximum flow as a linear programme: what leaves the target, every place in between keeping nothing."""
    n_layers, width, _ = steps.shape
    pipes = [(layer, i, j) for layer in range(n_layers) for i in range(width) for j in range(i + 1)]
    balance = np.zeros((n_layers + 1, width, len(pipes)))
    for n, (layer, i, j) in enumerate(pipes):
        balance[layer + 1, i, n] -= 1
        balance[layer, j, n] += 1
    places = balance.reshape(-1, len(pipes))
    start, end = n_layers * width + target, source
    inner = np.delete(places, [start, end], axis=0)
    bounds = [(0, float(steps[layer, i, j])) for layer, i, j in pipes]
    return -linprog(places[start], A_eq=inner, b_eq=np.zeros(len(inner)), bounds=bounds).fun


@pytest.mark.parametrize("n_layers", [1, 2, 4])
def test_attention_flow_is_a_maximum_flow(n_layers: int) -> None:
    scores = 3 * torch.randn(n_layers, 5, 5, generator=torch.Generator().manual_seed(n_layers)).double()
    past = torch.ones(5, 5, dtype=torch.bool).tril()
    steps = scores.masked_fill(~past, -torch.inf).softmax(-1) / 2 + torch.eye(5).double() / 2
    for target in (1, 4):
        expected = [flow_by_programme(steps, target, source) for source in range(target + 1)]
        close(flows(steps, target), torch.tensor(expected), 1e-7)


@over(one_of_each)
def test_attention_flow_of_a_model(tiny: Tiny) -> None:
    """Through one pipe there is one way: in the first layer alone it is A^; nothing flows from later tokens."""
    p = prompts(padded=True)
    found = influence.attention_flow(tiny.model, p, positions=["MID", "END"])
    rolled = influence.rollout(tiny.model, p)
    assert rolled.per_layer is not None
    close(found.values[1, 1, :5], flows(rolled.per_layer[:, 1], 4), 1e-6)
    close(flows(rolled.per_layer[:1, 0], 6), rolled.per_layer[0, 0, 6], 1e-6)
    assert float(found.values[:, 0, 4:].abs().max()) == 0
    assert bool((found.values <= 1 + 1e-6).all())
    assert bool((found.values[:, 1] >= rolled.values[torch.arange(5), p.lengths - 1] - 1e-5).all())  # one way of many


def test_attention_flow_of_long_prompts_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow_file, "LIMIT", 100)
    with pytest.raises(LimitError, match="pipes times flows"):
        influence.attention_flow(Tiny(GPT2, "bridge", True).model, prompts())


# --- layers --------------------------------------------------------------------------------------------------------


@over()
@pytest.mark.parametrize("method", ["raw_attention", "value_weighted_norms"])
def test_all_layers_are_the_mean_of_each(tiny: Tiny, method: str) -> None:
    function = influence.METHODS[method].function
    each = [function(tiny.model, prompts(), layer=layer).values for layer in range(tiny.family.n_layers)]
    whole = function(tiny.model, prompts(), memory=for_patterns(tiny.model, 2, prompts()))
    close(whole.per_layer, torch.stack(each), tiny.atol)
    close(whole.values, sum(each) / len(each), tiny.atol)
    assert whole.layer is None


def test_a_head_needs_its_layer() -> None:
    with pytest.raises(InputError, match="Expected a layer for head 1"):
        influence.raw_attention(Tiny(GPT2, "bridge", True).model, prompts(), head=1)


# --- where the truth is known --------------------------------------------------------------------------------------


@functools.cache
def of_induction(name: str) -> list[float]:
    """What a method says of END on "<bos> w1 w2 w3 w4 w5 w1 w2 w3" against w9: the induction head takes w4 from
    position 4, where the previous-token head of layer 0 wrote w3 from 3; it told END itself (8) of w2 at 7."""
    truth = known_circuit("induction")
    model = models.load("induction", dtype="float64", device="cpu")
    p = from_pairs(model, [(truth.clean, truth.corrupted, truth.correct, truth.wrong)])
    return [round(value, 9) for value in influence.METHODS[name](model, p).values[0, -1].tolist()]


# Layer 1 brings 3 (w4), the stream is 3 more (its token, position and previous token, 1 each): a half from position 4.
# Of position 4, and of END, a third is what the previous-token head wrote.
THIRDS = [0, 0, 0, 1 / 6, 1 / 3, 0, 0, 1 / 6, 1 / 3]
ON_INDUCTION = {
    "alti": THIRDS,
    "flow_routes": THIRDS,
    "alti_logit": [
        0,
        0,
        0,
        1,
        2,
        0,
        0,
        0,
        0,
    ],  # all 3 by position 4; of that a third from 3
    # half of layer 1 and half of that, whatever the sizes: attention of both layers is all on one token
    "rollout": [0, 0, 0, 0.25, 0.25, 0, 0, 0.25, 0.25],
    # each pair has the network for itself: half a unit can come from each of the four
    "attention_flow": [0, 0, 0, 0.5, 0.5, 0, 0, 0.5, 0.5],
    # the means over layers: END looks at 7 and then at 4; 1 of w2 arrives, then 3 of w4, beside its own 2 and 3
    "raw_attention": [0, 0, 0, 0, 0.5, 0, 0, 0.5, 0],
    "value_weighted_norms": [0, 0, 0, 0, 1.5, 0, 0, 0.5, (2**0.5 + 3**0.5) / 2],
}


@pytest.mark.parametrize("name", list(ON_INDUCTION))
def test_the_token_that_truth_names(name: str) -> None:
    """No other token has more than w4, which the head copies, but where the method counts END's own stream as well
    (norms), and none of those that only see who looks at whom can tell it from w2, which plays no part: attention's
    known failure. Methods that measure writes can; only ALTI-Logit knows that END's own stream says nothing of w4."""
    found = of_induction(name)
    assert found == pytest.approx(ON_INDUCTION[name], abs=1e-8)
    of_others = [value for position, value in enumerate(found) if position not in (4, 8)]
    if name in ("alti", "flow_routes", "alti_logit", "value_weighted_norms"):
        assert found[4] > max(of_others)
    else:
        assert found[4] == max(of_others) == found[7]
