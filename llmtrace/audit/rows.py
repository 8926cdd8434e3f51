"""The tables of the audit: what can be watched, what it must beat, and sets of labelled prompts."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any

from llmtrace.methods import Method, Option, Table, docstring_of

LAYER = Option("layer", "whole", "this layer", "the one that tells kinds that were left out apart best")
SPAN = Option("span", "word", "whose words they are", "instruction")
COUNT = Option("count", "whole", "heads that are watched", "6", least=1)


@dataclass(frozen=True)
class Monitor(Method):
    """`where(model, labelled, **options)` fits a `Watch`.

    blind   what it cannot see
    """

    _: KW_ONLY
    blind: str = ""

    def facts(self) -> dict[str, Any]:
        return super().facts() | {"formula": formula_of(docstring_of(self.where))}


def formula_of(text: str) -> str:
    """The indented lines of a docstring: what is computed."""
    lines = [line.strip() for line in text.splitlines() if line.startswith("    ") and line.strip()]
    return "; ".join(lines)


MONITORS = Table(
    "monitor",
    Monitor("span_attention", "llmtrace.audit.monitors.span_attention:fit",
            "the instruction's share of the last token's attention, over heads that lose sight of it",
            "Hung et al. 2024", "0 F beyond the shared pass", ("spans",), gives="watch",
            blind="MLPs; what was moved into the tokens before", options=(SPAN, COUNT)),
    Monitor("span_decompx", "llmtrace.audit.monitors.span_influence:fit_decompx",
            "which span the next word comes from, along every path", "Modarressi et al. 2023", "2 F + a sweep back",
            ("spans", "additive", "passes"), gives="watch", blind="what spans do together", options=(SPAN,)),
    Monitor("span_occlusion", "llmtrace.audit.monitors.span_influence:fit_occlusion",
            "which span the next word needs", "Zeiler & Fergus 2014", "2 F + half an F per token", ("spans", "passes"),
            gives="watch", blind="what spans do together", options=(SPAN,)),
    Monitor("mean_difference", "llmtrace.audit.monitors.mean_difference:fit",
            "a direction of the stream between the means of the classes", "Arditi et al. 2024",
            "0 F beyond the shared pass", gives="watch", blind="what is not linear; other positions", options=(LAYER,)),
    Monitor("logistic_probe", "llmtrace.audit.monitors.logistic_probe:fit",
            "a direction of the stream that was learned", "Alain & Bengio 2017", "0 F beyond the shared pass",
            ("sklearn",), gives="watch", blind="what is not linear; other positions",
            options=(LAYER, Option("strength", "number", "scikit-learn's C", "0.01"))),
    Monitor("mahalanobis", "llmtrace.audit.monitors.mahalanobis:fit", "how unlike ordinary prompts the stream is",
            "Lee et al. 2018", "0 F beyond the shared pass", ("sklearn",), gives="watch",
            blind="which way is the bad one", options=(LAYER,)),
    Monitor("lens_decision", "llmtrace.audit.monitors.lens_decision:fit", "how early the answer is decided",
            "nostalgebraist 2020", "0 F beyond the shared pass, 2 logits a layer", gives="watch",
            blind="which answer it is"),
    Monitor("stream_norm", "llmtrace.audit.monitors.stream_norm:fit", "the length of the stream", "",
            "0 F beyond the shared pass", gives="watch", blind="every direction", options=(LAYER,)),
    Monitor("attention_entropy", "llmtrace.audit.monitors.attention_entropy:fit", "how scattered attention is",
            "Clark et al. 2019", "0 F beyond the shared pass", gives="watch", blind="what is looked at",
            options=(LAYER,)),
    Monitor("node_activity", "llmtrace.audit.monitors.node_activity:fit", "what chosen heads, MLPs or neurons do",
            "Li et al. 2023", "0 F beyond the shared pass", gives="watch", blind="whether anybody listens to them",
            options=(Option("nodes", "nodes", "such as 9.6,m3", "the heads furthest apart"), COUNT)),
    of=Monitor, gives=("watch",),
)  # fmt: skip

BASELINES = Table(
    "baseline of monitors",
    Monitor("prompt_length", "llmtrace.audit.baselines.prompt_length:fit", "how long the prompt is", gives="watch",
            blind="everything else"),
    Monitor("bag_of_words", "llmtrace.audit.baselines.bag_of_words:fit", "which words it has", gives="watch",
            needs=("sklearn",), blind="their order, and the model"),
    Monitor("output_probability", "llmtrace.audit.baselines.output_probability:fit", "how sure the model is",
            "Hendrycks & Gimpel 2017", gives="watch", blind="why"),
    Monitor("random_direction", "llmtrace.audit.baselines.random_direction:fit", "a direction drawn by lot",
            gives="watch", blind="all but chance", options=(LAYER,)),
    of=Monitor, gives=("watch",),
)  # fmt: skip

SETS = Table(
    "set of labelled prompts",
    Method("embedded_instruction", "llmtrace.audit.sets.embedded_instruction:embedded_instruction",
           "an instruction, and another one in the document that it is about", gives="labelled"),
    Method("distraction", "llmtrace.audit.sets.distraction:distraction", "a fact, and words that draw away from it",
           gives="labelled"),
    Method("repeated_phrase", "llmtrace.audit.sets.repeated_phrase:repeated_phrase",
           "words that were there before, and what came after them", gives="labelled"),
    Method("system_against_user", "llmtrace.audit.sets.system_against_user:system_against_user",
           "a system prompt, and a user who asks for something else", gives="labelled"),
    gives=("labelled",),
)  # fmt: skip
