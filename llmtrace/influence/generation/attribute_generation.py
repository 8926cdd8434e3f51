"""Generation: what each generated token takes from the prompt and from the tokens generated before it.

    row t = influence of every earlier token on   logit(chosen_t) - logit(runner-up_t)   where token t was predicted

The text is decoded greedily with kept keys and values; then prompt and answer go through once more, whole, and the
method explains all generated tokens in that one run: a causal model computes every position in it.
Cost: the decoding, and beside it: direct attribution and attention-like methods 1 F; DecompX 1 F and a sweep back per
new token; input x gradient 1 F and a backward pass per new token over one graph; integrated gradients K times that;
occlusion half an F per token, for all new tokens together. Another method of the table that explains a metric is run on
a stack of prefixes, one per new token.
Contrast: `against="runner-up"` asks why this token and not the second best, which is sharper than its log-probability
(`against=None`); any word may be given.
Source: that of the method (`METHODS[method].source`). Sign: positive speaks for the chosen token.
Known failure: that of the method; and a token that is copied from an earlier generated token shows that one, not the
place in the prompt behind it.

    >>> text = "When Mary and John went to the store, John gave a drink to"
    >>> lt.influence.attribute_generation(model, text, max_new_tokens=3)
    GenerationInfluence(decompx: 3 tokens from 15, 'Mary.The')
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from inspect import signature
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from llmtrace.errors import InputError, MetricError, UnsupportedError
from llmtrace.influence.generation.generation_influence import GENERATED, GenerationInfluence
from llmtrace.influence.rows import METHODS
from llmtrace.influence.tokens.decompx import decomposed
from llmtrace.influence.tokens.input_x_gradient import read_gradients
from llmtrace.influence.tokens.inputs.metric_readings import Readings
from llmtrace.influence.tokens.integrated_gradients import read_paths
from llmtrace.influence.tokens.occlusion import occluded
from llmtrace.influence.tokens.results.span_influence import require_spans
from llmtrace.influence.tokens.results.token_influence import TokenInfluence
from llmtrace.influence.tokens.token_attribution import attributed
from llmtrace.methods import Method
from llmtrace.models import TraceModel, final_residual, greedy, token_labels, unembed
from llmtrace.prompts import Chat, PromptSet, as_prompts
from llmtrace.prompts.making.token_reader import TokenReader
from llmtrace.prompts.spans import Spans

HOW = ("metric", "memory")  # said elsewhere, or of no influence on the numbers
RUNNER_UP, PROMPT = "runner-up", "prompt"
Read = tuple[Float[Tensor, "reading source"], Float[Tensor, " reading"] | None]


def attribute_generation(
    model: TraceModel,
    prompt: str | PromptSet | Chat,
    *,
    max_new_tokens: int = 20,
    method: str = "decompx",
    against: str | None = RUNNER_UP,
    spans: Spans | None = None,
    stop_at_eos: bool = True,
    **options: Any,
) -> GenerationInfluence:
    """Decode greedily, and explain every new token. `options` go to the method.

    against   "runner-up": the second best token; a word: that token (where it was chosen itself, the runner-up);
              None: nothing, the log-probability of the chosen token is explained
    spans     of the prompt's tokens; those of a chat by default

    Raises InputError for more than one prompt, UnsupportedError for a method without token scores, LimitError over the
    context length.
    """
    asked = as_prompts(model, prompt.prompts if isinstance(prompt, Chat) else prompt)
    given = prompt.spans if spans is None and isinstance(prompt, Chat) else spans
    if len(asked) != 1:
        raise InputError(f"Expected one prompt to go on from, got {len(asked)}; take prompts[0].")
    if isinstance(max_new_tokens, bool) or not isinstance(max_new_tokens, int) or max_new_tokens < 1:
        raise InputError(f"Expected at least one new token, got max_new_tokens={max_new_tokens!r}; ask for 20.")
    _require_word(against)
    row = _method(method, options, against)
    start = asked.clean[0, : int(asked.lengths[0])]
    if given is not None:
        require_spans(given)
        given.require_of(asked)
    tokenizer = getattr(model, "tokenizer", None)
    eos = None if tokenizer is None or not stop_at_eos else tokenizer.eos_token_id
    new = greedy(model, start, max_new_tokens, stop_at=() if eos is None else (eos,)).cpu()
    whole = _longer(asked, torch.cat([start, new[:-1]]))
    targets = torch.arange(len(start) - 1, len(start) - 1 + len(new))
    probability, compared = _seen(model, whole, targets, new, against)
    contrasted = "correct" in row.needs  # shares of a prediction are the same whatever it is compared with
    prefixes = _prefixes(whole, targets, new, compared)
    found = _explained(model, whole, prefixes, row, options)
    chosen = tuple(label[0] for label in token_labels(model, new[:, None]))
    return GenerationInfluence(
        influence=found,
        prompts=prefixes,
        steps=_by_step(found, prefixes, token_labels(model, prefixes.clean)),
        chosen=chosen,
        tokens=new,
        probability=probability,
        against=token_labels(model, compared[None])[0] if contrasted and compared is not None else ("",) * len(new),
        spans=_spoken(given or Spans((PROMPT,), torch.zeros(1, len(start), dtype=torch.long)), whole),
        text="".join(chosen) if tokenizer is None else tokenizer.decode(new.tolist()),
    )


def _spoken(spans: Spans, whole: PromptSet) -> Spans:
    """The spans of the prompt, and what was generated as one more."""
    new = whole.clean.shape[1] - int((spans.of >= 0).sum())
    return replace(spans.extended(new, GENERATED), fingerprints=whole.fingerprints)


def _require_word(against: object) -> None:
    if against is not None and not isinstance(against, str):
        raise InputError(
            f"Expected against= as {RUNNER_UP!r}, a word or None, got {against!r}; write a word, such as ' Anna'."
        )


def _method(name: str, options: Mapping[str, Any], against: str | None) -> Method:
    row = METHODS[name]
    if against is None and "linear" in row.needs:
        raise MetricError(
            f"Expected against= with {name}, which explains what is linear in the logits, got None (log-probability); "
            f"leave it at {RUNNER_UP!r}, or use a method that asks for less: input_x_gradient, occlusion."
        )
    if said := {"metric", "positions"}.intersection(options):
        raise InputError(f"Expected no {said.pop()}: every new token is explained, as against= says; leave it out.")
    options = row.read_options(options)
    return row


def _longer(asked: PromptSet, tokens: Int[Tensor, " pos"]) -> PromptSet:
    """The prompt with what was generated, as a prompt of its own; no corruption."""
    length = torch.tensor([len(tokens)])
    return replace(
        asked, clean=tokens[None], corrupted=tokens[None], lengths=length, corruption="none",
        positions={**{k: v for k, v in asked.positions.items() if k != "END"}, "END": length - 1},
    )  # fmt: skip


@torch.no_grad()
def _seen(
    model: TraceModel, whole: PromptSet, targets: Tensor, new: Tensor, against: str | None
) -> tuple[Float[Tensor, " target"], Int[Tensor, " target"] | None]:
    """The probability of each chosen token, and what it is compared with."""
    final = final_residual(model, whole.clean)[0, targets.to(model.W_E.device)]
    logits = unembed(model, final).cpu()
    probability = logits.double().softmax(-1).gather(-1, new[:, None])[:, 0]
    if against is None:
        return probability, None
    second = logits.scatter(-1, new[:, None], -torch.inf).argmax(-1)
    if against == RUNNER_UP:
        return probability, second
    word = torch.full_like(new, TokenReader.of(model).answer(against))
    return probability, torch.where(word == new, second, word)


def _explained(
    model: TraceModel, whole: PromptSet, prefixes: PromptSet, row: Method, options: Mapping[str, Any]
) -> TokenInfluence:
    """All targets in one run where the method can, else a stack of prefixes."""
    metric = prefixes.metric()
    targets = metric.positions[None]
    read = IN_ONE_RUN.get(row.name)
    if read is not None:
        values, total = read(model, whole, Readings(metric, torch.zeros(len(metric), dtype=torch.long)), options)
        return TokenInfluence.of(
            model, whole, values[None], row.name, targets=targets, total=None if total is None else total[None],
            metric=metric.name, options=_said(row, options),
        )  # fmt: skip
    if "correct" in row.needs:
        return _of_prefixes(row(model, prefixes, metric=metric, **options), row, targets, model, whole)
    chosen = {"positions": targets[0].tolist()} if "positions" in signature(row.function).parameters else {}
    found = row(model, prefixes[-1], **chosen, **options)  # all of it, with an answer for methods that ask for one
    if not isinstance(found, TokenInfluence):
        raise _no_tokens(row)
    if found.targets is not None:
        return found
    at = targets.to(found.values.device)[0]
    return replace(
        found, values=found.values[:, at], targets=targets,
        total=None if found.total is None else found.total[:, at],
        per_layer=None if found.per_layer is None else found.per_layer[:, :, at],
    )  # fmt: skip


def _said(row: Method, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that decide the numbers, as the method itself would record them."""
    own = {p.name: p.default for p in signature(row.function).parameters.values() if p.kind is p.KEYWORD_ONLY}
    said = {name: value for name, value in (own | dict(options)).items() if name not in HOW}
    return said | ({"oracle": True} if "oracle" in row.needs else {})


