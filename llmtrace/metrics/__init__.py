"""Final logits -> one number per prompt.

logit_diff        mean logit of the correct tokens - mean logit of the wrong tokens         linear in the logits
probability       summed probability of the correct tokens
log_probability   its logarithm, in nats
probability_diff  P(correct) - P(wrong)
kl                KL(reference || now) in nats; lower is nearer to the reference run
custom            any function of the answer position's logits
normalised        any of these, rescaled so that the clean run is 1 and the corrupted run is 0
"""

from typing import TYPE_CHECKING, Any

from llmtrace.metrics.rows import METRICS as METRICS
from llmtrace.rooms import open_room

if TYPE_CHECKING:
    from llmtrace.metrics.kl import kl as kl
    from llmtrace.metrics.logit_diff import logit_diff as logit_diff
    from llmtrace.metrics.metric import (
        Metric as Metric,
        MetricLike as MetricLike,
        custom as custom,
        normalised as normalised,
    )
    from llmtrace.metrics.probabilities import (
        log_probability as log_probability,
        probability as probability,
        probability_diff as probability_diff,
    )

    def __getattr__(name: str) -> Any: ...  # a row that was added later


register = METRICS.register
open_room(__name__, METRICS)
