"""Open a .gguf file: weights dequantised to the asked dtype, and the tokenizer that the file carries."""

from __future__ import annotations

import sys
from contextlib import nullcontext, redirect_stderr
from io import StringIO
from pathlib import Path

import torch

from llmtrace.errors import FileFormatError, UnsupportedError
from llmtrace.models.loading.huggingface import Source, first_line

MAGIC = b"GGUF"


def open_gguf(path: Path, dtype: torch.dtype) -> Source:
    """Read the file with transformers' own GGUF support.

    Cost: the file is dequantised once (9 s for 135 M parameters on one core).

    Raises:
        FileFormatError: not a GGUF file, or a truncated one.
        UnsupportedError: an architecture that transformers cannot read from GGUF.
    """
    with path.open("rb") as file:
        magic = file.read(4)
    if magic != MAGIC:
        raise FileFormatError(f"Expected a GGUF file, got {path.name!r}, which starts with {magic!r}; get it again.")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    # transformers' bar is plain tqdm: where nobody watches (a log, a pipe) it would be a hundred lines of noise
    unwatched = nullcontext() if sys.stderr.isatty() else redirect_stderr(StringIO())
    where, options = str(path.parent), {"gguf_file": path.name, "local_files_only": True}
    try:
        with unwatched:
            tokenizer = AutoTokenizer.from_pretrained(where, **options)
            hf = AutoModelForCausalLM.from_pretrained(where, dtype=dtype, attn_implementation="eager", **options)
    except ImportError:
        raise
    except Exception as error:  # gguf and numpy raise a dozen kinds for a damaged file
        if "architecture" in str(error) and "not supported" in str(error):
            raise UnsupportedError(
                f"Expected a GGUF file of an architecture that transformers reads, got {first_line(error)}."
            ) from error
        raise FileFormatError(
            f"Expected a whole GGUF file, got {path.name!r}, which cannot be read ({first_line(error)}); "
            "it may be truncated: get it again."
        ) from error
    # the weights are plain tensors now; a config that still says "quantised" would make others refuse them
    if hasattr(hf.config, "quantization_config"):
        del hf.config.quantization_config
    return Source(path.name, hf, tokenizer)
