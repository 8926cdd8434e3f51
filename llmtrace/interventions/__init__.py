"""What if X were different: ablation and path patching, exact, per prompt."""

from llmtrace.interventions.ablation import ablate, plan_ablate
from llmtrace.interventions.effects import Effects
from llmtrace.interventions.means import group_means
from llmtrace.interventions.patching import patch, patch_sweep, plan_patch, plan_patch_sweep
from llmtrace.interventions.path_patching import patch_paths, path_patch, plan_patch_paths, plan_path_patch
from llmtrace.methods import Method, Table

METHODS = Table(
    "intervention",
    Method("patch", patch, "chosen activations of one run copied into the other", "Meng et al. 2022",
           "2 F, and each its layers and positions", ("corrupted",)),
    Method("patch_sweep", patch_sweep, "every activation of a kind copied, one by one", "Zhang and Nanda 2024",
           "2 F, and about places / 2 F", ("corrupted",)),
    Method("path_patch", path_patch, "what a sender tells chosen receivers, from the other run", "Wang et al. 2022",
           "2 F; to the logits no more than MLPs at one position", ("corrupted",)),
    Method("patch_paths", patch_paths, "paths of several hops, ports named", "Goldowsky-Dill et al. 2023",
           "2 F, and a layer for each hop", ("corrupted",)),
    Method("ablate", ablate, "the metric without a node", "Wang et al. 2022", "about nodes / 2 F", ("corrupted",)),
)  # fmt: skip

__all__ = [
    "METHODS", "Effects", "ablate", "group_means", "patch", "patch_paths", "patch_sweep", "path_patch",
    "plan_ablate", "plan_patch", "plan_patch_paths",
    "plan_patch_sweep", "plan_path_patch",
]  # fmt: skip
