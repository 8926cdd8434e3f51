"""KL(reference || now) in nats: how far the answer's distribution has gone from another run's.

Source: Conmy et al. 2023. Cost: all vocabulary rows are read. Sign: a distance, lower is nearer to the reference run.
Known failure: at the reference itself its gradient is zero, so that gradient methods see nothing.

    >>> lt.interventions.ablate(model, prompts, ["3.2"], metric="kl")
    Effects(mean ablation on kl: 1 interventions, 4 prompts, before 0; 3.2 +0.543)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from llmtrace.metrics.metric import Metric, at_position, widened
from llmtrace.shapes import Float, Positions, Tensor


def kl(
    positions: Positions | Sequence[int], reference: Float[Tensor, "batch pos d_vocab"] | Float[Tensor, "batch d_vocab"]
) -> Metric:
    """KL(reference || now) in nats at the answer position, 0 when both runs agree.

    `reference`: logits of the run to stay close to (the clean one, as a rule), whole or at the answer position only.
    At the reference itself its gradient is zero: gradient methods need a task metric instead.
    """
    positions = torch.as_tensor(positions)
    here = at_position(reference, positions) if reference.ndim == 3 else reference
    log_p = widened(here.detach()).log_softmax(-1)
    return Metric("kl", positions, None, None, _kl, (log_p,), higher_is_better=False)


def _kl(rows: Tensor, log_p: Tensor) -> Tensor:
    # xlogy's convention: a token of probability 0 under the reference contributes nothing, whatever it has now.
    terms = torch.where(log_p > -torch.inf, log_p.exp() * (log_p - rows.log_softmax(-1)), torch.zeros_like(log_p))
    return terms.sum(-1)