def _prefixes(whole: PromptSet, targets: Tensor, new: Tensor, compared: Tensor | None) -> PromptSet:
    """What stood before each new token, as a prompt each, with that token for an answer."""
    n, width = len(new), whole.clean.shape[1]
    lengths = targets + 1
    tokens = whole.clean.expand(n, width).where(torch.arange(width) < lengths[:, None], whole.pad_id)
    return replace(
        whole, clean=tokens, corrupted=tokens, lengths=lengths, correct=_answers(new),
        wrong=((),) * n if compared is None else _answers(compared),
        default_metric="log_probability" if compared is None else "logit_diff",
        positions={"END": lengths - 1}, groups=torch.zeros(n, dtype=torch.long), texts=whole.texts * n,
        corrupted_texts=whole.texts * n,
    )  # fmt: skip


def _answers(tokens: Tensor) -> tuple[tuple[int, ...], ...]:
    return tuple((token,) for token in tokens.tolist())


def _by_step(found: TokenInfluence, prefixes: PromptSet, labels: tuple[tuple[str, ...], ...]) -> TokenInfluence:
    """The rows of one prompt as one row each of as many prefixes: `_of_prefixes` the other way round."""
    assert found.targets is not None
    return replace(
        found, values=found.values.transpose(0, 1), targets=found.targets.T, lengths=prefixes.lengths, labels=labels,
        fingerprints=prefixes.fingerprints,
        total=None if found.total is None else found.total.T,
        per_layer=None if found.per_layer is None else found.per_layer.transpose(1, 2),
    )  # fmt: skip


