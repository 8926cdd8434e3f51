"""What `--json` prints and `result.json` holds: one `Document` per command, whose `rows` are of the type named here.

    command     kind                     rows                    summary
    models      llmtrace.cli.models      ModelRow or FamilyRow
    methods     llmtrace.cli.methods     MethodRow
    trace       llmtrace.cli.trace       ActivationRow           prompts, tokens, bytes
    influence   llmtrace.cli.influence   NodeRow, SourceRow,     method, gap (largest miss of the sum law),
                                         StageRow, TokenRow      validation (a row per method), graph (its size and
                                         or SpanRow              largest edges)
    generation  llmtrace.cli.generation  GeneratedRow            method, text, spans (tokens of each), validation
    heads       llmtrace.cli.heads       HeadRow                 by, length, left_out, composition, baseline
    neurons     llmtrace.cli.neurons     NeuronRow               by, tokens, neurons, left_out
    lens        llmtrace.cli.lens        StageTokenRow           stream (means of each stage), position
    patch       llmtrace.cli.patch       EffectRow               before, other, passes; of a dry run the plan
    ablate      llmtrace.cli.ablate      EffectRow               before, other, passes; of a dry run the plan
    paths       llmtrace.cli.paths       EffectRow               before, other, passes; of a dry run the plan
    discover    llmtrace.cli.discover    EdgeRow                 edges, edges_of_model, nodes; of a dry run the plan
    evaluate    llmtrace.cli.evaluate    PromptRow               faithfulness, low, high, median, random, ...
    compare     llmtrace.cli.compare     CompareRow              edges_of_model, missed, extra, caveats
    convert     llmtrace.cli.convert     FileRow                 edges, edges_of_model, scored, nodes, graph
    demo        llmtrace.cli.demo        DemoRow                 prediction, rank correlations, circuit, faithfulness

`json_schema("ablate")` is the JSON Schema of that command's document. A reader of version 1 can rely on these fields:
new ones may be added within a version, none is renamed or dropped. A number that does not exist is null.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, create_model

if TYPE_CHECKING:
    import pandas as pd

    from llmtrace.prompts import PromptSet

SCHEMA_VERSION = 1


class Row(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ModelRow(Row):
    """A name that `load` takes. `official`: what it stands for; `embedded`: it comes with the package."""

    name: str
    official: str
    embedded: bool
    about: str


class FamilyRow(Row):
    """What works on a family of models, by the names of `family_table.USES`. `loads`: as what, "" where it does not;
    `why`: why it does not, or not as it is; `refused`: use -> the sentence."""

    family: str
    release: str
    loads: str
    why: str
    works: list[str]
    refused: dict[str, str]


class MethodRow(Row):
    """A row of a table of methods; "" where it says nothing. `where` is "package.module:function"."""

    table: str
    name: str
    summary: str
    cost: str = ""
    needs: str = ""
    gives: str = ""
    sums_to: str = ""
    sign: str = ""
    failure: str = ""
    source: str = ""
    options: list[str]
    where: str


class ActivationRow(Row):
    """An activation by its TransformerLens name."""

    activation: str
    shape: list[int]
    dtype: str
    bytes: int


class NodeRow(Row):
    """A node's score: mean and standard deviation over prompts."""

    node: str
    kind: str
    layer: int | None
    mean: float
    std: float


class SourceRow(Row):
    """A head's score on one prompt by the token it attended to."""

    node: str
    prompt: int
    position: int
    token: str
    value: float


class StageRow(Row):
    """What one stage of the residual stream would predict on one prompt."""

    stage: str
    prompt: int
    value: float
    top_token: str
    probability: float


class TokenRow(Row):
    """How much one position takes from another on one prompt."""

    prompt: int
    target: int
    target_token: str
    source: int
    source_token: str
    value: float


class SpanRow(Row):
    """How much a target takes from a span on one prompt; `tokens` is the span's size."""

    prompt: int
    target: str
    span: str
    tokens: int
    value: float


class TokenSource(Row):
    """What a generated token takes from one token before it."""

    position: int
    token: str
    span: str
    value: float


class GeneratedRow(Row):
    """A generated token, what it was compared with, and what it takes from each span and each token before it."""

    step: int
    position: int
    token: str
    probability: float
    against: str | None
    spans: dict[str, float]
    sources: list[TokenSource]


class HeadRow(Row):
    """A head's scores by name; those that the model or the prompts do not allow are absent (summary: `left_out`)."""

    node: str
    layer: int
    head: int
    scores: dict[str, float]


class TokenScore(Row):
    token: str
    score: float


