"""What the console's page reads: every answer of the service, and nothing else. Imports no torch.

A *view* is one answer: a pure function of the model, a run and a few parameters, so it can be kept, saved into a file
and asked again. The page knows three sources of the same answers: a service with a model, a service over a folder, and
the answers that were written into the page itself (`tape`).

    GET  /api/v1/meta                                     Meta
    GET  /api/v1/runs                                     list[Run]
    POST /api/v1/runs                 NewRun           -> Run         (the same content again is the same run)
    GET  /api/v1/overview?run                             Overview
    GET  /api/v1/attention?run                            safetensors: pooled u8 [layer head 64 64] (or smaller)
    GET  /api/v1/attention/layer?run&layer                safetensors: packed u8 [head n(n+1)/2]
    GET  /api/v1/attention/row?run&layer&head&query       Row         (exact float32)
    GET  /api/v1/head?run&layer&head                      HeadCard
    GET  /api/v1/lens?run                                 Lens
    GET  /api/v1/attribution?run&method                   Attribution
    GET  /api/v1/patch?run&site                           Sweep       (heavy: a job makes it)
    GET  /api/v1/paths?run                                PathMap     (heavy)
    GET  /api/v1/circuit?run&method&edges                 CircuitView (heavy)
    GET  /api/v1/generation?run&tokens                    GenerationView (heavy)
    POST /api/v1/jobs                 NewJob           -> Job         (429 + Retry-After where the queue is full)
    GET  /api/v1/jobs                                     list[Job]
    GET  /api/v1/jobs/{id}/events                         one JSON `Event` per line until the job has ended
    DELETE /api/v1/jobs/{id}                              cancels between passes
    GET  /api/v1/export?format=html|json                  the page with all answers so far, or the answers alone

Pixels of attention: value = round(255 * sqrt(a)), so a = (u8 / 255)^2 to within .004; causal rows are packed one after
another (query 0 has one entry). A view that this source cannot give is in `Meta.missing`, with the reason.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA_VERSION = 1
KIND = "llmtrace.console"


class Schema(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelCard(Schema):
    """A size that a saved folder does not hold is 0."""

    name: str
    n_layers: int
    n_heads: int
    n_key_value_heads: int
    d_model: int
    n_ctx: int
    vocabulary: int
    has_mlp: bool
    device: str
    dtype: str
    weights: str  # their hash


class Limits(Schema):
    tokens: int  # of one prompt
    prompt_characters: int
    body_bytes: int
    edges_sent: int
    edits: int


class Choices(Schema):
    """What the page offers: rows of the library's own tables."""

    token_methods: dict[str, str]  # name -> one line
    edge_methods: dict[str, str]
    ablations: dict[str, str]
    sites: dict[str, str]  # of a patch sweep


class Meta(Schema):
    kind: str = KIND
    schema_version: int = SCHEMA_VERSION
    mode: Literal["live", "bundle", "file"]
    title: str
    model: ModelCard | None
    limits: Limits
    choices: Choices
    missing: dict[str, str]  # view -> why this source cannot give it
    versions: dict[str, str]


class Ablate(Schema):
    kind: Literal["ablate"] = "ablate"
    node: str  # "a3.h2", "m2", "m2.n5"
    how: str = "zero"  # a row of ABLATIONS: zero, mean, resample
    positions: list[int] | None = None


class Patch(Schema):
    """The node gets what it is on the other prompt."""

    kind: Literal["patch"] = "patch"
    node: str
    positions: list[int] | None = None


class KnockOut(Schema):
    """The head (all of the layer's where head is None) no longer sees `key` from `query`."""

    kind: Literal["knock_out"] = "knock_out"
    layer: int
    head: int | None = None
    query: int | None = None
    key: int


class Steer(Schema):
    """The difference of the two prompts' residual streams at END is added at `layer`, `coefficient` times."""

    kind: Literal["steer"] = "steer"
    layer: int
    coefficient: float = 1.0


Edit = Ablate | Patch | KnockOut | Steer


class NewRun(Schema):
    prompt: str
    against: str | None = None  # the other prompt, of the same length in tokens
    correct: str | None = None  # the model's first answer when not given
    wrong: str | None = None  # the runner-up, or the answer to `against`
    edits: list[Edit] = Field(default_factory=list)
    name: str | None = None  # shown, no part of what the run is


class Token(Schema):
    id: int
    text: str  # as decoded; what is not text is shown as its bytes, ⟨e2 80⟩


class Prediction(Schema):
    token: Token
    probability: float
    logit: float


class Side(Schema):
    prompt: str
    tokens: list[Token]
    log_probability: list[float | None]  # of each token given those before it; None for the first
    top: list[Prediction]  # at END, after the edits
    metric: float | None  # None in a folder that does not hold it
    entropy: float | None  # of the next token, in nats


