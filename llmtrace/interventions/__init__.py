"""What if X were different: ablation and path patching, exact, per prompt."""

from llmtrace.interventions.ablation import ablate, group_means
from llmtrace.interventions.effects import Effects
from llmtrace.interventions.path_patching import path_patch
from llmtrace.methods import Method, Table

METHODS = Table(
    "intervention",
    Method("path_patch", path_patch, "a node's direct path to the logits, from the corrupted run", "Wang et al. 2022",
           "2 F, and MLPs at one position", ("corrupted",)),
    Method("ablate", ablate, "the metric without a node", "Wang et al. 2022", "about nodes / 2 F", ("corrupted",)),
)  # fmt: skip

__all__ = ["METHODS", "Effects", "ablate", "group_means", "path_patch"]