def _of_prefixes(found: Any, row: Method, targets: Tensor, model: TraceModel, whole: PromptSet) -> TokenInfluence:
    if not isinstance(found, TokenInfluence) or found.values.shape[1] != 1:
        raise _no_tokens(row)
    return replace(
        found, values=found.values.transpose(0, 1), targets=targets, lengths=whole.lengths,
        labels=token_labels(model, whole.clean), fingerprints=whole.fingerprints,
        total=None if found.total is None else found.total.transpose(0, 1),
        per_layer=None if found.per_layer is None else found.per_layer.transpose(1, 2),
    )  # fmt: skip


def _no_tokens(row: Method) -> UnsupportedError:
    return UnsupportedError(
        f"Expected a method that scores tokens, got {row.name}, which scores something else; "
        "use decompx, input_x_gradient or alti_logit."
    )


def _attributed(model: TraceModel, whole: PromptSet, readings: Readings, options: Mapping[str, Any]) -> Read:
    return attributed(model, whole, readings)[1:]


def _decomposed(model: TraceModel, whole: PromptSet, readings: Readings, options: Mapping[str, Any]) -> Read:
    return decomposed(model, whole, readings, **options)


def _occluded(model: TraceModel, whole: PromptSet, readings: Readings, options: Mapping[str, Any]) -> Read:
    return occluded(model, whole, readings, **options), None


IN_ONE_RUN: dict[str, Callable[[TraceModel, PromptSet, Readings, Mapping[str, Any]], Read]] = {
    "token_attribution": _attributed,
    "decompx": _decomposed,
    "input_x_gradient": lambda model, whole, readings, options: read_gradients(model, whole, readings, **options),
    "integrated_gradients": lambda model, whole, readings, options: read_paths(model, whole, readings, **options),
    "occlusion": _occluded,
}
