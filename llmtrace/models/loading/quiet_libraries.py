"""Keep other libraries' chatter out of the way while a model is built, and give everything back afterwards.

TransformerLens prints to stdout and logs through the root logger, transformers shows progress bars. Stdout is for our
data (`--json`), so the noise is held back here, around loading, and nowhere else. Errors are never held back.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from io import StringIO

from transformers.utils import logging as transformers_logging

CHATTY = ("transformers", "huggingface_hub", "gguf")


@contextmanager
def quiet() -> Iterator[None]:
    """No prints, progress bars or log records below ERROR from the libraries that load models."""
    with ExitStack() as undo:
        undo.enter_context(redirect_stdout(StringIO()))
        root = logging.getLogger()
        # `logging.warning` on a root logger without handlers installs one for good: lend it a silent one instead
        lent = logging.NullHandler()
        root.addHandler(lent)
        undo.callback(root.removeHandler, lent)
        root.addFilter(_errors_only)
        undo.callback(root.removeFilter, _errors_only)
        for name in CHATTY:
            logger = logging.getLogger(name)
            undo.callback(logger.setLevel, logger.level)
            logger.setLevel(logging.ERROR)
        if transformers_logging.is_progress_bar_enabled():
            transformers_logging.disable_progress_bar()
            undo.callback(transformers_logging.enable_progress_bar)
        yield


def _errors_only(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR


@contextmanager
def hooked_transformer_is_welcome() -> Iterator[None]:
    """Silence the one deprecation warning of `HookedTransformer`, which 3.9 gives whenever one is built."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="HookedTransformer is deprecated", category=DeprecationWarning)
        yield
