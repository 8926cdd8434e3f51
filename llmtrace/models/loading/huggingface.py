"""Open a Hugging Face folder or hub name as a model and a tokenizer: safetensors only, nothing is ever unpickled."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from llmtrace.errors import (
    FileFormatError,
    InputError,
    LLMTraceError,
    NotFoundError,
    NoWeightsError,
    UnsupportedError,
    did_you_mean,
)
from llmtrace.models.loading.model_names import hub_names, known_names

PATIENCE = 10.0  # seconds to wait for the hub
LEGACY = ("NeelNanda/", "ArthurConmy/", "Baidicoot/")  # repositories of .pth checkpoints


@dataclass(frozen=True, eq=False)
class Source:
    """A model as Hugging Face computes it. `ours`: nobody else holds it, so it may be changed."""

    name: str
    hf: Any  # a transformers.PreTrainedModel
    tokenizer: Any | None
    ours: bool = True

    @property
    def architecture(self) -> str:
        return type(self.hf).__name__

    def own(self) -> Source:
        """The same, with a model that may be changed."""
        return self if self.ours else replace(self, hf=copy.deepcopy(self.hf), ours=True)


def open_object(hf: Any) -> Source:
    """A Hugging Face model that the caller has loaded.

    Raises:
        InputError: it is another kind of module, or has no unembedding.
    """
    traceable = hasattr(hf, "run_with_cache")
    if traceable or not hasattr(hf, "config") or not callable(getattr(hf, "get_output_embeddings", None)):
        raise InputError(
            f"Expected a name, a path or a Hugging Face language model, got {type(hf).__name__}; a model that is "
            "already a HookedTransformer or TransformerBridge needs no load()."
        )
    if hf.get_output_embeddings() is None:
        raise InputError(
            f"Expected a language model with an unembedding, got {type(hf).__name__}; load it with "
            "transformers.AutoModelForCausalLM."
        )
    _refuse_other_kinds(hf.config, type(hf).__name__)
    name = Path(str(getattr(hf.config, "_name_or_path", "") or "")).name or type(hf).__name__
    return Source(name, hf, None, ours=False)


def open_folder(folder: Path, dtype: torch.dtype, *, trust_remote_code: bool, name: str | None = None) -> Source:
    """A local folder with `config.json` and `*.safetensors`; what it holds is decided by its config.json.

    Raises:
        FileFormatError: no or broken config.json, no safetensors, truncated or foreign weights.
        UnsupportedError: no causal language model of that architecture.
    """
    name = name or folder.resolve().name
    _read_config(folder, name)
    if not any(folder.glob("*.safetensors")):
        raise FileFormatError(
            f"Expected *.safetensors in the folder {name!r}, got none; pickled weights (.bin, .pt, .pth) are never "
            "read: convert them with transformers' save_pretrained(safe_serialization=True)."
        )
    try:
        hf = _from_pretrained(folder, dtype, trust_remote_code=trust_remote_code, local_files_only=True)
    except LLMTraceError:
        raise
    except Exception as error:  # safetensors and transformers raise a dozen kinds for a damaged folder
        wrong = "shapes that are not those of config.json" if "mismatched_sizes" in str(error) else first_line(error)
        raise FileFormatError(
            f"Expected whole weights that fit config.json in the folder {name!r}, got {wrong}; get the folder again."
        ) from error
    return Source(name, hf, _tokenizer(folder, name, trust_remote_code=trust_remote_code, local_files_only=True))


def open_hub(name: str, dtype: torch.dtype, *, trust_remote_code: bool) -> Source:
    """A name on the Hugging Face hub: the local cache first, then the network.

    Raises:
        NoWeightsError: no network, a gated repository, or no safetensors in it.
        NotFoundError: the hub has no such repository.
    """
    if name.startswith(LEGACY):
        raise NoWeightsError(
            f"{name!r} is published as pickled .pth files, which llmtrace never reads; expected safetensors: convert "
            "it once on a machine you trust, then load the folder."
        )
    cached = _is_cached(name)
    if not cached:
        _ask_hub(name)
    try:
        hf = _from_pretrained(name, dtype, trust_remote_code=trust_remote_code, local_files_only=cached)
    except LLMTraceError:
        raise
    except Exception as error:
        raise _no_weights(name, first_line(error)) from error
    tokenizer = _tokenizer(name, name, trust_remote_code=trust_remote_code, local_files_only=cached)
    return Source(name, hf, tokenizer)


def _from_pretrained(where: Path | str, dtype: torch.dtype, **options: Any) -> Any:
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(where, **options)
        _refuse_other_kinds(config, Path(where).name)
        hf, info = _auto_class(config).from_pretrained(
            where,
            config=config,
            dtype=dtype,
            use_safetensors=True,
            attn_implementation="eager",
            output_loading_info=True,
            **options,
        )
    except ValueError as error:
        if "Unrecognized" in str(error) or "does not recognize this architecture" in str(error):
            raise UnsupportedError(
                f"Expected a causal language model that transformers knows, got {first_line(error)}."
            ) from error
        if "trust_remote_code" in str(error):
            raise UnsupportedError(
                f"{Path(where).name!r} needs code of its own from its repository; read that code, then pass "
                "trust_remote_code=True."
            ) from error
        raise
    if info["missing_keys"]:
        missing = sorted(info["missing_keys"])
        raise FileFormatError(
            f"Expected every weight of {type(hf).__name__} in {Path(where).name!r}, got none for "
            f"{missing[0]!r} ({len(missing)} missing); the folder is incomplete: get it again."
        )
    return hf


def _auto_class(config: Any) -> Any:
    """Of a language model; of one that reads images as well where transformers knows the family only so (Mistral 3,
    LLaVA): its text part is a language model like any other."""
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as LANGUAGE,
        MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES as IMAGES_TOO,
    )

    sees = config.model_type in IMAGES_TOO and config.model_type not in LANGUAGE
    return AutoModelForImageTextToText if sees else AutoModelForCausalLM


def _refuse_other_kinds(config: Any, name: str) -> None:
    """Only decoders with plain weights: no encoder-decoders, nothing quantised."""
    if getattr(config, "is_encoder_decoder", False):
        raise UnsupportedError(
            f"Expected a language model that reads and predicts one text, got the encoder-decoder {name!r}."
        )
    if getattr(config, "quantization_config", None):
        raise UnsupportedError(
            f"Expected plain weights, got {name!r}, whose weights are quantised; load it dequantised with transformers "
            "and give that model, or use its .gguf file."
        )


def _read_config(folder: Path, name: str) -> dict[str, Any]:
    path = folder / "config.json"
    if not path.is_file():
        raise FileFormatError(
            f"Expected config.json in the folder {name!r}, got none; give a folder written by save_pretrained()."
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise FileFormatError(f"Expected JSON in {name}/config.json, got {error}; get the file again.") from error
    if not isinstance(config, dict) or not (config.get("model_type") or config.get("architectures")):
        raise FileFormatError(f"Expected 'model_type' in {name}/config.json, got none; it is not a model's config.")
    return config


def _tokenizer(where: Path | str, name: str, **options: Any) -> Any | None:
    """The tokenizer beside the weights, or None where there is none."""
    from transformers import AutoTokenizer

    files = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")
    if isinstance(where, Path) and not any((where / file).is_file() for file in files):
        return None
    try:
        return AutoTokenizer.from_pretrained(where, **options)
    except Exception as error:
        raise FileFormatError(
            f"Expected a tokenizer that transformers can read in {name!r}, got {first_line(error)}; get the files "
            "again, or take them away and pass tokenizer=."
        ) from error


def _is_cached(name: str) -> bool:
    """True when the repository's configuration and at least one safetensors file lie in the local cache."""
    from huggingface_hub import try_to_load_from_cache

    files = ("model.safetensors", "model.safetensors.index.json")
    return any(isinstance(try_to_load_from_cache(name, file), str) for file in files)