class SideRow(Row):
    """The tokens that stand highest and lowest on one side of a neuron, outermost first."""

    highest: list[TokenScore]
    lowest: list[TokenScore]


class ExampleRow(Row):
    """A token on which a neuron is among its highest, and the text around it."""

    activation: float
    prompt: int
    position: int
    before: str
    token: str
    after: str


class NeuronRow(Row):
    """`tokens` by side: what it answers to ("key"; of a gated MLP "gate" and "in") and writes ("value")."""

    node: str
    layer: int
    statistics: dict[str, float | None]
    examples: list[ExampleRow]
    tokens: dict[str, SideRow]


class StageTokenRow(Row):
    """A chosen token at one stage and place of one prompt; `at` is the prompt's own token there, rank 1 the first."""

    stage: str
    prompt: int
    position: int
    at: str
    token: str
    probability: float
    rank: int
    top_token: str
    top_probability: float


class EffectRow(Row):
    """An intervention: means over prompts, and the 95 % bootstrap interval [low, high] of the change.

    share         the change as a share of the way from the changed run to the other one (1: all of it)
    self_repair   the change less the direct effect that was taken away (ablation of what is written)
    """

    nodes: list[str]
    before: float
    after: float
    change: float
    low: float
    high: float
    share: float | None
    self_repair: float | None = None


class EdgeRow(Row):
    """An edge of the circuit and the score that chose it."""

    edge: str
    writer: str
    port: str
    score: float | None


class PromptRow(Row):
    """The metric on one prompt: the circuit alone, the whole model, nothing but ablated values."""

    prompt: int
    circuit: float
    model: float
    empty: float


class CompareRow(Row):
    """How a found circuit overlaps a known one, over its edges, its nodes or the nodes of one role (where only known,
    shared and recall have a meaning)."""

    over: str
    found: int | None
    known: int
    shared: int
    precision: float | None
    recall: float | None
    f1: float | None
    jaccard: float | None
    roc_auc: float | None
    average_precision: float | None


class FileRow(Row):
    """A file that was written, by its place in the folder."""

    file: str
    bytes: int


class DemoRow(Row):
    """A head: the score, the two tests (changes of the metric), and how they agree."""

    head: str
    direct_attribution: float
    path_patching: float
    mean_ablation: float
    mean_ablation_low: float
    mean_ablation_high: float
    verdict: str


class Prompts(Row):
    """Which prompts. `left_out` counts what the tokenizer could not say in one token."""

    name: str
    n: int
    tokens: int
    corruption: str
    seed: int | None
    left_out: dict[str, int]

    @classmethod
    def of(cls, prompts: PromptSet) -> Prompts:
        return cls(
            name=prompts.name, n=len(prompts), tokens=prompts.clean.shape[1], corruption=prompts.corruption,
            seed=prompts.seed, left_out=prompts.left_out,
        )  # fmt: skip


ROWS: dict[str, Any] = {
    "models": ModelRow | FamilyRow,
    "methods": MethodRow,
    "trace": ActivationRow,
    "influence": NodeRow | SourceRow | StageRow | TokenRow | SpanRow,
    "generation": GeneratedRow,
    "heads": HeadRow,
    "neurons": NeuronRow,
    "lens": StageTokenRow,
    "patch": EffectRow,
    "ablate": EffectRow,
    "paths": EffectRow,
    "discover": EdgeRow,
    "evaluate": PromptRow,
    "compare": CompareRow,
    "convert": FileRow,
    "demo": DemoRow,
}


class Document(BaseModel):
    """The envelope. `provenance`: of the model (sha256 of its weights, processing flags, versions); `out`, `files`: the
    folder that was written and what is in it."""

    model_config = ConfigDict(extra="forbid")

    kind: str
    schema_version: int
    command: str
    options: dict[str, Any]
    seed: int
    metric: str | None = None
    unit: str | None = None
    prompts: Prompts | None = None
    provenance: dict[str, Any] | None = None
    summary: dict[str, Any] = {}
    rows: list[Any]
    out: str | None = None
    files: list[str] = []


@cache
def document_of(command: str) -> type[Document]:
    """The document of one command: the envelope with its own type of row."""
    row: Any = list[ROWS[command]]  # type: ignore[valid-type]
    return create_model(f"{command.title()}Document", __base__=Document, rows=(row, ...))


def records_of(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Plain Python values, a row each; a number that does not exist is None (pandas makes it NaN)."""
    found: list[dict[str, Any]] = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return found


def json_schema(command: str) -> dict[str, Any]:
    """The JSON Schema of one command's document."""
    return document_of(command).model_json_schema()
