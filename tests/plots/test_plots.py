"""Figures hold the noun's own numbers, every row of it, and nothing that a hostile text could do."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import plotly.io as pio
import pytest
import torch
from nouns import (
    HOSTILE,
    NOUNS,
    PROVENANCE,
    causal_check,
    circuit,
    circuit_report,
    completeness,
    composed,
    edge_scores,
    effects,
    faithfulness_curve,
    flow_graph,
    graph,
    head_table,
    lens,
    minimality,
    neuron_reading,
    neuron_statistics,
    node_scores,
    prompt_set,
    source_scores,
    span_influence,
    stream,
    token_influence,
    token_lens,
    trace,
    validation,
)
from plotly.offline import get_plotlyjs


@pytest.fixture(scope="module")
def lt() -> Any:
    import llmtrace

    return llmtrace


def kind(figure: go.Figure, name: str) -> list[Any]:
    return [drawn for drawn in figure.data if drawn.type == name]


def named(figure: go.Figure, name: str) -> Any:
    return next(drawn for drawn in figure.data if drawn.name == name)


# Every noun


def test_every_noun_is_tried_here() -> None:
    from llmtrace.plots import NOUNS as drawn

    assert set(drawn) == set(NOUNS)


@pytest.mark.parametrize("make", NOUNS.values(), ids=NOUNS)
def test_a_figure_is_returned_and_never_shown(lt: Any, make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def shown(*_: Any, **__: Any) -> None:
        raise AssertionError("a figure was shown")

    monkeypatch.setattr(pio, "show", shown)
    monkeypatch.setattr(go.Figure, "show", shown)
    assert isinstance(lt.plot(make(lt)), go.Figure)


@pytest.mark.parametrize("make", NOUNS.values(), ids=NOUNS)
def test_plotting_changes_neither_the_noun_nor_plotly(lt: Any, make: Any) -> None:
    before = pio.templates.default
    noun = make(lt)
    assert lt.plot(noun).to_json() == lt.plot(noun).to_json()
    assert pio.templates.default == before


@pytest.mark.parametrize("make", NOUNS.values(), ids=NOUNS)
def test_hostile_text_is_inert(lt: Any, make: Any) -> None:
    """plotly would make tags of `<`, TeX of `$`: neither leaves a noun unescaped."""
    spec = re.sub(
        r"<(br|/?b|extra></extra)>", "", str(lt.plot(make(lt)).to_plotly_json()).replace("<b>bold", "<B>bold")
    )
    assert "<" not in spec.replace("&lt;", "")
    assert "$" not in spec


@pytest.mark.parametrize("make", NOUNS.values(), ids=NOUNS)
def test_titles_name_what_was_measured(lt: Any, make: Any) -> None:
    noun = make(lt)
    layout = lt.plot(noun).layout
    title = f"{layout.title.text} {layout.title.subtitle.text}".replace("\xa0", " ")
    if hasattr(noun, "provenance"):
        assert "&lt;i&gt;tiny&lt;/i&gt;" in title
    if isinstance(metric := getattr(noun, "metric", None), str):
        assert metric in title
    if isinstance(method := getattr(noun, "method", None), str):
        assert method.replace("_", " ") in title.lower()


@pytest.mark.parametrize("make", NOUNS.values(), ids=NOUNS)
def test_no_axis_is_one_of_categories(lt: Any, make: Any) -> None:
    figure = lt.plot(make(lt))
    for axis in (*figure.select_xaxes(), *figure.select_yaxes()):
        assert axis.type in (None, "linear")
    for drawn in figure.data:
        for values in (getattr(drawn, "x", None), getattr(drawn, "y", None)):
            assert values is None or np.issubdtype(np.array(values, dtype=float).dtype, np.floating)


@pytest.mark.parametrize("make", NOUNS.values(), ids=NOUNS)
def test_no_button_sends_the_data_away(lt: Any, make: Any) -> None:
    assert "sendChartToCloud" in lt.plot(make(lt)).layout.modebar.remove


def test_an_unknown_type_is_a_sentence(lt: Any) -> None:
    with pytest.raises(lt.LLMTraceError, match=r"Expected a result with a figure .*, got SimpleNamespace; plot what"):
        lt.plot(SimpleNamespace())


def test_an_unknown_option_is_a_sentence(lt: Any) -> None:
    with pytest.raises(
        lt.LLMTraceError, match=r"options of the figure of Trace \(layer, head, prompt\), got 'heads'.*'head'"
    ):
        lt.plot(trace(lt, HOSTILE), heads=1)


# The right numbers


def test_node_scores_lie_on_the_map_of_the_model(lt: Any) -> None:
    scores = node_scores(lt)
    (drawn,) = kind(figure := lt.plot(scores), "heatmap")
    assert figure.layout.xaxis.ticktext == ("0", "1", "2", "MLP", "b_O")
    assert figure.layout.yaxis.ticktext == ("input", "0", "1", "unembedding")
    mean = dict(zip(scores.nodes, scores.mean().double().tolist(), strict=True))
    assert drawn.z[1, 2] == mean[lt.Head(0, 2)]
    assert drawn.z[2, 3] == mean[lt.Mlp(1)]
    assert drawn.z[0, 3] == mean[lt.Embed()]
    assert np.isfinite(drawn.z).sum() == len(scores.nodes)
    assert (drawn.zmid, drawn.zmin) == (0, -drawn.zmax)
    assert "0.2" in drawn.hovertext[1][2]


def test_neurons_are_the_largest_few(lt: Any) -> None:
    from llmtrace.nodes import Bias

    scores = node_scores(lt, (*(lt.Neuron(0, i) for i in range(60)), Bias("b_out", 0)))
    (drawn,) = kind(figure := lt.plot(scores, top=7), "bar")
    assert list(drawn.x) == pytest.approx([value for _, value in scores.top(7)])
    assert list(figure.layout.yaxis.ticktext) == [node.label for node, _ in scores.top(7)]


def test_effects_lie_on_the_map_with_their_interval(lt: Any) -> None:
    found = effects(lt)
    (drawn,) = kind(lt.plot(found), "heatmap")
    assert drawn.z[1, 2] == pytest.approx(found.of(lt.Head(1, 2)).mean().item())
    low, high = found.interval()
    assert f"[{low[6]:+#.3g}, {high[6]:+#.3g}]".replace("-", "−") in drawn.hovertext[1][2]
    assert "of the way to the other run" in drawn.hovertext[1][2]


@pytest.mark.parametrize("corrupted", [None, "as clean"])
def test_effects_without_a_share_are_drawn_without_it(lt: Any, corrupted: str | None) -> None:
    found = effects(lt)
    (drawn,) = kind(lt.plot(replace(found, other=found.before if corrupted else None)), "heatmap")
    assert "of the way" not in drawn.hovertext[1][2]


def test_nodes_changed_together_are_bars(lt: Any) -> None:
    found = effects(lt, ((lt.Head(0, 0), lt.Head(1, 1)), (lt.Mlp(0),)))
    (drawn,) = kind(figure := lt.plot(found), "bar")
    order = sorted(range(2), key=lambda i: -abs(found.mean()[i].item()))
    assert list(drawn.x) == pytest.approx([found.mean()[i].item() for i in order])
    assert set(figure.layout.yaxis.ticktext) == {"0.0 + 1.1", "MLP 0"}


def test_a_few_heads_of_a_large_model_are_bars_not_an_empty_map(lt: Any) -> None:
    assert kind(lt.plot(effects(lt, ((lt.Head(0, 3),), (lt.Head(20, 11),), (lt.Head(31, 0),)))), "bar")


def test_repeated_tokens_keep_every_row(lt: Any) -> None:
    influence = token_influence(lt, (" the",) * 6)
    (drawn,) = kind(figure := lt.plot(influence, prompt=1), "heatmap")
    assert drawn.z.shape == (6, 6)
    assert figure.layout.yaxis.ticktext == figure.layout.xaxis.ticktext == ("·the",) * 6
    assert len(set(figure.layout.yaxis.tickvals)) == 6
    lower = np.tril_indices(6)
    assert (drawn.z[lower] == influence.values[1].double().numpy()[lower]).all()


def test_only_cells_that_no_causal_model_fills_are_blank(lt: Any) -> None:
    (causal,) = kind(lt.plot(token_influence(lt, HOSTILE)), "heatmap")
    (both_ways,) = kind(lt.plot(token_influence(lt, HOSTILE, causal=False)), "heatmap")
    assert (np.isnan(causal.z) == (np.triu(np.ones((8, 8)), 1) == 1)).all()
    assert not np.isnan(both_ways.z).any()


def test_axes_of_many_tokens_thin_their_labels_and_keep_their_cells(lt: Any) -> None:
    (drawn,) = kind(figure := lt.plot(token_influence(lt, (" a",) * 400)), "heatmap")
    assert drawn.z.shape == (400, 400)
    assert 50 < len(figure.layout.xaxis.ticktext) < 400


def test_attention_of_each_head(lt: Any) -> None:
    found = trace(lt, (" a",) * 5)
    pattern = found["blocks.1.attn.hook_pattern"].double().numpy()
    panels = kind(lt.plot(found), "heatmap")
    assert len(panels) == 3
    assert (np.nan_to_num(panels[2].z) == pattern[0, 2]).all()
    (one,) = kind(lt.plot(found, layer=1, head=1, prompt=1), "heatmap")
    assert (np.nan_to_num(one.z) == pattern[1, 1, :4, :4]).all()  # without the padding of the shorter prompt
    assert [panel.z.shape for panel in kind(lt.plot(found, head=[2, 0]), "heatmap")] == [(5, 5)] * 2


def test_attention_of_kept_positions_says_which(lt: Any) -> None:
    rows = torch.rand(2, 3, 2, 5)
    found = trace(
        lt, (" a", "b", "c", "d", "e"), activations={"blocks.1.attn.hook_pattern": rows},
        kept=torch.tensor([[1, 4], [1, 3]]), kept_names=("S2", "END"),
    )  # fmt: skip
    figure = lt.plot(found, head=0)
    assert figure.layout.yaxis.ticktext == ("b (S2)", "e (END)")
    assert (kind(figure, "heatmap")[0].z == rows[0, 0].double().numpy()).all()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"layer": 0}, "Expected the attention pattern of layer 0 in the trace, got those of layers 1; capture"),
        ({"head": 3}, r"Expected heads from 0 to 2, got \[3\]"),
        ({"head": []}, r"Expected heads from 0 to 2, got \[\]"),
        ({"prompt": 2}, "Expected a prompt from 0 to 1, got 2"),
    ],
)
def test_what_was_not_captured_is_a_sentence(lt: Any, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(lt.LLMTraceError, match=sentence):
        lt.plot(trace(lt, HOSTILE), **options)


def test_a_trace_without_patterns_is_a_sentence(lt: Any) -> None:
    with pytest.raises(lt.LLMTraceError, match="Expected attention patterns in the trace, got none; capture"):
        lt.plot(trace(lt, HOSTILE, activations={"blocks.0.hook_resid_pre": torch.zeros(2, 8, 4)}))


def test_sources_are_ranked_by_their_largest(lt: Any) -> None:
    scores = source_scores(lt)
    (drawn,) = kind(figure := lt.plot(scores, prompt=1, top=4), "heatmap")
    order = scores.values[:, 1].abs().amax(1).argsort(descending=True)[:4].tolist()
    assert (drawn.z == scores.values[order, 1].double().numpy()).all()
    assert figure.layout.yaxis.ticktext == tuple(scores.nodes[i].label for i in order)


def test_the_lens_shows_every_stage_prompt_and_token(lt: Any) -> None:
    scores = lens(lt)
    figure = lt.plot(scores)
    assert (kind(figure, "heatmap")[0].z == scores.values.double().numpy()).all()
    assert list(kind(figure, "scatter")[0].x) == pytest.approx(scores.values.mean(1).tolist())
    assert kind(figure, "heatmap")[0].text[2][3] == "·a"
    assert figure.layout.yaxis.ticktext == ("pre 0", "mid 0", "final")


def test_tokens_through_the_stages_are_lines_at_one_place_and_a_map_at_several(lt: Any) -> None:
    one, several = token_lens(lt, places=1), token_lens(lt)
    lines = kind(figure := lt.plot(one, prompt=1), "scatter")
    assert list(lines[2].x) == pytest.approx(one.probability[:, 1, 0, 1].tolist())
    assert list(lines[3].x) == pytest.approx(one.rank[:, 1, 0, 1].double().log10().tolist())
    assert figure.layout.yaxis.ticktext == ("pre 0", "mid 0", "final")
    (drawn,) = kind(lt.plot(several, prompt=1, token=1), "heatmap")
    assert (drawn.z == several.probability[:, 1, :, 1].double().numpy()).all()
    with pytest.raises(lt.LLMTraceError, match="Expected a chosen token from 0 to 1, got 2"):
        lt.plot(several, token=2)


def test_every_measure_of_the_stream_is_drawn(lt: Any) -> None:
    scores = stream(lt)
    panels = kind(lt.plot(scores), "scatter")
    for panel, measure in zip(panels, ("norm", "step", "cosine", "share", "direct"), strict=True):
        assert list(panel.x) == pytest.approx(scores.of(measure).mean(1).tolist())


def test_heads_have_a_map_for_each_score(lt: Any) -> None:
    table = head_table(lt)
    first, second = kind(lt.plot(table), "heatmap")
    assert first.z[1, 2] == pytest.approx(table.of(lt.Head(1, 2))["induction"]) and first.zmax == 1
    assert second.z[0, 1] == pytest.approx(table.of(lt.Head(0, 1))["copying"]) and second.zmid == 0
    assert len(kind(lt.plot(table, scores="copying"), "heatmap")) == 1
    with pytest.raises(lt.LLMTraceError, match=r"'name_mover'\. It was left out: no"):
        lt.plot(table, scores="name_mover")


def test_composition_is_senders_against_receivers(lt: Any) -> None:
    found = composed(lt)
    drawn = kind(figure := lt.plot(found), "heatmap")
    assert [np.nan_to_num(panel.z).tolist() for panel in drawn] == found.values.nan_to_num().double().tolist()
    assert figure.layout.xaxis.ticktext == ("0.0", "0.1", "1.0", "1.1")


def test_neurons_are_drawn_by_a_statistic_and_by_their_tokens(lt: Any) -> None:
    found, reading = neuron_statistics(lt), neuron_reading(lt)
    (bars,) = kind(lt.plot(found, by="max", top=3), "bar")
    assert list(bars.x) == pytest.approx([value for _, value in found.top("max", 3)])
    key, value = kind(lt.plot(reading), "bar")
    assert len(key.x) == len(value.x) == 2 * len(HOSTILE)


def test_edges_are_the_largest_with_their_interval(lt: Any) -> None:
    scores = edge_scores(lt)
    (drawn,) = kind(figure := lt.plot(scores, top=9), "bar")
    assert list(drawn.x) == pytest.approx([value for _, value in scores.top(9)])
    assert (drawn.error_x.array >= 0).all() and (drawn.error_x.arrayminus >= 0).all()
    first = scores.top(1)[0][0]
    assert figure.layout.yaxis.ticktext[0] == f"{first.writer.label} → {first.port.label}".replace("<", "&lt;").replace(
        ">", "&gt;"
    )


@pytest.mark.parametrize("kv_heads", [4, 2])
@pytest.mark.parametrize("scored", [True, False])
def test_every_edge_of_a_circuit_is_drawn_and_told(lt: Any, kv_heads: int, scored: bool) -> None:
    whole = circuit(lt, kv_heads=kv_heads, scored=scored)
    figure = lt.plot(whole, max_edges=whole.n_edges)
    told = {text.split("<br>")[0] for text in named(figure, "scores").hovertext}
    assert told == {str(e).replace("<", "&lt;").replace(">", "&gt;") for e in whole.edges}
    curves = sum(int(np.isnan(drawn.x).sum()) for drawn in figure.data if drawn.name == "edges")
    assert curves == whole.n_edges
    assert ("score" in named(figure, "scores").hovertext[0]) == scored


def test_colour_is_the_sign_of_the_score(lt: Any) -> None:
    whole = graph(lt)
    edges = ["input->m0", "m0->logits"]
    scores = torch.zeros(whole.real.shape)
    for edge, value in zip(edges, (2.0, -1.0), strict=True):
        scores[whole.index(lt.nodes.parse_edge(edge))] = value
    figure = lt.plot(lt.Circuit.of(whole, edges, scores=scores))
    lines = {drawn.line.color: drawn.line.width for drawn in figure.data if drawn.name == "edges"}
    assert lines["#2166ac"] > lines["#b2182b"]
    assert {drawn.name for drawn in figure.data} >= {"positive score", "negative score"}


def test_a_large_circuit_draws_its_largest_edges_and_says_how_many_it_left_out(lt: Any) -> None:
    whole = circuit(lt)
    figure = lt.plot(whole, max_edges=5)
    told = [
        text.split("<br>")[0].replace("&lt;", "<").replace("&gt;", ">") for text in named(figure, "scores").hovertext
    ]
    by_size = sorted(whole.edges, key=lambda e: -abs(whole.scores[whole.graph.index(e)].item()))
    assert set(told) == {str(edge) for edge in by_size[:5]}
    assert f"{whole.n_edges - 5}\xa0of" in figure.layout.title.subtitle.text


def test_no_more_edges_are_drawn_than_can_be_told_apart(lt: Any) -> None:
    whole = graph(lt)
    figure = lt.plot(lt.Circuit(whole, whole.real))
    assert len({text for text in named(figure, "scores").hovertext}) == 60 < whole.n_edges
    assert f"{whole.n_edges - 60}\xa0of" in figure.layout.title.subtitle.text


def test_an_empty_circuit_is_a_figure(lt: Any) -> None:
    assert isinstance(lt.plot(lt.Circuit.empty(graph(lt))), go.Figure)


def test_faithfulness_of_prompts_circuit_and_random_circuits(lt: Any) -> None:
    report = circuit_report(lt)
    figure = lt.plot(report)
    assert list(named(figure, "ratio of means").y) == pytest.approx([report.faithfulness])
    assert np.allclose(named(figure, "per prompt").y, report.per_prompt, equal_nan=True)
    assert list(named(figure, "random circuits").y) == pytest.approx(report.random_faithfulness.tolist())
    assert list(named(figure, "circuit alone").y) == report.alone.tolist()
    _, high = report.interval()
    assert named(figure, "ratio of means").error_y.array[0] == pytest.approx(high - report.faithfulness)
    assert "1\xa0prompt\xa0outside" in figure.layout.title.subtitle.text  # its two runs agree: no ratio


def test_an_interval_that_does_not_exist_is_said(lt: Any) -> None:
    figure = lt.plot(circuit_report(lt, prompts=2))  # a resample of the one prompt without a ratio has none
    assert "no\xa0interval" in figure.layout.title.subtitle.text
    assert np.isfinite(figure.layout.yaxis.range).all()


def test_a_report_without_random_circuits_is_drawn(lt: Any) -> None:
    assert lt.plot(circuit_report(lt, draws=0)).layout.xaxis.ticktext == ("this circuit",)


def test_a_curve_runs_over_the_log_of_the_share(lt: Any) -> None:
    curve = faithfulness_curve(lt)
    figure = lt.plot(curve)
    drawn = named(figure, "faithfulness")
    assert list(drawn.x) == pytest.approx([-2, -1, 0])
    assert list(drawn.y) == pytest.approx(curve.faithfulness.tolist())
    assert (drawn.error_y.array >= 0).all() and (drawn.error_y.arrayminus >= 0).all()
    ticks = dict(zip(figure.layout.xaxis.ticktext, figure.layout.xaxis.tickvals, strict=True))
    whole = curve.circuits[0].graph.n_edges
    assert ticks[f"100%<br>{whole}"] == pytest.approx(0) and ticks[f"1%<br>{round(whole / 100)}"] == pytest.approx(-2)
    assert {line.y0 for line in figure.layout.shapes} == {0, 1}
    title = figure.layout.title.subtitle.text.replace("\xa0", " ")
    assert f"CMD {curve.cmd:.3f} [" in title and f"CPR {curve.cpr:.3f} [" in title


@pytest.mark.parametrize(("shares", "labels"), [((1e-6, 1.0), 7), ((0.3, 0.4), 2), ((0.25,), 1), ((1.0,), 1)])
def test_a_curve_of_any_shares_has_labels_that_fit(lt: Any, shares: tuple[float, ...], labels: int) -> None:
    assert len(lt.plot(faithfulness_curve(lt, shares=shares)).layout.xaxis.ticktext) == labels


def test_knock_outs_of_circuit_and_model_lie_about_the_diagonal(lt: Any) -> None:
    found = completeness(lt)
    figure = lt.plot(found, labels=4)
    drawn = named(figure, "knock-outs")
    assert list(drawn.x) == pytest.approx(found.model.mean(1).tolist())
    assert list(drawn.y) == pytest.approx(found.circuit.mean(1).tolist())
    assert [text.strip() for text in drawn.text] == ["nothing", "0.1 + MLP 1", "4 nodes", "MLP 0"]
    assert "1.0 1.1 1.2 1.3" in drawn.hovertext[2]
    assert list(named(figure, "diagonal").x) == list(named(figure, "diagonal").y)


def test_minimality_ranks_nodes_with_their_interval(lt: Any) -> None:
    found = minimality(lt)
    (drawn,) = kind(figure := lt.plot(found, top=3), "bar")
    assert list(drawn.x) == pytest.approx(found.df().loss[:3].tolist())
    assert list(figure.layout.yaxis.ticktext) == found.df().node[:3].tolist()
    assert (drawn.error_x.array >= 0).all() and (drawn.error_x.arrayminus >= 0).all()


def test_a_circuit_without_nodes_has_an_empty_figure(lt: Any) -> None:
    assert "0\xa0nodes" in lt.plot(minimality(lt, nodes=0)).layout.title.subtitle.text


def test_prompts_are_a_table(lt: Any) -> None:
    (drawn,) = kind(lt.plot(prompt_set(lt)), "table")
    columns = dict(zip((head.strip("<b>/") for head in drawn.header.values), drawn.cells.values, strict=True))
    assert columns["text"][0] == "a b"
    assert tuple(columns["correct"]) == ("·Mary", "&lt;b&gt;bold&lt;/b&gt;")
    assert len(kind(lt.plot(prompt_set(lt), rows=1), "table")[0].cells.values[0]) == 1


@pytest.mark.parametrize(
    ("token", "label"),
    [
        (" a", "·a"),
        ("\n", "↵"),
        ("\u202e", "\\u202e"),
        ("", "∅"),
        ("<|end|>", "&lt;|end|&gt;"),
        ("x" * 99, "x" * 23 + "…"),
    ],
)
def test_tokens_are_visible(token: str, label: str) -> None:
    from llmtrace.plots.drawing.text import token_text

    assert token_text(token) == label


def test_the_road_from_the_embedded_model(lt: Any) -> None:
    model = lt.load("tiny-english")
    prompts = lt.prompts.ioi(model, 4)
    found = lt.path_patch(model, prompts)
    (drawn,) = kind(lt.plot(found), "heatmap")
    assert drawn.z.ravel() == pytest.approx(found.mean().double().numpy())
    panels = kind(lt.plot(lt.capture(model, prompts, what="pattern"), layer=3), "heatmap")
    assert [np.nansum(panel.z, axis=1) for panel in panels] == [pytest.approx(np.ones(len(panels[0].z)), abs=1e-5)] * 8


# The report


def test_a_report_is_one_page_that_loads_nothing(lt: Any) -> None:
    from llmtrace.plots import Section, report

    page = report("IOI", [Section("Effects", "text", figure=lt.plot(effects(lt)))], provenance=PROVENANCE)
    script = get_plotlyjs()
    assert page.count(script) == 1
    ours = page.replace(script, "")
    assert not re.search(r"""(src|href|action|data|poster)\s*=|url\(|@import|https?:|//\w""", ours, re.IGNORECASE)
    assert "default-src 'none'" in ours


def test_only_our_two_scripts_may_run(lt: Any) -> None:
    """The policy names scripts by their hash: it must be that of what stands between the tags."""
    import base64
    import hashlib

    from llmtrace.plots import Section, report

    page = report("IOI", [Section("A", figure=lt.plot(effects(lt)))], provenance=PROVENANCE)
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    hashes = {f"sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}" for s in scripts}
    policy = re.search(r'Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    assert set(re.findall(r"'(sha256-[^']*)'", policy[1])) == hashes
    assert len(hashes) == 2


def test_hostile_text_in_a_report_is_inert(lt: Any) -> None:
    from llmtrace.plots import Section, report

    evil = "</script><script>steal()</script><img src=x onerror=steal()>"
    raw = go.Figure(go.Bar(x=[1], y=[2], hovertext=[evil]))
    page = report(
        evil, [Section(evil, evil, figure=raw, table=pd.DataFrame({evil: [evil]}))], provenance={evil: {evil: evil}}
    ).replace(get_plotlyjs(), "")
    assert "steal()" in page
    assert "<script>steal" not in page and "<img" not in page
    assert page.count("<script") == page.count("</script>") == 3  # plotly.js, ours, the figure's data


def test_a_report_without_figures_carries_no_plotly() -> None:
    from llmtrace.plots import Section, report

    page = report("Words", [Section("One", "first\n\nsecond")], provenance={})
    assert len(page) < 10_000
    assert "<p>first</p><p>second</p>" in page


def test_tables_and_provenance_are_written_out(lt: Any) -> None:
    from llmtrace.plots import Section, report

    table = pd.DataFrame({"node": ["9.6"], "change": [-1.23456], "share": [None], "kept": [True]})
    page = report("T", [Section("Table", table=table)], provenance=PROVENANCE)
    for cell in ("9.6", "-1.235", "–", "true", "flags: fold_ln", "0f" * 32, "&lt;i&gt;tiny&lt;/i&gt;"):
        assert f"<td>{cell}</td>" in page


def test_a_report_is_saved_whole(lt: Any, tmp_path: Path) -> None:
    from llmtrace.plots import Section, save_report

    path = save_report(tmp_path / "new" / "report.html", "T", [Section("A", "b")], provenance=PROVENANCE)
    assert path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]
    with pytest.raises(lt.LLMTraceError, match=r"Expected a file name such as 'report.html', got the folder"):
        save_report(tmp_path, "T", [], provenance={})


# ---- sweeps ---------------------------------------------------------------------------------------------------------


def sweep(lt: Any, places: list[Any], **changes: Any) -> Any:
    return effects(lt, tuple((place,) for place in places), method="patch", **changes)


def heatmaps(drawn: go.Figure) -> list[Any]:
    return [trace for trace in drawn.data if trace.type == "heatmap"]


def test_sweeps_are_maps_with_every_number_once(lt: Any) -> None:
    """layer x position, layer x head, head x position, query x key: the noun's own means, each in its cell."""
    site, heads = lt.nodes.Site, [lt.Head(layer, head) for layer in range(2) for head in range(3)]
    tokens = {4: " a", 2: " a", "END": HOSTILE[0]}  # two positions of one token
    for places, shape in (
        ([site("resid_pre", layer, (at,)) for layer in range(2) for at in (2, 4, "END")], (2, 3)),
        ([site("z", head) for head in heads], (2, 3)),
        ([site("q", head, (at,)) for head in heads for at in (2, 4)], (6, 2)),
        ([site("pattern", heads[0], (query,), (key,)) for query in (2, 4, "END") for key in (2, 4)], (3, 2)),
    ):
        found = sweep(lt, places, tokens=tokens)
        (drawn,) = heatmaps(lt.plot(found))
        assert np.shape(drawn.z) == shape
        np.testing.assert_allclose(np.ravel(drawn.z), found.mean().double().numpy())
        assert drawn.zmin == -drawn.zmax and np.shape(drawn.hovertext) == shape
        figure = lt.plot(found)
        assert figure.layout.xaxis.type == "linear" and HOSTILE[0] not in figure.to_json()


def test_kinds_stand_side_by_side_on_one_scale(lt: Any) -> None:
    kinds = ("resid_pre", "attn_out", "mlp_out", "resid_post")
    places = [lt.nodes.Site(kind, layer, (at,)) for kind in kinds for layer in range(2) for at in (0, 1)]
    found = sweep(lt, places)
    drawn = heatmaps(lt.plot(found))
    assert len(drawn) == 4 and {(one.zmin, one.zmax) for one in drawn} == {(drawn[0].zmin, drawn[0].zmax)}
    assert [one.showscale for one in drawn] == [True, False, False, False]
    assert np.concatenate([np.ravel(one.z) for one in drawn]).tolist() == found.mean().double().tolist()


def test_what_makes_no_map_is_bars(lt: Any) -> None:
    """Neurons, several positions at once, scattered places, places changed together."""
    site = lt.nodes.Site
    for places in (
        [site("mlp_post", lt.Neuron(0, 1)), site("mlp_post", lt.Neuron(0, 7))],
        [site("z", lt.Head(0, 0), ("END", 2)), site("z", lt.Head(1, 1), ("END", 2))],
        [site("z", lt.Head(0, 0), (2,)), site("q", lt.Head(9, 9), (4,))],
    ):
        drawn = lt.plot(sweep(lt, places))
        assert not heatmaps(drawn) and drawn.data[0].type == "bar" and len(drawn.data[0].x) == len(places)


def test_shares_and_self_repair_are_shown(lt: Any) -> None:
    found = effects(lt, other=torch.zeros(4), direct=torch.zeros(8, 4))
    shares, changes = lt.plot(found, normalised=True), lt.plot(found)
    np.testing.assert_allclose(np.nansum(heatmaps(shares)[0].z), found.normalised().sum().item(), rtol=1e-5)
    assert "made up for by later parts" in changes.to_json() and "share of the way" in shares.to_json()


def test_a_flow_graph_adds_heads_up_and_leaves_out_the_least(lt: Any) -> None:
    graph = flow_graph(lt)
    assert graph.tokens().tolist() == pytest.approx([0, 0.3, 0, 0.7, 0, 0, 0, 0])
    hover = named(lt.plot(graph), "flow").hovertext
    assert len(hover) == 4  # the two heads are one line
    assert any("flow 0.3<br>a0.h2 0.2<br>a0.h0 0.1" in text for text in hover)
    few = lt.plot(graph, max_edges=2)
    assert len(named(few, "flow").hovertext) == 2
    assert "2 lines of least flow not drawn" in few.layout.title.subtitle.text.replace("\xa0", " ")


# Scores and their check


def test_a_score_is_drawn_with_what_its_check_says(lt: Any) -> None:
    """The line stands below the heading; a check of another method is refused."""
    shown = lt.plot(token_influence(lt, HOSTILE), validation=causal_check(lt)).layout.title.subtitle.text
    assert "rank correlation with occlusion (mean)" in shown.replace("\xa0", " ")
    spans = lt.plot(span_influence(lt), validation=causal_check(lt)).layout.title.subtitle.text
    assert "random" in spans
    nodes = lt.plot(node_scores(lt), validation=validation(lt)).layout.title.subtitle.text
    assert "rank correlation with mean ablation" in nodes.replace("\xa0", " ")
    with pytest.raises(lt.LLMTraceError, match="Expected a checked method"):
        lt.plot(token_influence(lt, HOSTILE), validation=causal_check(lt, method="alti"))
    with pytest.raises(lt.LLMTraceError, match="validate these scores"):
        lt.plot(replace(node_scores(lt), method="other"), validation=validation(lt))


def test_a_check_is_its_own_numbers(lt: Any) -> None:
    """Points are the correlations, curves start at 1 or 0 of the normalised metric, a method has one colour."""
    check = causal_check(lt)
    drawn = lt.plot(check).data
    assert [round(t.x[0], 9) for t in drawn[::3]] == [
        round(check.estimate("rank_correlation", m)[0], 9) for m in check.methods
    ]
    values = check.curve("deletion")[0]
    assert list(drawn[1].y) == values[0].tolist()
    assert drawn[0].marker.color == drawn[1].line.color == drawn[2].line.color
