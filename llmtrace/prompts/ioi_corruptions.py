"""What becomes of the three names of an indirect-object sentence, (IO, S1, S2) with S1 = S2, in its corruption.

Each function gets the names IO and S and three unrelated ones, and gives the three names of the corrupted sentence.
"""

from __future__ import annotations

from llmtrace.methods import Method, Table

Names = tuple[str, str, str]  # in the places of IO, S1, S2


def abc(io: str, s: str, others: Names) -> Names:
    """Three unrelated names: nobody is named twice, so nothing tells who receives. Wang et al.'s reference (pABC)."""
    return others


def s2_io_flip(io: str, s: str, others: Names) -> Names:
    """S2 becomes IO: now S is named once and is the answer. A logit difference changes its sign."""
    return io, s, io


def s2_random(io: str, s: str, others: Names) -> Names:
    """S2 alone becomes a third name: both names stay, the duplicate goes; IO and S are equally likely."""
    return io, s, others[2]


def s1_io_flip(io: str, s: str, others: Names) -> Names:
    """IO and S1 change places: the answer stays, the *order* turns (ABBA to BABA). Isolates position information."""
    return s, io, s


def names(io: str, s: str, others: Names) -> Names:
    """Other names in the same structure: S1 = S2 still, but the answer is another person. Isolates token identity."""
    return others[0], others[1], others[1]


CORRUPTIONS = Table(
    "corruption",
    Method("abc", abc, "three unrelated names: no duplicate, no answer", "Wang et al. 2022"),
    Method("s2_io_flip", s2_io_flip, "S2 becomes IO: the answer turns into S", "Wang et al. 2022, appendix A"),
    Method("s2_random", s2_random, "S2 alone becomes a third name: no duplicate, both names stay"),
    Method(
        "s1_io_flip", s1_io_flip, "IO and S1 change places: same answer, other order", "Wang et al. 2022, appendix A"
    ),
    Method("names", names, "other names in the same structure: another answer", "Wang et al. 2022, appendix A"),
)
