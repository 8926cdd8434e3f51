"""Getting and reading activations: `capture` runs the model and keeps what was asked for, readers name the axes."""

from llmtrace.signals.capture import capture
from llmtrace.signals.files import trace_json_schema
from llmtrace.signals.readers import (
    attention_pattern,
    attention_scores,
    head_result,
    keys,
    mlp_post,
    mlp_pre,
    queries,
    resid_mid,
    resid_post,
    resid_pre,
    values,
    z,
)
from llmtrace.signals.sites import SITES
from llmtrace.signals.trace import Trace, load_trace
from llmtrace.signals.writes import Writes, node_writes

__all__ = [
    "SITES", "Trace", "Writes", "attention_pattern", "attention_scores", "capture", "head_result", "keys",
    "load_trace", "mlp_post", "mlp_pre", "node_writes", "queries", "resid_mid", "resid_post", "resid_pre",
    "trace_json_schema", "values", "z",
]  # fmt: skip
