"""One of every noun, made by hand, with texts in it that would do harm where a page took them for more than texts.

`lt` is the package: it is handed over, since some tests look at what importing it does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

HOSTILE = ("</script><script>steal()</script>", "<!--", "<b>bold</b>", "$x^2$", "%{z}", "\"&amp;'", " a\n\t", "")
PROVENANCE = {"model": "<i>tiny</i>", "weights": "0f" * 32, "flags": {"fold_ln": True}, "dtype": "float32", "seed": 0}


def token_influence(lt: Any, labels: tuple[str, ...], *, causal: bool = True) -> Any:
    values = torch.rand(2, len(labels), len(labels))
    return lt.influence.TokenInfluence(
        values=values.tril() if causal else values, labels=(labels, labels), method="rollout", layer=None,
        rows_sum_to_one=True, provenance=PROVENANCE,
    )  # fmt: skip


def span_influence(lt: Any) -> Any:
    from llmtrace.prompts import Spans

    names = ("rest", HOSTILE[0], HOSTILE[2])
    spans = Spans(names, torch.tensor([[0, 1, 1, 2, 2, 0, 0, 0]] * 2))
    return token_influence(lt, HOSTILE).by_span(spans)


def generation(lt: Any) -> Any:
    from llmtrace.prompts import Spans

    row = token_influence(lt, HOSTILE)
    kept = replace(row, values=row.values[:1, 5:], labels=row.labels[:1], targets=torch.tensor([[5, 6, 7]]))
    return lt.influence.GenerationInfluence(
        influence=kept, chosen=HOSTILE[:3], tokens=torch.tensor([1, 2, 3]), probability=torch.rand(3),
        against=HOSTILE[3:6], spans=Spans((HOSTILE[0], "generated"), torch.tensor([[0] * 6 + [1] * 2])),
        text=HOSTILE[0], prompts=prompt_set(lt), steps=kept,
    )  # fmt: skip


def trace(lt: Any, labels: tuple[str, ...], **changes: Any) -> Any:
    n = len(labels)
    found = lt.Trace(
        activations={"blocks.1.attn.hook_pattern": torch.rand(2, 3, n, n).tril()},
        tokens=torch.zeros(2, n, dtype=torch.long), lengths=torch.tensor([n, n - 1]), labels=(labels, labels),
        kept=None, kept_names=(), side="clean", prompts="<u>mine</u>", seed=0, provenance=PROVENANCE,
    )  # fmt: skip
    return replace(found, **changes)


def node_scores(lt: Any, nodes: tuple[Any, ...] | None = None) -> Any:
    from llmtrace.nodes import Bias

    layers = [[*(lt.Head(layer, h) for h in range(3)), lt.Mlp(layer), Bias("b_O", layer)] for layer in range(2)]
    nodes = nodes or (lt.Embed(), *layers[0], *layers[1], Bias("unembedding", 2))
    values = torch.randn(len(nodes), 4)
    return lt.influence.NodeScores(
        nodes=nodes, values=values, total=values.sum(0) + 1e-4, method="direct_logit_attribution", metric="logit_diff",
        provenance=PROVENANCE,
    )  # fmt: skip


def effects(lt: Any, nodes: tuple[tuple[Any, ...], ...] | None = None, **changes: Any) -> Any:
    nodes = nodes or tuple(
        (node,) for layer in range(2) for node in (*(lt.Head(layer, h) for h in range(3)), lt.Mlp(layer))
    )
    found = lt.Effects(
        nodes=nodes, before=torch.rand(4) + 2, after=torch.randn(len(nodes), 4), other=torch.zeros(4),
        method="path_patch", metric="logit_diff", provenance=PROVENANCE, passes=2.0,
        options={"convention": "all_frozen"},
    )  # fmt: skip
    return replace(found, **changes)


def source_scores(lt: Any) -> Any:
    nodes = tuple(lt.Head(layer, h) for layer in range(2) for h in range(3))
    return lt.influence.SourceScores(
        nodes=nodes, values=torch.randn(6, 2, 3), labels=((" a", " a", HOSTILE[0]),) * 2,
        method="source_token_attribution", metric="logit_diff", provenance=PROVENANCE,
    )  # fmt: skip


def flow_graph(lt: Any) -> Any:
    """Two heads from token 1 and an MLP, then what stays; the prediction is after token 3."""
    return lt.influence.FlowGraph(
        stage=torch.tensor([2, 2, 1, 1, 1]), kind=torch.tensor([1, 2, 0, 0, 2]), head=torch.tensor([-1, -1, 0, 2, -1]),
        source=torch.tensor([3, 3, 1, 1, 3]), target=torch.full((5,), 3), share=torch.tensor([0.4, 0.6, 0.1, 0.2, 0.7]),
        flow=torch.tensor([0.4, 0.6, 0.1, 0.2, 0.7]), stages=("input", "0_mid", "0_post"), labels=HOSTILE, at=3,
        threshold=0.01, provenance=PROVENANCE,
    )  # fmt: skip


def lens(lt: Any) -> Any:
    return lt.influence.LensScores(
        stages=("0_pre", "0_mid", "final"), values=torch.randn(3, 5), top_tokens=((" a",) * 4 + (HOSTILE[0],),) * 3,
        top_probability=torch.rand(3, 5), metric="logit_diff", provenance=PROVENANCE,
    )  # fmt: skip


def token_lens(lt: Any, *, places: int = 3) -> Any:
    return lt.influence.TokenLens(
        stages=("0_pre", "0_mid", "final"), probability=torch.rand(3, 2, places, 2),
        rank=torch.randint(1, 50, (3, 2, places, 2)), top_tokens=(((HOSTILE[0],) * places,) * 2,) * 3,
        top_probability=torch.rand(3, 2, places), tokens=((" a", HOSTILE[1]),) * 2,
        positions=torch.arange(places).expand(2, -1), labels=((HOSTILE[2],) * places,) * 2, provenance=PROVENANCE,
    )  # fmt: skip


def stream(lt: Any) -> Any:
    return lt.influence.StreamScores(
        stages=("0_pre", "0_mid", "final"), added_by=("embedding", "attention 0", "MLP 0"), norm=torch.rand(3, 4),
        step=torch.rand(3, 4), cosine=torch.rand(3, 4), share=torch.randn(3, 4), direct=torch.randn(3, 4),
        metric="logit_diff", position=HOSTILE[0], provenance=PROVENANCE,
    )  # fmt: skip


def head_table(lt: Any) -> Any:
    heads = tuple(lt.Head(layer, h) for layer in range(2) for h in range(3))
    return lt.influence.HeadTable(
        heads, ("induction", "copying"), torch.rand(6, 2) - torch.tensor([0.0, 0.5]), "head_scores", PROVENANCE,
        {"prompts": HOSTILE[0], "n_prompts": 4}, {"name_mover": "no"},
    )  # fmt: skip


def composed(lt: Any) -> Any:
    heads = tuple(lt.Head(layer, h) for layer in range(2) for h in range(2))
    values = torch.full((3, 4, 4), float("nan"))
    values[:, :2, 2:] = torch.rand(3, 2, 2)
    return lt.influence.Composition(heads, ("q", "k", "v"), values, values / 2, 0.25, PROVENANCE)


def neuron_statistics(lt: Any) -> Any:
    values = torch.rand(2, 5)
    return lt.influence.NeuronStatistics(
        layers=(0, 1), mean=values, std=values, min=values, max=values, share_active=values, kurtosis=values,
        highest=torch.rand(2, 5, 2), where=torch.tensor([[1, 3], [0, 2]]).expand(2, 5, 2, 2), labels=(HOSTILE,) * 2,
        lengths=torch.tensor([8, 8]), n_tokens=14, provenance=PROVENANCE, options={"prompts": HOSTILE[0]},
    )  # fmt: skip


def neuron_reading(lt: Any) -> Any:
    some = tuple((text, 1.0 - i) for i, text in enumerate(HOSTILE))
    return lt.influence.NeuronReading(
        (lt.Neuron(1, 3),), ("key", "value"), ((some, some),), ((some, some),), PROVENANCE
    )


def graph(lt: Any, *, kv_heads: int = 4) -> Any:
    return lt.Graph(n_layers=2, n_heads=4, n_kv_heads=kv_heads, parallel=False, attn_only=False)


def circuit(lt: Any, *, kv_heads: int = 4, scored: bool = True) -> Any:
    whole = graph(lt, kv_heads=kv_heads)
    scores = torch.randn(whole.real.shape) * whole.real if scored else None
    return lt.Circuit(whole, whole.real, scores=scores, provenance=PROVENANCE, options={"metric": "logit_diff"})


def edge_scores(lt: Any) -> Any:
    whole = graph(lt)
    per_prompt = torch.randn(3, *whole.real.shape) * whole.real
    return lt.EdgeScores(
        graph=whole, per_prompt=per_prompt, method="eap", metric="logit_diff", provenance=PROVENANCE, passes="3"
    )


def circuit_report(lt: Any, *, draws: int = 4, prompts: int = 8) -> Any:
    return lt.circuits.CircuitReport(
        circuit=circuit(lt), alone=torch.arange(prompts) + 0.5, model=torch.arange(prompts) + 1.0,
        empty=torch.arange(prompts).where(torch.arange(prompts) > 0, 1).float(),
        random=torch.rand(draws, prompts), metric="logit_diff", ablation="resample",
        seed=0, provenance=PROVENANCE, caveats=("on 1 of 3 <b>prompts</b>",),
    )  # fmt: skip


def faithfulness_curve(lt: Any, *, shares: tuple[float, ...] = (0.01, 0.1, 1.0)) -> Any:
    from llmtrace.circuits import FaithfulnessCurve

    return FaithfulnessCurve(
        circuits=(circuit(lt),) * len(shares), shares=shares, alone=torch.rand(len(shares), 6), model=torch.rand(6) + 2,
        empty=torch.zeros(6), method="eap_ig", metric="logit_diff", ablation="resample", seed=0,
    )  # fmt: skip


def completeness(lt: Any) -> Any:
    from llmtrace.circuits import Completeness

    knocked_out = ((), (lt.Head(0, 1), lt.Mlp(1)), tuple(lt.Head(1, h) for h in range(4)), (lt.Mlp(0),))
    return Completeness(knocked_out, circuit=torch.randn(4, 5), model=torch.randn(4, 5), metric="logit_diff")


def minimality(lt: Any, *, nodes: int = 5) -> Any:
    from llmtrace.circuits import Minimality

    return Minimality(tuple(lt.Head(0, h) for h in range(nodes)), loss=torch.randn(nodes, 6), metric="logit_diff")


def validation(lt: Any) -> Any:
    nodes = tuple(lt.Head(layer, head) for layer in range(2) for head in range(3))
    score, loss = torch.randn(6).double(), torch.randn(6).double()
    return lt.Validation(
        nodes,
        score,
        loss,
        loss - 0.1,
        loss + 0.1,
        "direct_logit_attribution",
        "mean ablation",
        "logit_diff",
        PROVENANCE,
    )


def causal_check(lt: Any, *, method: str = "rollout") -> Any:
    from llmtrace.validation.checks.deletion_curves import Curves

    curves = torch.rand(3, 4, 2).double()
    return lt.validation.CausalCheck(
        methods=(method, "occlusion (mean)", "random"), roles=("score", "oracle", "baseline"), names=(HOSTILE,) * 2,
        there=torch.ones(2, 8).bool(), scores=torch.randn(3, 2, 8).double(), loss=torch.randn(2, 8).double(),
        rank=torch.rand(3, 2).double(), size_rank=torch.rand(3, 2).double(), share=torch.rand(3, 2).double(),
        curves=Curves(torch.linspace(0, 1, 4).double()[:, None].expand(4, 2), curves, 1 - curves,
                      torch.ones(2).double(), torch.zeros(2).double()),
        what="tokens", test="occlusion (mean)", metric="logit_diff", k=3, passes=40.0, seed=0, provenance=PROVENANCE,
    )  # fmt: skip


def prompt_set(lt: Any) -> Any:
    tokens = torch.tensor([[1, 2, 3], [1, 2, 4]])
    return lt.PromptSet(
        name="<u>mine</u>", clean=tokens, corrupted=tokens + 1, lengths=torch.tensor([3, 3]), correct=((5,), (6,)),
        wrong=((7,), (8,)), positions={"END": torch.tensor([2, 2])}, groups=torch.tensor([0, 0]),
        group_names=("one",), texts=("a b", HOSTILE[0]), corrupted_texts=("a c", HOSTILE[1]), seed=3,
        prepend_bos=True, pad_id=0, left_out={"names": 2}, answer_texts={5: " Mary", 6: HOSTILE[2]},
    )  # fmt: skip


NOUNS: dict[str, Callable[[Any], Any]] = {
    "PromptSet": prompt_set,
    "Trace": lambda lt: trace(lt, HOSTILE),
    "NodeScores": node_scores,
    "SourceScores": source_scores,
    "TokenInfluence": lambda lt: token_influence(lt, HOSTILE),
    "SpanInfluence": span_influence,
    "GenerationInfluence": generation,
    "FlowGraph": flow_graph,
    "LensScores": lens,
    "TokenLens": token_lens,
    "StreamScores": stream,
    "HeadTable": head_table,
    "Composition": composed,
    "NeuronStatistics": neuron_statistics,
    "NeuronReading": neuron_reading,
    "Effects": effects,
    "EdgeScores": edge_scores,
    "Circuit": circuit,
    "CircuitReport": circuit_report,
    "FaithfulnessCurve": faithfulness_curve,
    "Completeness": completeness,
    "Minimality": minimality,
    "Validation": validation,
    "CausalCheck": causal_check,
}