class Run(Schema):
    id: str  # of its content
    parent: str | None  # the same prompts without edits
    name: str
    clean: Side
    against: Side | None
    correct: Token | None  # None, like all that follows, in a folder that does not hold it
    wrong: Token | None
    metric: str  # "logit_diff"
    value: float | None  # logit(correct) - logit(wrong) at END of the clean prompt, under the edits
    before: float | None  # without the edits
    edits: list[Edit]
    python: str
    provenance: dict[str, Any]


class HeadMap(Schema):
    """One number per head, one per MLP."""

    title: str
    unit: str
    what: str  # a sentence: what the number is, its sign, what it is blind to
    heads: list[list[float]] | None  # [layer][head]; None where refused
    mlps: list[float] | None
    refused: str | None = None  # the library's own sentence
    python: str


class Overview(Schema):
    run: str
    maps: list[HeadMap]  # direct logit attribution; path patching where it was asked for (`paths`)
    explained: float | None  # sum of all direct contributions
    python: str


class PathMap(Schema):
    run: str
    map: HeadMap


class Row(Schema):
    run: str
    layer: int
    head: int
    query: int
    attention: list[float]


class HeadCard(Schema):
    run: str
    layer: int
    head: int
    key_value_head: int
    direct: float | None
    rank: int | None  # by absolute direct attribution, 1 is the first
    behaviour: dict[str, float]  # previous token, duplicate token, induction, sink, self, entropy
    top_pairs: list[tuple[int, int, float]]  # query, key, attention
    writes: list[tuple[str, float]]  # tokens whose logit the head's output at END raises most
    refused: str | None = None
    python: str


class Lens(Schema):
    run: str
    stages: list[str]  # embed, after each layer
    top: list[list[Token]]  # [stage][pos]
    probability: list[list[float]]  # of that token
    correct: list[float]  # log-probability at END, by stage
    wrong: list[float]
    correct_rank: list[int]  # 1 is the first
    wrong_rank: list[int]
    python: str


class Span(Schema):
    name: str
    start: int
    end: int
    score: float


class Attribution(Schema):
    run: str
    method: str
    what: str
    scores: list[float]  # per token of the clean prompt
    gap: float | None  # what the scores miss of what they explain
    occlusion: list[float]  # the intervention itself, beside
    correlation: float | None  # Spearman, with occlusion
    spans: list[Span]
    refused: str | None = None
    python: str


class Sweep(Schema):
    """Activations of the clean run replaced by the other prompt's, one at a time."""

    run: str
    site: str
    rows: list[str]
    columns: list[str]
    values: list[list[float]]  # metric after - before
    before: float
    against: float | None  # the metric on the other prompt: what replacing everything gives
    passes: float
    python: str


class CircuitNode(Schema):
    name: str  # a3.h2
    layer: int  # -1 for the input, n_layers for the logits
    x: float  # 0..1 within its layer
    role: str | None = None  # of a known definition


class CircuitEdge(Schema):
    sender: str
    receiver: str  # a port: a3.h2<q>
    score: float
    kept: bool


class CircuitView(Schema):
    run: str
    method: str
    nodes: list[CircuitNode]
    edges: list[CircuitEdge]  # the largest first
    edges_total: int
    edges_cut: int  # not sent
    faithfulness: float | None
    curve: list[tuple[int, float]]  # edges kept, faithfulness
    python: str


class GeneratedToken(Schema):
    token: Token
    probability: float
    scores: list[float]  # influence of each prompt token
    spans: list[Span]


class GenerationView(Schema):
    run: str
    method: str
    tokens: list[GeneratedToken]
    python: str


class NewJob(Schema):
    view: Literal["patch", "paths", "circuit", "generation"]
    run: str
    site: str | None = None
    method: str | None = None
    edges: int | None = None
    tokens: int | None = None


class Job(Schema):
    id: str
    view: str
    query: dict[str, str]  # the parameters under which the view is then got
    state: Literal["waiting", "running", "done", "cancelled", "failed"]
    done: int
    total: int
    problem: str | None = None


class Event(Schema):
    """One line of a job's stream: its state, and the rows that are new."""

    job: Job
    rows: dict[int, list[float]] = Field(default_factory=dict)


class Problem(Schema):
    """What a refused request gets (application/problem+json)."""

    title: str
    status: int
    detail: str  # one sentence: expected, got, what to do


class Tape(Schema):
    """All answers of one sitting: `GET` path with its sorted query -> JSON, or base64 of the bytes."""

    kind: str = KIND
    schema_version: int = SCHEMA_VERSION
    answers: dict[str, Any]
    bytes: dict[str, str]
