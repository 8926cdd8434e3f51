"""LLM-Trace: which internal parts of a transformer caused this output, and how do we know?

    import llmtrace as lt

    model = lt.load("tiny-english")
    prompts = lt.prompts.ioi(model)
    effects = lt.path_patch(model, prompts)
    lt.plot(effects)

What is done every day lies here; everything else in its room and nowhere else: `lt.prompts.ioi`, `lt.influence.alti`,
`lt.circuits.acdc`. A name that is asked for in the wrong place says where it is. All of it is looked up when it is
first used: `import llmtrace` itself loads neither torch nor TransformerLens nor plotly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmtrace.errors import LLMTraceError as LLMTraceError
from llmtrace.rooms import open_room

if TYPE_CHECKING:
    from llmtrace import (
        audit as audit,
        circuits as circuits,
        console as console,
        errors as errors,
        influence as influence,
        interventions as interventions,
        metrics as metrics,
        models as models,
        nodes as nodes,
        plots as plots,
        prompts as prompts,
        signals as signals,
        validation as validation,
    )
    from llmtrace.circuits import (
        Circuit as Circuit,
        EdgeScores as EdgeScores,
        Graph as Graph,
        compare as compare,
        discover as discover,
        evaluate as evaluate,
        run_circuit as run_circuit,
    )
    from llmtrace.console import save_html as save_html, show as show
    from llmtrace.interventions import (
        Effects as Effects,
        ablate as ablate,
        causal_trace as causal_trace,
        knock_out as knock_out,
        patch as patch,
        patch_chains as patch_chains,
        patch_sweep as patch_sweep,
        path_patch as path_patch,
        steer as steer,
    )
    from llmtrace.metrics import Metric as Metric
    from llmtrace.models import TraceModel as TraceModel, describe as describe, load as load, provenance as provenance
    from llmtrace.nodes import (
        Edge as Edge,
        Embed as Embed,
        Head as Head,
        Mlp as Mlp,
        Neuron as Neuron,
        Node as Node,
        Path as Path,
        parse_node as parse_node,
    )
    from llmtrace.plan import plan as plan
    from llmtrace.plots import plot as plot
    from llmtrace.prompts import (
        Chat as Chat,
        PromptSet as PromptSet,
        Spans as Spans,
        from_jsonl as from_jsonl,
        from_messages as from_messages,
        from_pairs as from_pairs,
        from_texts as from_texts,
    )
    from llmtrace.results import load_result as load_result
    from llmtrace.signals import Trace as Trace, capture as capture, load_trace as load_trace
    from llmtrace.validation import Validation as Validation, correlate as correlate, validate as validate

__version__ = "0.1.0"

open_room(__name__)
