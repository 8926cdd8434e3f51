"""Prompts: makers of `PromptSet`s, and the user's own pairs. No model is run here; only its tokenizer is asked."""

from llmtrace.methods import Method, Table
from llmtrace.prompts.bind import metric_of
from llmtrace.prompts.chat import Chat, chat
from llmtrace.prompts.greater_than import greater_than
from llmtrace.prompts.induction import induction
from llmtrace.prompts.ioi import ioi
from llmtrace.prompts.ioi_corruptions import CORRUPTIONS
from llmtrace.prompts.ioi_words import TEMPLATES
from llmtrace.prompts.pairs import from_jsonl, from_pairs
from llmtrace.prompts.prompt_set import PromptSet
from llmtrace.prompts.repeated import RepeatedTokens, repeated_tokens
from llmtrace.prompts.spans import Spans
from llmtrace.prompts.texts import as_prompts, from_texts

MAKERS = Table(
    "prompt maker",
    Method(
        "ioi", ioi, "indirect objects: When Mary and John went to the store, John gave a drink to", "Wang et al. 2022"
    ),
    Method("induction", induction, "random tokens that come again", "Olsson et al. 2022"),
    Method("greater_than", greater_than, "The war lasted from the year 1742 to the year 17", "Hanna et al. 2023"),
    Method("from_pairs", from_pairs, "your own pairs of clean and corrupted prompts", needs=("pairs",)),
    Method("from_jsonl", from_jsonl, "the same, one JSON object per line of a file", needs=("path",)),
)

__all__ = [
    "CORRUPTIONS", "MAKERS", "TEMPLATES", "Chat", "PromptSet", "RepeatedTokens", "Spans", "as_prompts", "chat",
    "from_jsonl", "from_pairs", "from_texts", "greater_than", "induction", "ioi", "metric_of", "repeated_tokens",
]  # fmt: skip
