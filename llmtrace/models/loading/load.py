"""`load`: a name, a folder, a .gguf file or a Hugging Face model -> a model whose activations have names.

>>> lt.load("induction").cfg.n_layers
2
"""

from __future__ import annotations

import copy
import os
import warnings
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from llmtrace.errors import (
    CheckError,
    InputError,
    LimitError,
    LLMTraceError,
    NotFoundError,
    UnsupportedError,
    require_one_of,
)
from llmtrace.files import what_is_at
from llmtrace.models.loading import model_names
from llmtrace.models.protocol import TraceModel
from llmtrace.models.provenance import FLAGS, Origin, record_origin

BACKENDS = ("auto", "hooked", "bridge")
DTYPES = {"float64": torch.float64, "float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
FILE_ENDINGS = (".gguf", ".safetensors", ".bin", ".pt", ".pth", ".json")


@torch.inference_mode(mode=False)  # weights made under it take no gradient and count no edits
def load(
    source: str | os.PathLike[str] | nn.Module,
    *,
    device: str | torch.device = "auto",
    dtype: torch.dtype | str | None = None,
    fold_ln: bool = True,
    center_writing_weights: bool = True,
    center_unembed: bool = True,
    fold_value_biases: bool = True,
    backend: str = "auto",
    tokenizer: Any | None = None,
    n_ctx: int | None = None,
    trust_remote_code: bool = False,
    check: bool = True,
) -> TraceModel:
    """Load a model for inference: eval mode, no gradients to parameters, right padding, compared with its source.

    Args:
        source: an embedded model ('tiny-english', 'induction', 'or-gate', 'and-gate'), a Hugging Face folder, a
            `.gguf` file, a name or alias that TransformerLens knows, `organisation/model` on the hub, or a Hugging
            Face language model (copied, never changed). Tried in this order: a folder hides a hub name.
        device: 'auto' is CUDA where there is one, else the CPU.
        dtype: float32 where None. Processing is exact to about 1e-6 in float64 too (it is done in float32).
        fold_ln, center_writing_weights, center_unembed, fold_value_biases: TransformerLens' weight processing. What a
            model cannot bear (centring under a soft cap, say) is left out, and the flags in force are recorded.
        backend: 'auto' is a HookedTransformer under transformer-lens 3.9 and a TransformerBridge in compatibility
            mode under 4.x, and under 3.9 for architectures that HookedTransformer does not compute.
        tokenizer: used instead of the one beside the weights.
        n_ctx: a shorter context than the model was trained for.
        trust_remote_code: run code from the model's repository.
        check: compare log-probabilities and attention patterns with the source (one forward pass over 32 tokens).
            A model whose processed weights do not stand it is loaded with its weights as they are, with a warning.

    Raises:
        NotFoundError, NoWeightsError, FileFormatError, UnsupportedError, CheckError, InputError
    """
    require_one_of("backend", BACKENDS, backend)
    if n_ctx is not None and (not isinstance(n_ctx, int) or n_ctx < 1):
        raise InputError(
            f"Expected n_ctx to be a whole number of at least 1, got {n_ctx!r}; leave it out for all of it."
        )
    flags = {
        "fold_ln": fold_ln,
        "center_writing_weights": center_writing_weights,
        "center_unembed": center_unembed,
        "fold_value_biases": fold_value_biases,
    }
    where, kind = _device(device), _dtype(dtype)

    from llmtrace.models.loading.hooked_transformer import hooked_transformer_exists, require_hooked_transformer

    if backend == "hooked":
        require_hooked_transformer()
    hooked = backend == "hooked" or (backend == "auto" and hooked_transformer_exists())

    from llmtrace.models.loading.quiet_libraries import quiet

    with quiet():
        if isinstance(source, str) and source.lower() in model_names.HAND_BUILT:
            if n_ctx is not None or tokenizer is not None:
                raise InputError(f"Expected n_ctx= and tokenizer= of trained models, got {source!r}; leave them out.")
            return _hand_built(source.lower(), hooked=hooked, dtype=kind, device=where)
        build = partial(
            _build,
            tokenizer=tokenizer,
            device=where,
            dtype=kind,
            n_ctx=n_ctx,
            hooked=hooked,
            may_bridge=backend != "hooked",
            check=check,
        )
        opened = _open(source, kind, trust_remote_code=trust_remote_code)
        try:
            return build(opened, flags=flags)
        except Exception as failed:
            if isinstance(failed, LLMTraceError) and not isinstance(failed, CheckError):
                raise
            name, problem = opened.name, failed
        del opened  # a bridge has changed it
        model = None
        if any(flags.values()):
            with suppress(Exception):  # the first failure is the one to tell
                again = _open(source, kind, trust_remote_code=trust_remote_code)
                model = build(again, flags=dict.fromkeys(flags, False))
    if model is None:
        raise problem if isinstance(problem, CheckError) else _not_taken(name, problem)
    warnings.warn(
        f"{name!r} is loaded with its weights as they are (fold_ln=False and so on); processed ones do not work: "
        f"{_first_line(problem)}.",
        stacklevel=2,
    )
    return model


def _not_taken(name: str, problem: Exception) -> UnsupportedError:
    error = UnsupportedError(
        f"Expected TransformerLens to take {name!r}, got {type(problem).__name__}: {_first_line(problem)}; try the "
        "other backend=, or another version of transformer-lens."
    )
    error.__cause__ = problem
    return error


def _first_line(problem: Exception) -> str:
    return (str(problem).strip().splitlines() or ["no message"])[0][:200].rstrip(".")


def _open(source: Any, dtype: torch.dtype, *, trust_remote_code: bool) -> Any:
    """Whatever `source` is, as a `Source`."""
    from llmtrace.models.loading.gguf import open_gguf
    from llmtrace.models.loading.huggingface import open_folder, open_hub, open_object

    if isinstance(source, nn.Module):
        return open_object(source)
    if not isinstance(source, str | os.PathLike):
        raise InputError(f"Expected a name, a path or a Hugging Face model, got {type(source).__name__}.")
    if isinstance(source, str) and source.lower() in model_names.TRAINED:
        return open_folder(model_names.FOLDER / source.lower(), dtype, trust_remote_code=False, name=source.lower())
    if not str(source).strip():
        raise InputError("Expected a model name or a path, got an empty one; `llmtrace models` lists the names.")
    path = Path(source).expanduser()
    if path.suffix != ".gguf" and not (path / "config.json").is_file() and (what := what_is_at(path)):
        raise InputError(f"Expected a model, but {path.name!r} is {what}.")
    if path.is_dir():
        return open_folder(path, dtype, trust_remote_code=trust_remote_code)
    if path.is_file():
        if path.suffix != ".gguf":
            raise InputError(f"Expected a .gguf file or a folder, got the file {path.name!r}; give its folder.")
        return open_gguf(path, dtype)
    if _looks_like_a_path(source):
        raise NotFoundError(f"Expected a model folder or a .gguf file, got {str(source)!r}, which does not exist.")
    return open_hub(model_names.resolve(str(source)), dtype, trust_remote_code=trust_remote_code)


def _hand_built(name: str, *, hooked: bool, dtype: torch.dtype, device: torch.device) -> TraceModel:
    """Hand-set weights mean what they say: no processing applies to them, and there is no source to compare with."""
    from llmtrace.models.hand_built.designs import build

    model = _for_inference(build(name, hooked=hooked, dtype=dtype).to(device))
    record_origin(model, Origin(model=name, flags=dict.fromkeys(FLAGS, False)))
    return model


def _for_inference(model: Any) -> Any:
    model.eval()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    return model


def _build(
    source: Any,
    *,
    tokenizer: Any | None,
    device: torch.device,
    dtype: torch.dtype,
    n_ctx: int | None,
    flags: dict[str, bool],
    hooked: bool,
    may_bridge: bool,
    check: bool,
) -> TraceModel:
    from llmtrace.models.loading.bridge import bridge_from_hugging_face
    from llmtrace.models.loading.check import check_model, check_weights, reference_of
    from llmtrace.models.loading.families import hooked_options
    from llmtrace.models.loading.hooked_transformer import hooked_from_hugging_face
    from llmtrace.models.loading.multipliers import fold_multipliers, has_multipliers
    from llmtrace.models.tokenizers import give_back, prepare

    check_weights(source.hf, source.name)
    flags = _bearable(flags, source.hf)
    tokenizer = tokenizer if tokenizer is not None else source.tokenizer
    tokenizer = prepare(tokenizer) if tokenizer is not None else None
    if hooked and may_bridge:
        try:
            hooked_options(source.architecture, source.hf.config)
        except UnsupportedError:
            hooked = False
    reference = reference_of(source.hf, tokenizer, n_ctx) if check else None
    folded = has_multipliers(source.hf)
    if folded:
        source = source.own()
        fold_multipliers(source.hf)
    common = {"name": source.name, "tokenizer": copy.deepcopy(tokenizer), "n_ctx": n_ctx, "flags": flags}
    model: Any
    if hooked:
        model = hooked_from_hugging_face(source.hf, source.architecture, dtype=dtype, device=device, **common)
    else:
        model, flags = bridge_from_hugging_face(source.own().hf.to(device, dtype), source.architecture, **common)
    if tokenizer is not None:
        give_back(model, tokenizer)
    if n_ctx is not None and model.cfg.n_ctx < n_ctx:
        raise LimitError(f"Expected n_ctx up to {model.cfg.n_ctx}, the model's context, got {n_ctx}; leave it out.")
    _for_inference(model)
    if reference is not None:
        check_model(model, reference, source.name)
    flags = {**flags, "fold_multipliers": True} if folded else flags
    record_origin(model, Origin(model=source.name, flags=flags))
    return model


def _bearable(flags: dict[str, bool], hf: Any) -> dict[str, bool]:
    """The flags without those that would change what this model computes, or that do nothing to it."""
    from llmtrace.models.loading.bridge import has_sinks

    centred = not hasattr(hf.config, "rms_norm_eps")
    capped = bool(getattr(hf.config, "final_logit_softcapping", None))
    return flags | {
        "fold_value_biases": flags["fold_value_biases"] and not has_sinks(hf),
        "center_writing_weights": flags["center_writing_weights"] and centred,
        "center_unembed": flags["center_unembed"] and not capped,
    }


def _device(device: str | torch.device) -> torch.device:
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise InputError(f"Expected a device such as 'auto', 'cpu' or 'cuda:0', got {device!r}.") from error
    here = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not here.get(chosen.type, False):
        raise InputError(
            f"Expected a device of this machine ({', '.join(name for name, there in here.items() if there)}), "
            f"got {str(device)!r}; use 'auto'."
        )
    return chosen


def _dtype(dtype: torch.dtype | str | None) -> torch.dtype:
    if dtype is None:
        return torch.float32
    name = str(dtype).removeprefix("torch.")
    require_one_of("dtype", DTYPES, name)
    return DTYPES[name]


def _looks_like_a_path(source: Any) -> bool:
    text = str(source)
    return not isinstance(source, str) or text.startswith((".", "/", "~")) or text.endswith(FILE_ENDINGS)
