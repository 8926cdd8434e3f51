"""What each generated token takes from the prompt, and from what was generated before it."""

from __future__ import annotations

from llmtrace.console.live.attribution import token_method
from llmtrace.console.live.run import LiveRun
from llmtrace.console.live.sentences import spans_of
from llmtrace.console.live.sweep import Emit
from llmtrace.console.live.token_text import token_of
from llmtrace.console.schemas import GeneratedToken, GenerationView, Span
from llmtrace.influence import attribute_generation
from llmtrace.models import TraceModel
from llmtrace.progress import track


def generation(model: TraceModel, run: LiveRun, tokens: int, method: str, *, emit: Emit) -> GenerationView:
    token_method(method)
    for _ in track(range(1), "generating"):
        found = attribute_generation(model, run.prompts, max_new_tokens=tokens, method=method)
    texts = [token.text for token in run.about.clean.tokens]
    n, rows = len(texts), []
    for step, token in enumerate(found.tokens.tolist()):
        scores = found.values[step, : n + step].tolist()
        new = [] if step == 0 else [Span(name="generated", start=n, end=n + step, score=sum(scores[n:]))]
        emit(step, scores[:n])
        rows.append(
            GeneratedToken(
                token=token_of(model, token), probability=found.probability[step].item(), scores=scores[:n],
                spans=[*spans_of(texts, scores[:n]), *new],
            )
        )  # fmt: skip
    return GenerationView(
        run=run.id, method=method, tokens=rows,
        python=run.program.of(
            f"found = lt.influence.attribute_generation(model, prompts, max_new_tokens={tokens}, method={method!r})",
            f"result = [row[:{n}] for row in found.values.tolist()]",
        ),
    )  # fmt: skip
