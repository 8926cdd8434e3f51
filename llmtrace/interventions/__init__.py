"""What if X were different: patching, path patching, ablation, knockout, tracing, steering - exact, per prompt."""

from typing import TYPE_CHECKING, Any

from llmtrace.interventions.rows import ABLATIONS as ABLATIONS, METHODS as METHODS
from llmtrace.rooms import open_room

if TYPE_CHECKING:
    from llmtrace.interventions.ablation import ablate as ablate
    from llmtrace.interventions.causal_tracing import causal_trace as causal_trace
    from llmtrace.interventions.directions import project_out as project_out
    from llmtrace.interventions.edited import (
        Ablate as Ablate,
        KnockOut as KnockOut,
        PatchIn as PatchIn,
        Steer as Steer,
        edited as edited,
    )
    from llmtrace.interventions.effects import Effects as Effects
    from llmtrace.interventions.engine.changes import Mean as Mean
    from llmtrace.interventions.engine.checkpoint import (
        Checkpoint as Checkpoint,
        until_written as until_written,
    )
    from llmtrace.interventions.engine.intervention import InterventionPlan as InterventionPlan
    from llmtrace.interventions.engine.means import means_of as means_of
    from llmtrace.interventions.knockout import knock_out as knock_out, zero_values as zero_values
    from llmtrace.interventions.patching import patch as patch, patch_sweep as patch_sweep
    from llmtrace.interventions.path_patching import patch_chains as patch_chains, path_patch as path_patch
    from llmtrace.interventions.steering import (
        Generation as Generation,
        generate as generate,
        steer as steer,
        steering_vector as steering_vector,
    )
    from llmtrace.models.memory import Memory as Memory, budget as budget

    def __getattr__(name: str) -> Any: ...  # a row that was added later


register = METHODS.register
open_room(__name__, METHODS)
