"""Proximity of every head's write from every source token, exact without forming most of those vectors.

    |y|_1 - |y - p|_1 = s . p - 2 sum_k max(0, s_k p_k - |y_k|)         s: the signs of y (1 at 0), p = A[i, j] v_j W_O

The first term needs no vector of the stream's width: s W_O meets v. The second counts only coordinates in which p
overshoots y, |y_k| < |p_k| <= A[i, j] max_k |v_j W_O|; for the small parts, which are nearly all, these are none or a
few of the smallest |y_k|, so the first 4, 12 or 32 in order of size decide. What may overshoot in more is measured by
the definition. Overshoot that is provably less than the rounding of |y|_1 is left out.
"""

from __future__ import annotations

import torch
from einops import einsum, rearrange, repeat
from jaxtyping import Float, Int
from torch import Tensor

FEW = (4, 12, 32)  # columns looked at for small parts
BLOCK = 2**19  # numbers of a block
TARGETS = 128  # of one turn

Parts = Float[Tensor, "target source head"]


def head_proximity(
    pattern: Float[Tensor, "head target source"],
    v: Float[Tensor, "source kv_head d_head"],
    W_O: Float[Tensor, "head d_head d_model"],
    whole: Float[Tensor, "target d_model"],
) -> Parts:
    """How much of each row of `whole` is each head's write from each source. Cost: one product per source for its
    writes, and about a tenth of the vectors target x source x head. Trailing sources that no target of a block looks at
    cost nothing, so targets in order take half of that in a causal model."""
    v = repeat(v, "source kv_head d_head -> source (kv_head group) d_head", group=len(W_O) // v.shape[1])
    written = einsum(v, W_O, "source head d_head, head d_head d_model -> source head d_model").contiguous()
    found = pattern.new_zeros(whole.shape[0], v.shape[0], v.shape[1])
    past = torch.arange(1, 1 + len(v), device=v.device)  # of each source, how many there are up to it
    for start in range(0, len(whole), TARGETS):
        some = slice(start, start + TARGETS)
        seen = int((past * (pattern[:, some].amax((0, 1)) > 0)).max())
        looks = rearrange(pattern[:, some, :seen], "head target source -> target source head").contiguous()
        found[some, :seen] = _of_block(looks, v[:seen], W_O, written[:seen], whole[some])
    return found


def _of_block(
    looks: Parts,
    v: Float[Tensor, "source head d_head"],
    W_O: Float[Tensor, "head d_head d_model"],
    written: Float[Tensor, "source head d_model"],
    whole: Float[Tensor, "target d_model"],
) -> Parts:
    signs = einsum(_signs(whole), W_O, "target d_model, head d_head d_model -> target head d_head")
    near = einsum(signs, v, "target head d_head, source head d_head -> target source head").mul_(looks)
    size, order = whole.abs().sort(-1)
    peak = looks * written.abs().amax(-1)
    which = (peak > _overshoot_free(size)).nonzero()
    peak = peak[which.unbind(1)]
    for columns in FEW:
        if columns < size.shape[1]:
            small = peak <= size[which[:, 0], columns]
            _correct_few(near, which[small], looks, written, whole, order[:, :columns])
            which, peak = which[~small], peak[~small]
    _measure(near, which, looks, written, whole)
    return near


def _signs(y: Float[Tensor, "*lead d"]) -> Float[Tensor, "*lead d"]:
    return torch.ones_like(y).copysign_(y + 0.0)  # of -0 too: 1


def _overshoot_free(size: Float[Tensor, "target d_model"]) -> Float[Tensor, "target 1 1"]:
    """The largest of |y| up to which a part's coordinates may grow before its overshoot could be seen in |y|_1."""
    below = torch.arange(size.shape[-1], device=size.device) * size - (size.cumsum(-1) - size)
    free = 2 * below <= torch.finfo(size.dtype).eps * size.sum(-1, keepdim=True)
    return size.gather(1, free.sum(-1, keepdim=True) - 1)[..., None]


def _correct_few(
    near: Parts,
    which: Int[Tensor, "n 3"],
    looks: Parts,
    written: Float[Tensor, "source head d_model"],
    whole: Float[Tensor, "target d_model"],
    columns: Int[Tensor, "target few"],
) -> None:
    """Take from some parts what they overshoot in the coordinates where the target is smallest."""
    y = whole.gather(1, columns)
    signs, size = _signs(y), y.abs()
    for some in which.split(BLOCK // columns.shape[1]):
        target, source, head = some.T
        rows = (source * written.shape[1] + head) * written.shape[2]
        part = written.view(-1)[rows[:, None] + columns[target]]
        part.mul_(signs[target]).mul_(looks[target, source, head][:, None])
        near[target, source, head] -= 2 * part.sub_(size[target]).clamp_(min=0).sum(-1)


def _measure(
    near: Parts,
    which: Int[Tensor, "n 3"],
    looks: Parts,
    written: Float[Tensor, "source head d_model"],
    whole: Float[Tensor, "target d_model"],
) -> None:
    """The definition, for some parts."""
    length = whole.abs().sum(-1)
    for some in which.split(max(1, BLOCK // whole.shape[1])):
        target, source, head = some.T
        part = written[source, head].mul_(looks[target, source, head][:, None])
        near[target, source, head] = length[target] - part.sub_(whole[target]).abs_().sum(-1)
