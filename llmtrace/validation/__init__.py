"""A score held against intervening: where scores (`influence`) and what-ifs (`interventions`) meet.

validate(scores, effects)          effects that were measured already -> Validation
validate(scores, model, prompts)   the intervention is made here, beside baselines -> CausalCheck
"""

from llmtrace.validation.causal_check import CausalCheck
from llmtrace.validation.effects import Validation
from llmtrace.validation.fit import name_of
from llmtrace.validation.verb import validate

__all__ = ["CausalCheck", "Validation", "name_of", "validate"]
