"""Getting and reading activations: `capture` runs the model and keeps what was asked for, readers name the axes."""

from typing import TYPE_CHECKING

from llmtrace.rooms import open_room

if TYPE_CHECKING:
    from llmtrace.models.hook_names import SITES as SITES
    from llmtrace.signals.capture import capture as capture
    from llmtrace.signals.node_writes import Writes as Writes, node_writes as node_writes
    from llmtrace.signals.readers import (
        attention_pattern as attention_pattern,
        attention_scores as attention_scores,
        head_result as head_result,
        keys as keys,
        mlp_post as mlp_post,
        mlp_pre as mlp_pre,
        queries as queries,
        resid_mid as resid_mid,
        resid_post as resid_post,
        resid_pre as resid_pre,
        values as values,
        z as z,
    )
    from llmtrace.signals.trace import Trace as Trace, load_trace as load_trace
    from llmtrace.signals.trace_files import trace_json_schema as trace_json_schema

open_room(__name__)
