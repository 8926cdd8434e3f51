"""A score held against intervening: where scores (`influence`) and what-ifs (`interventions`) meet.

correlate(scores, effects)         effects that were measured already -> Validation
validate(model, prompts, scores)   the intervention is made here, beside baselines -> CausalCheck
"""

from typing import TYPE_CHECKING

from llmtrace.rooms import open_room

if TYPE_CHECKING:
    from llmtrace.validation.causal_check import CausalCheck as CausalCheck
    from llmtrace.validation.checks.belonging import name_of as name_of
    from llmtrace.validation.correlate import Validation as Validation, correlate as correlate
    from llmtrace.validation.validate import validate as validate

open_room(__name__)
