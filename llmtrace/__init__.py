"""LLM-Trace: which internal parts of a transformer caused this output, and how do we know?

    import llmtrace as lt

    model = lt.load("tiny-english")
    prompts = lt.ioi(model)
    effects = lt.path_patch(model, prompts)
    lt.plot(effects)

Everything below is looked up when it is first used: `import llmtrace` itself loads neither torch nor TransformerLens
nor plotly. The rooms (`lt.models`, `lt.prompts`, `lt.metrics`, ...) are reached the same way.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from llmtrace.errors import LLMTraceError, did_you_mean

if TYPE_CHECKING:  # the same names once more, for type checkers and editors; tests/test_package.py compares the two
    from llmtrace import (
        circuits as circuits,
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
        CircuitReport as CircuitReport,
        Definition as Definition,
        EdgeScores as EdgeScores,
        Graph as Graph,
        acdc as acdc,
        background as background,
        compare as compare,
        discover as discover,
        eap_ig as eap_ig,
        evaluate as evaluate,
        export_circuit as export_circuit,
        import_circuit as import_circuit,
        load_definition as load_definition,
        run_circuit as run_circuit,
    )
    from llmtrace.influence import (
        Composition as Composition,
        FlowGraph as FlowGraph,
        GenerationInfluence as GenerationInfluence,
        HeadTable as HeadTable,
        LensScores as LensScores,
        NeuronReading as NeuronReading,
        NeuronStatistics as NeuronStatistics,
        NodeScores as NodeScores,
        SourceScores as SourceScores,
        SpanInfluence as SpanInfluence,
        StreamScores as StreamScores,
        TokenInfluence as TokenInfluence,
        TokenLens as TokenLens,
        alti as alti,
        alti_logit as alti_logit,
        attention_flow as attention_flow,
        composition as composition,
        copying_scores as copying_scores,
        decompx as decompx,
        direct_logit_attribution as direct_logit_attribution,
        flow_graph as flow_graph,
        flow_routes as flow_routes,
        generation as generation,
        head_behaviour as head_behaviour,
        head_scores as head_scores,
        input_x_gradient as input_x_gradient,
        integrated_gradients as integrated_gradients,
        logit_lens as logit_lens,
        name_movers as name_movers,
        neuron_attribution as neuron_attribution,
        neuron_statistics as neuron_statistics,
        occlusion as occlusion,
        ov_circuit as ov_circuit,
        qk_circuit as qk_circuit,
        raw_attention as raw_attention,
        read_neurons as read_neurons,
        residual_stream as residual_stream,
        rollout as rollout,
        source_token_attribution as source_token_attribution,
        token_attribution as token_attribution,
        token_lens as token_lens,
        value_weighted_norms as value_weighted_norms,
    )
    from llmtrace.interventions import (
        Effects as Effects,
        ablate as ablate,
        causal_trace as causal_trace,
        knock_out as knock_out,
        patch as patch,
        patch_paths as patch_paths,
        patch_sweep as patch_sweep,
        path_patch as path_patch,
        project_out as project_out,
        steer as steer,
        zero_values as zero_values,
    )
    from llmtrace.metrics import Metric as Metric
    from llmtrace.models import TraceModel as TraceModel, describe as describe, load as load, provenance as provenance
    from llmtrace.nodes import (
        Edge as Edge,
        Embed as Embed,
        Head as Head,
        KvHead as KvHead,
        Logits as Logits,
        Mlp as Mlp,
        Neuron as Neuron,
        Node as Node,
        Path as Path,
        Port as Port,
        Site as Site,
        parse_edge as parse_edge,
        parse_node as parse_node,
        parse_path as parse_path,
        parse_place as parse_place,
        parse_port as parse_port,
    )
    from llmtrace.plots import plot as plot
    from llmtrace.prompts import (
        Chat as Chat,
        PromptSet as PromptSet,
        Spans as Spans,
        chat as chat,
        from_jsonl as from_jsonl,
        from_pairs as from_pairs,
        from_texts as from_texts,
        greater_than as greater_than,
        induction as induction,
        ioi as ioi,
    )
    from llmtrace.signals import Trace as Trace, capture as capture, load_trace as load_trace
    from llmtrace.validation import CausalCheck as CausalCheck, Validation as Validation, validate as validate

__version__ = "0.1.0"

_ROOMS: dict[str, tuple[str, ...]] = {
    "errors": (),
    "nodes": (
        "Edge", "Embed", "Head", "KvHead", "Logits", "Mlp", "Neuron", "Node", "Path", "Port",
        "Site", "parse_edge", "parse_node", "parse_path", "parse_place", "parse_port",
    ),
    "models": ("TraceModel", "describe", "load", "provenance"),
    "metrics": ("Metric",),
    "prompts": (
        "Chat", "PromptSet", "Spans", "chat", "from_jsonl", "from_pairs", "from_texts", "greater_than", "induction",
        "ioi",
    ),
    "signals": ("Trace", "capture", "load_trace"),
    "influence": (
        "Composition", "FlowGraph", "GenerationInfluence", "HeadTable", "LensScores", "NeuronReading",
        "NeuronStatistics", "NodeScores", "SourceScores", "SpanInfluence", "StreamScores", "TokenInfluence",
        "TokenLens", "alti", "alti_logit", "attention_flow", "composition", "copying_scores", "decompx",
        "direct_logit_attribution", "flow_graph", "flow_routes", "generation", "head_behaviour", "head_scores",
        "input_x_gradient", "integrated_gradients", "logit_lens", "name_movers", "neuron_attribution",
        "neuron_statistics", "occlusion", "ov_circuit", "qk_circuit", "raw_attention", "read_neurons",
        "residual_stream", "rollout", "source_token_attribution", "token_attribution", "token_lens",
        "value_weighted_norms",
    ),
    "interventions": (
        "Effects", "ablate", "causal_trace", "knock_out", "patch", "patch_paths", "patch_sweep", "path_patch",
        "project_out", "steer", "zero_values",
    ),
    "circuits": (
        "Circuit", "CircuitReport", "Definition", "EdgeScores", "Graph", "acdc", "background", "compare", "discover",
        "eap_ig", "evaluate", "export_circuit", "import_circuit", "load_definition", "run_circuit",
    ),
    "validation": ("CausalCheck", "Validation", "validate"),
    "plots": ("plot",),
}  # fmt: skip
_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names}

__all__ = ["LLMTraceError", "__version__", *_ROOM_OF]


if not TYPE_CHECKING:  # a type checker that saw it would believe in any name

    def __getattr__(name: str) -> object:
        if name in _ROOMS:
            return import_module(f"llmtrace.{name}")
        if name not in _ROOM_OF:
            raise AttributeError(f"llmtrace has no {name!r}.{did_you_mean(name, [*__all__, *_ROOMS])}")
        value = getattr(import_module(f"llmtrace.{_ROOM_OF[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_ROOMS})
