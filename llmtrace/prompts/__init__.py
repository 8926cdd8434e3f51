"""Prompts: makers of `PromptSet`s, and the user's own pairs. No model is run here; only its tokenizer is asked."""

from typing import TYPE_CHECKING, Any

from llmtrace.prompts.rows import MAKERS as MAKERS
from llmtrace.rooms import open_room

if TYPE_CHECKING:
    from llmtrace.prompts.bound_metric import metric_of as metric_of
    from llmtrace.prompts.chat import Chat as Chat, from_messages as from_messages
    from llmtrace.prompts.greater_than import greater_than as greater_than
    from llmtrace.prompts.induction import induction as induction
    from llmtrace.prompts.ioi import TEMPLATES as TEMPLATES, ioi as ioi
    from llmtrace.prompts.pairs import from_jsonl as from_jsonl, from_pairs as from_pairs
    from llmtrace.prompts.prompt_set import PromptSet as PromptSet
    from llmtrace.prompts.repeated_tokens import RepeatedTokens as RepeatedTokens, repeated_tokens as repeated_tokens
    from llmtrace.prompts.rows import CORRUPTIONS as CORRUPTIONS
    from llmtrace.prompts.spans import Spans as Spans
    from llmtrace.prompts.texts import as_prompts as as_prompts, from_texts as from_texts

    def __getattr__(name: str) -> Any: ...  # a row that was added later


register = MAKERS.register
open_room(__name__, MAKERS)
