"""The tables of prompts: makers, and what corruptions make of indirect objects."""

from __future__ import annotations

from llmtrace.methods import Method, Option, Table

# What becomes of the three names of `ioi`.
CORRUPTIONS = Table(
    "corruption",
    Method("abc", "llmtrace.prompts.ioi:abc", "three unrelated names: no duplicate, no answer", "Wang et al. 2022"),
    Method("s2_io_flip", "llmtrace.prompts.ioi:s2_io_flip", "S2 becomes IO: the answer turns into S",
           "Wang et al. 2022, appendix A"),
    Method("s2_random", "llmtrace.prompts.ioi:s2_random",
           "S2 alone becomes a third name: no duplicate, both names stay"),
    Method("s1_io_flip", "llmtrace.prompts.ioi:s1_io_flip", "IO and S1 change places: same answer, other order",
           "Wang et al. 2022, appendix A"),
    Method("names", "llmtrace.prompts.ioi:names", "other names in the same structure: another answer",
           "Wang et al. 2022, appendix A"),
)  # fmt: skip

MAKERS = Table(
    "prompt maker",
    Method("ioi", "llmtrace.prompts.ioi:ioi",
           "indirect objects: When Mary and John went to the store, John gave a drink to", "Wang et al. 2022",
           gives="prompts",
           options=(Option("corruption", "word", "what the other run reads instead", "abc", one_of=(*CORRUPTIONS,)),)),
    Method("induction", "llmtrace.prompts.induction:induction", "random tokens that come again", "Olsson et al. 2022",
           gives="prompts"),
    Method("greater_than", "llmtrace.prompts.greater_than:greater_than",
           "The war lasted from the year 1742 to the year 17", "Hanna et al. 2023", gives="prompts"),
    Method("agreement", "llmtrace.prompts.agreement:agreement",
           "the verb past an attractor: I know that the key near the cabinets", "Linzen et al. 2016", gives="prompts"),
    Method("from_pairs", "llmtrace.prompts.pairs:from_pairs", "your own pairs of clean and corrupted prompts",
           needs=("pairs",), gives="prompts"),
    Method("from_jsonl", "llmtrace.prompts.pairs:from_jsonl", "the same, one JSON object per line of a file",
           needs=("path",), gives="prompts"),
    gives=("prompts",),
)  # fmt: skip
