"""`describe(model)`: the facts about a model that the mathematics depends on, read from its configuration and blocks.

>>> lt.models.describe(model).heads[:2]
(Head(layer=0, head=0), Head(layer=0, head=1))
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llmtrace.errors import InputError, UnsupportedError
from llmtrace.models.blocks import norms_what_it_writes
from llmtrace.models.protocol import TraceModel
from llmtrace.nodes import Embed, Head, Logits, Mlp, Node, NodeLike, Port, read_node


@dataclass(frozen=True)
class Architecture:
    """Shape and kind of a model. `n_kv_heads < n_heads` is grouped-query attention."""

    n_layers: int
    n_heads: int
    n_kv_heads: int
    d_model: int
    d_head: int
    d_mlp: int
    d_vocab: int
    n_ctx: int
    norm: str | None  # "LN", "RMS" or None
    eps: float
    gated: bool
    parallel: bool  # attention and MLP of a layer read the same resid_pre
    attn_only: bool
    positional: str
    post_norm: bool  # a norm between what a block writes and the residual stream (Gemma 2, OLMo 2)
    logit_cap: float  # 0: none
    score_cap: float
    causal: bool
    sinks: bool  # attention may go nowhere: rows of a pattern sum to less than one

    @property
    def group(self) -> int:
        """Query heads per key-value head."""
        return self.n_heads // self.n_kv_heads

    @property
    def heads(self) -> tuple[Head, ...]:
        return tuple(Head(layer, head) for layer in range(self.n_layers) for head in range(self.n_heads))

    @property
    def mlps(self) -> tuple[Mlp, ...]:
        return () if self.attn_only else tuple(Mlp(layer) for layer in range(self.n_layers))

    def require(self, node: Node) -> None:
        """Refuse a node that this model does not have."""
        if isinstance(node, Embed | Logits):
            if node not in (Embed(), Logits()):
                raise InputError(
                    f"{node} is not a node of its own: what enters the first block is one node, 'input' (Embed())."
                )
            return
        size = 1 if node.counted is None else getattr(self, node.counted)
        within = 0 <= node.layer < self.n_layers and 0 <= getattr(node, "index", 0) < size
        if node.in_mlp and self.attn_only:
            raise InputError(f"{node} is an MLP and this model is attention-only; name a head such as 'a0.h0'.")
        if not within or node.constant:
            if node.counted == "d_mlp":
                raise InputError(
                    f"{node} is not in this model, which has layers 0-{self.n_layers - 1} and neurons "
                    f"0-{self.d_mlp - 1} in each; name one of these."
                )
            if node.counted is None:
                raise InputError(
                    f"{node} is not in this model, which has layers 0-{self.n_layers - 1}; name one of these."
                )
            raise InputError(
                f"{node} is not in this model, which has layers 0-{self.n_layers - 1}, "
                f"heads 0-{self.n_heads - 1} and key-value heads 0-{self.n_kv_heads - 1}; name one of these."
            )

    def reads(self, port: Port, node: Node) -> bool:
        """Whether a port comes after a node that writes."""
        before, after = node.depth, port.node.depth
        if after is None or before == -1:
            return True
        if before is None:
            return False
        same_layer = port.node.in_mlp and not node.in_mlp and node.writes is not None and not self.parallel
        return before <= after if same_layer else before < after

    def require_port(self, port: Port) -> None:
        """Refuse a port that this model does not have; keys and values belong to key-value heads."""
        self.require(port.node)
        if port.node.whole != port.node:
            raise UnsupportedError(
                f"Neurons read apart from their MLP in a graph of edges only (Graph.of(model, neurons=[...])); "
                f"write {port.node.whole} for the port of the whole MLP."
            )
        shared = self.group > 1 and port.slot in ("k", "v")
        own = port.node.reader(port.slot, self.group)
        if own != port.node and shared:
            raise InputError(
                f"Query heads share keys and values here, {self.group} to a key-value head, so {port} is not its own; "
                f"write {own}<{port.slot}>."
            )
        if own != port.node:
            raise InputError(f"{port} is not a port of this model; write {own}<...>.")

    def require_all(self, nodes: Sequence[NodeLike], kinds: tuple[type, ...], role: str) -> tuple[Any, ...]:
        """`nodes`, or what names them: at least one, each of `kinds` and in this model. `role`: what they are for."""
        expected = f"Expected a list of nodes {role} ({', '.join(kind.__name__ for kind in kinds)})"
        if not isinstance(nodes, list | tuple):
            raise InputError(f"{expected}, got {nodes!r} alone; put it in a list: [Head(9, 6)].")
        found: tuple[Any, ...] = tuple(read_node(node) for node in nodes)
        if not found:
            raise InputError(f"{expected}, got none; name one, or leave the argument out for all of them.")
        for node in found:
            if type(node) not in kinds:
                raise InputError(f"{expected}, got {node} ({type(node).__name__}); take it out.")
            self.require(node)
        return found

    def require_layers(self, layers: Sequence[int] | None) -> tuple[int, ...]:
        """`layers` as a tuple (None: all of them), each one a layer of this model."""
        if layers is None:
            return tuple(range(self.n_layers))
        if not isinstance(layers, Sequence) or not all(type(layer) is int for layer in layers):
            raise InputError(f"Expected a list of layer numbers, got {layers!r}; write layers=[0].")
        if not layers or not all(0 <= layer < self.n_layers for layer in layers):
            raise InputError(
                f"Expected layers between 0 and {self.n_layers - 1}, got {list(layers)}; leave layers out for all."
            )
        return tuple(layers)

    def require_layer(self, layer: int) -> int:
        """One layer of this model."""
        if type(layer) is not int or not 0 <= layer < self.n_layers:
            raise InputError(
                f"Expected a layer between 0 and {self.n_layers - 1}, got {layer!r}; leave layer out for all of them."
            )
        return layer

    def require_pre_norm(self, method: str) -> None:
        """Refuse models whose writes pass a norm before they reach the residual stream."""
        if self.post_norm:
            raise UnsupportedError(
                f"{method} needs writes that add up in the residual stream; this model norms each block's output "
                "first (post-norm, as Gemma 2 and OLMo 2 do), so the sum would be silently wrong."
            )


def describe(model: TraceModel) -> Architecture:
    """The architecture of a HookedTransformer or TransformerBridge. Cost: none, no activation is computed."""
    cfg = getattr(model, "cfg", None)
    if cfg is None:
        raise InputError(
            f"Expected a model, a HookedTransformer or TransformerBridge, got {type(model).__name__}; "
            "make one with llmtrace.load(name)."
        )
    norm = getattr(cfg, "normalization_type", None)
    if norm not in (None, "LN", "LNPre", "RMS", "RMSPre"):
        raise UnsupportedError(f"Expected a model with LayerNorm, RMSNorm or no norm, got {norm!r}.")
    return Architecture(
        n_layers=cfg.n_layers,
        n_heads=cfg.n_heads,
        n_kv_heads=getattr(cfg, "n_key_value_heads", None) or cfg.n_heads,
        d_model=cfg.d_model,
        d_head=cfg.d_head,
        d_mlp=getattr(cfg, "d_mlp", None) or 0,
        d_vocab=cfg.d_vocab_out if getattr(cfg, "d_vocab_out", -1) > 0 else cfg.d_vocab,
        n_ctx=cfg.n_ctx,
        norm=norm.removesuffix("Pre") if norm else None,
        eps=float(getattr(cfg, "eps", 1e-5)),
        gated=bool(getattr(cfg, "gated_mlp", False)),
        parallel=bool(getattr(cfg, "parallel_attn_mlp", False)),
        attn_only=bool(getattr(cfg, "attn_only", False)),
        positional=str(getattr(cfg, "positional_embedding_type", "standard")),
        post_norm=norms_what_it_writes(model),
        logit_cap=max(0.0, float(getattr(cfg, "output_logits_soft_cap", None) or 0.0)),
        score_cap=max(0.0, float(getattr(cfg, "attn_scores_soft_cap", None) or 0.0)),
        causal=getattr(cfg, "attention_dir", "causal") == "causal",
        sinks=bool(getattr(cfg, "use_attention_sinks", False)),
    )
