"""Typed readers over a `Trace`: one activation, its axes named.

>>> trace = lt.signals.capture(model, prompts)
>>> tuple(lt.signals.attention_pattern(trace, 3).shape)
(4, 8, 15, 15)
"""

from __future__ import annotations

from einops import einsum
from jaxtyping import Float
from torch import Tensor

from llmtrace.models import TraceModel, attention_weights, require_no_hooks
from llmtrace.models.hook_names import ELSEWHERE, site_name
from llmtrace.signals.trace import Trace


def attention_pattern(trace: Trace, layer: int) -> Float[Tensor, "batch head query key"]:
    """Where each query looks; rows sum to one (less with attention sinks)."""
    return trace[site_name("pattern", layer)]


def attention_scores(trace: Trace, layer: int) -> Float[Tensor, "batch head query key"]:
    """Before the softmax; masked entries are -inf."""
    return trace[site_name("scores", layer)]


def queries(trace: Trace, layer: int) -> Float[Tensor, "batch pos head d_head"]:
    """Before rotary embedding and QK-norm."""
    return trace[site_name("q", layer)]


def keys(trace: Trace, layer: int) -> Float[Tensor, "batch pos kv_head d_head"]:
    """Before rotary embedding and QK-norm."""
    return trace[site_name("k", layer)]


def values(trace: Trace, layer: int) -> Float[Tensor, "batch pos kv_head d_head"]:
    return trace[site_name("v", layer)]


def z(trace: Trace, layer: int) -> Float[Tensor, "batch pos head d_head"]:
    """Values averaged by the pattern, before W_O."""
    return trace[site_name("z", layer)]


def head_result(trace: Trace, model: TraceModel, layer: int) -> Float[Tensor, "batch pos head d_model"]:
    """What each head writes: z W_O, without the layer's bias b_O. Needs z in the trace."""
    require_no_hooks(model, "A head's result", ("head writes", ELSEWHERE))
    W_O = attention_weights(model, layer).W_O
    return einsum(z(trace, layer), W_O, "batch pos head d_head, head d_head d_model -> batch pos head d_model")


def resid_pre(trace: Trace, layer: int) -> Float[Tensor, "batch pos d_model"]:
    """The residual stream that enters a layer."""
    return trace[site_name("resid_pre", layer)]


def resid_mid(trace: Trace, layer: int) -> Float[Tensor, "batch pos d_model"]:
    """Between attention and MLP; parallel and attention-only blocks have none."""
    return trace[site_name("resid_mid", layer)]


def resid_post(trace: Trace, layer: int) -> Float[Tensor, "batch pos d_model"]:
    """The residual stream that leaves a layer."""
    return trace[site_name("resid_post", layer)]


def mlp_pre(trace: Trace, layer: int) -> Float[Tensor, "batch pos d_mlp"]:
    """Pre-activations (of the gate, in a gated MLP)."""
    return trace[site_name("mlp_pre", layer)]


def mlp_post(trace: Trace, layer: int) -> Float[Tensor, "batch pos d_mlp"]:
    """Post-activations: what W_out multiplies."""
    return trace[site_name("mlp_post", layer)]