def _ask_hub(name: str) -> None:
    """Ask once, briefly, whether the weights can be had: downloads would retry for half a minute."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        info = HfApi().model_info(name, timeout=PATIENCE)
    except GatedRepoError as error:
        raise _no_weights(name, "the repository is gated: accept its licence and set HF_TOKEN") from error
    except RepositoryNotFoundError as error:
        raise NotFoundError(
            f"Expected a model on the Hugging Face hub, got {name!r}, which is not there (or is private: set "
            f"HF_TOKEN).{did_you_mean(name, known_names())}"
        ) from error
    except Exception as error:  # every kind of broken network
        raise _no_weights(name, f"the hub cannot be reached ({type(error).__name__})") from error
    if not any(file.rfilename.endswith(".safetensors") for file in info.siblings or ()):
        raise _no_weights(name, "it holds no safetensors, and pickled weights are never read")


def _no_weights(name: str, why: str) -> NoWeightsError:
    listed = name in set(hub_names().values())
    return NoWeightsError(
        f"Expected the weights of {name!r} in the local cache or on the hub, got neither: {why}. Give a local folder, "
        "a .gguf file or an embedded model such as 'tiny-english', or set HF_HOME to a cache that holds it."
        f"{'' if listed else did_you_mean(name, known_names())}"
    )


def first_line(error: Exception) -> str:
    """What another library complains of, short enough for one of our sentences."""
    message = str(error).strip().splitlines() or ["no message"]
    return f"{type(error).__name__}: {message[0].rstrip('.')[:200]}"
