"""Sites: activations by kind, and the TransformerLens name of each at a layer.

The first axes of a stored site are `batch pos`, except for patterns and scores, which are `batch head query key`.
"""

from __future__ import annotations

import re

from llmtrace.errors import NotFoundError, UnsupportedError, did_you_mean
from llmtrace.models import Architecture

SITES: dict[str, str] = {
    "embed": "hook_embed",
    "pos_embed": "hook_pos_embed",
    "resid_pre": "blocks.{layer}.hook_resid_pre",
    "resid_mid": "blocks.{layer}.hook_resid_mid",
    "resid_post": "blocks.{layer}.hook_resid_post",
    "q": "blocks.{layer}.attn.hook_q",
    "k": "blocks.{layer}.attn.hook_k",
    "v": "blocks.{layer}.attn.hook_v",
    "z": "blocks.{layer}.attn.hook_z",
    "scores": "blocks.{layer}.attn.hook_attn_scores",
    "pattern": "blocks.{layer}.attn.hook_pattern",
    "attn_out": "blocks.{layer}.hook_attn_out",
    "mlp_pre": "blocks.{layer}.mlp.hook_pre",
    "mlp_post": "blocks.{layer}.mlp.hook_post",
    "mlp_out": "blocks.{layer}.hook_mlp_out",
}
ATTENTION = ("scores", "pattern")  # [batch head query key]; all other sites are [batch pos ...]
_NEEDS_MLP = {"resid_mid", "mlp_pre", "mlp_post", "mlp_out"}


def site_name(kind: str, layer: int | None = None) -> str:
    """`site_name("z", 9)` is `blocks.9.attn.hook_z`."""
    if kind not in SITES:
        raise NotFoundError(f"Expected one of {', '.join(SITES)}, got {kind!r}.{did_you_mean(kind, list(SITES))}")
    return SITES[kind].format(layer=layer)


def numbers_per_position(name: str, arch: Architecture, keys: int) -> int:
    """How many numbers an activation holds for one position of one prompt; of attention, for `keys` keys."""
    kind = next((kind for kind, form in SITES.items() if _matches(form, name)), "resid_pre")
    sizes = dict.fromkeys(("q", "z"), arch.n_heads * arch.d_head) | dict.fromkeys(ATTENTION, arch.n_heads * keys)
    sizes |= dict.fromkeys(("k", "v"), arch.n_kv_heads * arch.d_head) | dict.fromkeys(
        ("mlp_pre", "mlp_post"), arch.d_mlp
    )
    return sizes.get(kind, arch.d_model)


def query_axis(name: str) -> int:
    """Which axis of a site is the token position that positions select."""
    return 2 if any(_matches(SITES[kind], name) for kind in ATTENTION) else 1


def resolve(what: tuple[str, ...], layers: tuple[int, ...], arch: Architecture) -> tuple[str, ...]:
    """TransformerLens names, in the order of the request, of kinds (`"z"`) and full names (`"blocks.9.attn.hook_z"`).

    Raises NotFoundError for an unknown kind, UnsupportedError for a site that this architecture does not have.
    """
    names: dict[str, None] = {}
    for asked in what:
        _require(asked, arch)
        if asked in SITES and "{layer}" in SITES[asked]:
            names |= {site_name(asked, layer): None for layer in layers}
        elif asked in SITES:
            names[SITES[asked]] = None
        elif "hook_" in asked:
            names[asked] = None
        else:
            site_name(asked)
    return tuple(names)


def _require(asked: str, arch: Architecture) -> None:
    kind = asked if asked in SITES else next((k for k, form in SITES.items() if _matches(form, asked)), "")
    if kind == "resid_mid" and arch.parallel:
        raise UnsupportedError(
            "This model runs attention and MLP in parallel, so it has no resid_mid; ask for resid_pre."
        )
    if kind in _NEEDS_MLP and arch.attn_only:
        raise UnsupportedError(f"This model is attention-only, so it has no {kind}; ask for resid_pre, z or attn_out.")
    if kind == "pos_embed" and arch.positional != "standard":
        raise UnsupportedError(f"This model has {arch.positional} positions, not a position embedding; ask for embed.")


def _matches(form: str, name: str) -> bool:
    return re.fullmatch(re.escape(form).replace(re.escape("{layer}"), r"\d+"), name) is not None
