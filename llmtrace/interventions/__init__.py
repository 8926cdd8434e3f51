"""What if X were different: patching, path patching, ablation, knockout, tracing, steering - exact, per prompt."""

from llmtrace.interventions.ablation import ablate, plan_ablate
from llmtrace.interventions.causal_tracing import causal_trace, plan_causal_trace
from llmtrace.interventions.checkpoint import Checkpoint
from llmtrace.interventions.directions import plan_project_out, project_out
from llmtrace.interventions.effects import Effects
from llmtrace.interventions.engine import Plan
from llmtrace.interventions.knockout import knock_out, plan_knock_out, plan_zero_values, zero_values
from llmtrace.interventions.means import means_of
from llmtrace.interventions.patching import patch, patch_sweep, plan_patch, plan_patch_sweep
from llmtrace.interventions.path_patching import patch_paths, path_patch, plan_patch_paths, plan_path_patch
from llmtrace.interventions.steering import Generation, generate, plan_steer, steer, steering_vector
from llmtrace.interventions.values import Mean
from llmtrace.methods import Method, Table
from llmtrace.models.budget import Memory, budget

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
    Method("knock_out", knock_out, "positions that others no longer see, by window of layers", "Geva et al. 2023",
           "about layers / 2 F", ()),
    Method("zero_values", zero_values, "positions whose values are 0, by window of layers", "Mohebbi et al. 2023",
           "about layers / 2 F", ()),
    Method("project_out", project_out, "the residual stream without a direction or subspace", "Arditi et al. 2024",
           "about layers / 2 F", ()),
    Method("causal_trace", causal_trace, "one clean activation in a run whose subject is noise", "Meng et al. 2022",
           "about samples x layers x positions / 4 F", ()),
    Method("steer", steer, "a vector added at a place", "Turner et al. 2023", "about places / 2 F", ()),
)  # fmt: skip

__all__ = [
    "METHODS", "Checkpoint", "Effects", "Generation", "Mean", "Memory", "Plan", "ablate", "budget", "causal_trace",
    "generate", "knock_out", "means_of", "patch", "patch_paths", "patch_sweep", "path_patch", "plan_ablate",
    "plan_causal_trace", "plan_knock_out", "plan_patch", "plan_patch_paths", "plan_patch_sweep", "plan_path_patch",
    "plan_project_out", "plan_steer", "plan_zero_values", "project_out", "steer", "steering_vector", "zero_values",
]  # fmt: skip
