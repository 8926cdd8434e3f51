"""TransformerLens' hook names, here and nowhere else: kinds of activation (`"z"`) and the name of each at a layer.

The first axes of an activation are `batch pos`, except for patterns and scores, which are `batch head query key`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from llmtrace.errors import NotFoundError, UnsupportedError, did_you_mean
from llmtrace.models.architecture import Architecture

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
# The parts of a pass, in its order, by the hook points (and modules) in them. Elsewhere lies any other module: a plain
# torch hook on `blocks.3.attn` may change what it likes.
PARTS: dict[str, str] = {
    "embedding": r"(hook_)?(pos_)?embed(\..*)?",
    "stream": r"blocks\.\d+(\.hook_resid_(pre|mid|post))?",
    "head inputs": r"blocks\.\d+\.(ln1(\..*)?|hook_attn_in|hook_[qkv]_input|attn\.hook_([qkv]|attn_in|[qkv]_input))",
    "pattern": r"blocks\.\d+\.attn\.hook_(rot_[qk]|attn_scores|pattern)",
    "z": r"blocks\.\d+\.attn\.hook_z",
    "head writes": r"blocks\.\d+\.(attn\.hook_result|hook_attn_out|ln1_post(\..*)?)",
    "mlp inputs": r"blocks\.\d+\.(ln2(\..*)?|hook_mlp_in|mlp\.hook_pre(_linear)?)",
    "neurons": r"blocks\.\d+\.mlp\.hook_post",
    "mlp writes": r"blocks\.\d+\.(hook_mlp_out|ln2_post(\..*)?)",
    "readout": r"(ln_final|unembed|hook_unembed)(\..*)?",
}
ELSEWHERE = "elsewhere"
EVERY_PART = (*PARTS, ELSEWHERE)
AROUND_ATTENTION = (  # of the module of attention: up to q, k and v, and behind z
    *("hook_attn_in", "hook_q_input", "hook_k_input", "hook_v_input", "hook_q", "hook_k", "hook_v", "hook_result"),
)
AROUND_MLP = ("hook_mlp_in", "hook_mlp_out")  # of a block
# What some models show besides, asked for in `models/` only.
_INNER = {"rot_q": "blocks.{layer}.attn.hook_rot_q", "mlp_pre_linear": "blocks.{layer}.mlp.hook_pre_linear"}


def site_name(kind: str, layer: int | None = None) -> str:
    """`site_name("z", 9)` is `blocks.9.attn.hook_z`."""
    if kind not in SITES:
        raise NotFoundError(f"Expected one of {', '.join(SITES)}, got {kind!r}.{did_you_mean(kind, list(SITES))}")
    return SITES[kind].format(layer=layer)


def inner_name(kind: str, layer: int) -> str:
    """The same for what only some models show: `rot_q`, queries after the rotary embedding; `mlp_pre_linear`, the
    pre-activation of a gated MLP that passes no activation function."""
    return _INNER[kind].format(layer=layer)


def in_block(layer: int, name: str) -> str:
    """`in_block(0, "attn.W_Q")` is `blocks.0.attn.W_Q`: a parameter of a layer."""
    return f"blocks.{layer}.{name}"


def layer_of(name: str) -> int | None:
    """The layer that a name speaks of, None where it speaks of none."""
    found = re.match(r"blocks\.(\d+)\.", name)
    return int(found[1]) if found else None


def part_of(name: str) -> str:
    """Which of `PARTS` a hook point or module lies in."""
    return next((part for part, form in PARTS.items() if re.fullmatch(form, name)), ELSEWHERE)


def is_site(name: str) -> bool:
    """Whether it is one of `SITES` at some layer."""
    return any(_matches(form, name) for form in SITES.values())


def is_hook(name: str) -> bool:
    return "hook_" in name


def is_pattern(name: str) -> bool:
    return name.endswith("attn.hook_pattern")


def inside_attention(kind: str) -> str:
    """What the attention module itself calls it: `inside_attention("z")` is `hook_z`."""
    return SITES[kind].rpartition(".")[2]


def scales_of_norms(names: Iterable[str]) -> list[str]:
    """Of a model's hook names those of the scales that its layers' norms divide by, without the final norm's."""
    return [name for name in names if name.endswith("hook_scale") and not name.startswith("ln_final")]


def numbers_per_position(name: str, arch: Architecture, keys: int) -> int:
    """How many numbers an activation holds for one position of one prompt; of attention, for `keys` keys."""
    kind = next((kind for kind, form in SITES.items() if _matches(form, name)), "resid_pre")
    sizes = dict.fromkeys(("q", "z"), arch.n_heads * arch.d_head) | dict.fromkeys(ATTENTION, arch.n_heads * keys)
    sizes |= dict.fromkeys(("k", "v"), arch.n_kv_heads * arch.d_head) | dict.fromkeys(
        ("mlp_pre", "mlp_post"), arch.d_mlp
    )
    return sizes.get(kind, arch.d_model)


def heads_of(name: str, arch: Architecture) -> int | None:
    """How many heads stand on the third axis of an activation; None where it has none there."""
    counts = {"q": arch.n_heads, "k": arch.n_kv_heads, "v": arch.n_kv_heads, "z": arch.n_heads}
    return next((n for kind, n in counts.items() if _matches(SITES[kind], name)), None)


def query_axis(name: str) -> int:
    """Which axis of a site is the token position that positions select."""
    return 2 if any(_matches(SITES[kind], name) for kind in ATTENTION) else 1


def kind_of(asked: str) -> str:
    """The kind whose TransformerLens name ends so (`hook_z` is `z`, `hook_pre` is `mlp_pre`), else the word itself."""
    return next((kind for kind, form in SITES.items() if form.rpartition(".")[2] == asked), asked)


def named_site(name: str) -> tuple[str, int | None]:
    """What TransformerLens' name of an activation says: `blocks.9.attn.hook_z` is ("z", 9), `hook_z` is ("z", None)."""
    layer = layer_of(name)
    for kind, form in SITES.items():
        if layer is not None and form.format(layer=layer) == name:
            return kind, layer
    return kind_of(name), None


def resolve(what: tuple[str, ...], layers: tuple[int, ...], arch: Architecture) -> tuple[str, ...]:
    """TransformerLens names, in the order of the request, of kinds (`"z"`) and full names (`"blocks.9.attn.hook_z"`).

    Raises NotFoundError for an unknown kind, UnsupportedError for a site that this architecture does not have.
    """
    names: dict[str, None] = {}
    for asked in map(kind_of, what):
        _require(asked, arch)
        if asked in SITES and "{layer}" in SITES[asked]:
            names |= {site_name(asked, layer): None for layer in layers}
        elif asked in SITES:
            names[SITES[asked]] = None
        elif is_hook(asked):
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
