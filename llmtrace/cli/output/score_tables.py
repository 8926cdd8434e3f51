"""Scores as rows of a document, and as the short table that a person reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llmtrace.cli.output.documents import NodeRow, Row, SourceRow, SpanRow, StageRow, TokenRow, records_of
from llmtrace.cli.output.screen import decimals
from llmtrace.influence import LensScores, NodeScores, SourceScores, SpanInfluence, TokenInfluence

Scores = NodeScores | LensScores | SourceScores | SpanInfluence | TokenInfluence
Table = tuple[list[str], list[list[Any]]]


def rows_of(scores: Scores) -> Sequence[Row]:
    """Everything: one row per node; per stage, source, token or span and prompt."""
    kinds: dict[type, type[Row]] = {
        NodeScores: NodeRow, LensScores: StageRow, SourceScores: SourceRow, SpanInfluence: SpanRow
    }  # fmt: skip
    kind = kinds.get(type(scores), TokenRow)
    frame = scores.df()
    if isinstance(scores, LensScores):
        frame = frame.rename(columns={scores.metric: "value", "top_probability": "probability"})
    return [kind(**record) for record in records_of(frame)]


def table_of(scores: Scores, top: int, lengths: Sequence[int]) -> tuple[str, Table]:
    """The largest `top` entries, and a sentence that says what they are. `lengths`: real tokens per prompt."""
    if isinstance(scores, NodeScores):
        return _nodes(scores, top)
    if isinstance(scores, LensScores):
        return _stages(scores)
    if isinstance(scores, SourceScores):
        return _sources(scores, top)
    if isinstance(scores, SpanInfluence):
        return _spans(scores, top)
    return _tokens(scores, top, lengths[0] - 1)


def _nodes(scores: NodeScores, top: int) -> tuple[str, Table]:
    spread = dict(zip(scores.nodes, scores.values.std(1, correction=0).tolist(), strict=True))
    rows = [[node.label, mean, decimals(spread[node])] for node, mean in scores.top(top)]
    return "Mean and standard deviation over prompts; positive pushes the metric up.", (["node", "mean", "std"], rows)


def _stages(scores: LensScores) -> tuple[str, Table]:
    means, sure = scores.values.mean(1).tolist(), scores.top_probability[:, 0].tolist()
    seen = zip(scores.stages, means, scores.top_tokens, sure, strict=True)
    rows = [[stage, mean, repr(tokens[0]), decimals(p)] for stage, mean, tokens, p in seen]
    says = "What the model would say if it stopped there: mean metric over prompts, first choice on the first prompt."
    return says, (["stage", scores.metric, "top token", "its probability"], rows)


def _sources(scores: SourceScores, top: int) -> tuple[str, Table]:
    first = scores.values[:, 0]
    where = first.abs().flatten().argsort(descending=True, stable=True)[:top].tolist()
    rows = []
    for index in where:
        node, position = divmod(index, first.shape[1])
        value = first[node, position].item()
        rows.append([scores.nodes[node].label, position, repr(scores.labels[0][position]), value])
    says = "First prompt: what a head adds to the metric by what it reads at a token."
    return says, (["head", "position", "token", "score"], rows)


def _tokens(scores: TokenInfluence, top: int, last: int) -> tuple[str, Table]:
    """A column for each target that was asked for, or for the last token. Signed scores: largest first, by
    magnitude."""
    at, labels = dict(scores.rows(0)), scores.labels[0]
    targets = [last] if scores.targets is None else list(at)
    seen = range(max(targets) + 1)
    where = sorted(seen, key=lambda j: -max(abs(at[t][j]) for t in targets if j <= t))[:top]
    # A target takes nothing from the tokens after it: an empty cell.
    rows = [[j, repr(labels[j]), *(decimals(at[t][j], 3) if j <= t else None for t in targets)] for j in where]
    names = [f"{labels[t]!r} ({t})" for t in targets]
    if len(targets) > 1:
        says = f"First prompt: what each column's token takes from each token ({_unit(scores)})."
        return says, (["position", "token", *names], rows)
    whose = f"its last token, {labels[last]!r}," if targets == [last] else f"token {names[0]}"
    return f"First prompt: what {whose} takes from each token ({_unit(scores)}).", (
        ["position", "token", "value"],
        rows,
    )


def _spans(scores: SpanInfluence, top: int) -> tuple[str, Table]:
    """Targets of the first prompt, the last ones where there are many; a column for each span that it has."""
    values, sizes = scores.values[0], scores.sizes[0].tolist()
    there = [i for i, size in enumerate(sizes) if size]
    real = [i for i, row in enumerate(values.tolist()) if row[0] == row[0]][-top:]
    rows = [[repr(scores.rows[0][i]), *(decimals(values[i, j].item(), 3) for j in there)] for i in real]
    says = f"First prompt: what each target takes from each span ({_unit(scores)}); in brackets the tokens of a span."
    return says, (["target", *(f"{scores.names[j]} ({sizes[j]})" for j in there)], rows)


def _unit(scores: TokenInfluence | SpanInfluence) -> str:
    if scores.rows_sum_to_one:
        return "shares that sum to 1"
    if scores.metric:
        return f"in units of {scores.metric}; positive raises it"
    norms = scores.method == "value_weighted_norms"
    return "norms in units of the residual stream" if norms else "in its own unit"


def gap_of(scores: Scores) -> float | None:
    """How far the scores are from their sum law on the worst prompt, where the method has one."""
    gap = scores.gap if isinstance(scores, NodeScores | TokenInfluence) and scores.total is not None else None
    return None if gap is None else gap.abs().max().item()


def sums_to(scores: NodeScores | TokenInfluence) -> str:
    """What a method that is complete adds up to."""
    assert scores.total is not None
    total = f"{scores.total.mean().item():.2f}"
    if isinstance(scores, NodeScores):
        return f"All nodes and biases add up to the metric, {total}"
    return f"All tokens together should give {total}"
