"""The four kinds of score as rows of a document, and as the short table that a person reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llmtrace.cli.documents import NodeRow, Row, SourceRow, StageRow, TokenRow
from llmtrace.cli.screen import decimals
from llmtrace.errors import InputError
from llmtrace.influence import LensScores, NodeScores, SourceScores, TokenInfluence

Scores = NodeScores | LensScores | SourceScores | TokenInfluence
Table = tuple[list[str], list[list[Any]]]


def rows_of(scores: Scores) -> Sequence[Row]:
    """Everything: one row per node; per stage, source or token and prompt."""
    kinds: dict[type, type[Row]] = {NodeScores: NodeRow, LensScores: StageRow, SourceScores: SourceRow}
    kind = kinds.get(type(scores), TokenRow)
    frame = scores.df()
    if isinstance(scores, LensScores):
        frame = frame.rename(columns={scores.metric: "value"})
    # Plain Python values: pandas makes the None of an integer column a NaN.
    records = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return [kind(**record) for record in records]


def table_of(scores: Scores, top: int, lengths: Sequence[int]) -> tuple[str, Table]:
    """The largest `top` entries, and a sentence that says what they are. `lengths`: real tokens per prompt."""
    if isinstance(scores, NodeScores):
        return _nodes(scores, top)
    if isinstance(scores, LensScores):
        return _stages(scores)
    if isinstance(scores, SourceScores):
        return _sources(scores, top)
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
    return says, (["stage", scores.metric, "top token", "probability"], rows)


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


def _tokens(scores: TokenInfluence, top: int, target: int) -> tuple[str, Table]:
    """The row of the last token, or of the last target where there are some only. Signed scores: largest first, by
    magnitude."""
    at, values = dict(scores.rows(0)), scores.labels[0]
    target = target if target in at else max(at)
    row = scores.values.new_tensor(at[target])
    where = row.abs().argsort(descending=True, stable=True)[:top].tolist()
    rows = [[position, repr(values[position]), decimals(row[position].item(), 3)] for position in where]
    if scores.rows_sum_to_one:
        unit = "shares that sum to 1"
    elif scores.metric:
        unit = f"in units of {scores.metric}; positive raises it"
    else:
        unit = "norms in units of the residual stream"
    says = f"First prompt: what its last token, {values[target]!r}, takes from each token ({unit})."
    return says, (["position", "token", "value"], rows)


def gap_of(scores: Scores) -> float | None:
    """How far the scores are from their sum law on the worst prompt, where the method has one."""
    gap = scores.gap if isinstance(scores, NodeScores | TokenInfluence) else None
    return None if gap is None else gap.abs().max().item()


def sums_to(scores: NodeScores | TokenInfluence) -> str:
    """What a method that is complete adds up to."""
    assert scores.total is not None
    total = f"{scores.total.mean().item():.2f}"
    if isinstance(scores, NodeScores):
        return f"All nodes and biases add up to the metric, {total}"
    return f"All tokens together should give {total}"


def refuse_strangers(method: str, takes: Sequence[str], given: Sequence[str], known: Sequence[str]) -> None:
    """An option that a method would not look at is refused: nobody shall believe that it had an effect."""
    for name in given:
        if name not in takes:
            options = ", ".join(f"--{option}" for option in known if option in takes)
            raise InputError(f"{method} takes {options or 'no option of other methods'}, got --{name}; leave it out.")
