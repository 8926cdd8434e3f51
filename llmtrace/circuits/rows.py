"""The tables of circuits: methods that score edges, selections among them, file formats, and shipped definitions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmtrace.circuits.formats.format import Format
from llmtrace.interventions.rows import without_a_vector
from llmtrace.methods import Method, Option, Table, found_at

if TYPE_CHECKING:
    from llmtrace.circuits.graph import Graph


@dataclass(frozen=True)
class Passes:
    """Forward and backward passes over all prompts (at most so many, where the run decides), and how many points of a
    path ride in one batch with each prompt, beside how many buffers of all nodes' writes."""

    forward: int
    backward: int
    points: int = 1
    buffers: int = 1
    at_most: bool = False


@dataclass(frozen=True)
class Discovery(Method):
    """A method that scores edges.

    passes      of a graph and the method's options, for plans; None: unknown
    estimates   whether a score is the (estimated) change of the metric when the edge is patched
    """

    _: KW_ONLY
    passes: Callable[[Graph, Mapping[str, Any]], Passes] | None = None
    estimates: bool = True


@dataclass(frozen=True)
class Shipped(Method):
    """A definition that comes with the package: `where` is its file beside `definitions/load_definition.py`."""

    @property
    def function(self) -> Callable[..., Any]:
        read = found_at("llmtrace.circuits.definitions.load_definition:load_definition")
        return partial(read, Path(__file__).parent / "definitions" / str(self.where))


def _by_group(graph: Graph, options: Mapping[str, Any]) -> Passes:
    groups = 1 + graph.n_layers * (1 if graph.attn_only else 2)
    return Passes(4 + options["steps"] * groups, options["steps"] * groups, options["steps"])


METRIC = Option("metric", "word", "what is measured", "the prompts' own")
RULE = Option("rule", "word", "how gradients pass what is not linear", "standard", one_of=("standard", "relp", "gim"))
STEPS = Option("steps", "whole", "points of the path", "5")
ABLATION = Option("ablation", "word", "what removed edges carry", "resample", one_of=without_a_vector())
MEMORY = Option("memory", "size", "what may be used beside the weights, such as 2GB", "auto")
RESUME = Option("resume", "file", "partial results: taken up where they are, kept when a run is stopped", "nothing")

METHODS = Table(
    "discovery method",
    Discovery("eap", "llmtrace.circuits.discovery.eap:eap",
              "edge attribution patching: first-order effect of every edge at once", "Syed et al. 2023", "2 F + 1 W",
              ("corrupted", "gradient"), gives="edges",
              passes=lambda graph, options: Passes(1 if options["ablation"] == "zero" else 2, 1),
              options=(METRIC, RULE, ABLATION, MEMORY, Option("direction", "word", "which run is patched", "noising",
                                                              one_of=("denoising", "noising")))),
    Discovery("eap_mean", "llmtrace.circuits.discovery.eap_mean:eap_mean",
              "EAP with the mean of the clean prompts in the place of the corrupted run", "Syed et al. 2023",
              "2 F + 1 W", ("gradient",), gives="edges", passes=lambda graph, options: Passes(2, 1),
              options=(METRIC, MEMORY, Option("over", "word", "prompts that a mean is taken over", "group",
                                             one_of=("group", "position", "global")))),
    Discovery("eap_ig", "llmtrace.circuits.discovery.eap_ig:eap_ig",
              "EAP, its gradient averaged over a path of embeddings", "Hanna et al. 2024", "2 F + K (F + W)",
              ("corrupted", "gradient"), gives="edges",
              passes=lambda graph, options: Passes(
                  (1 if options["ablation"] == "zero" else 2) + options["steps"], options["steps"], options["steps"]),
              options=(METRIC, RULE, STEPS, ABLATION, MEMORY)),
    Discovery("clean_corrupted", "llmtrace.circuits.discovery.clean_corrupted:clean_corrupted",
              "EAP, its gradient averaged over the two ends", "Hanna et al. 2024", "2 F + 2 W",
              ("corrupted", "gradient"), gives="edges", passes=lambda graph, options: Passes(2, 2, 2),
              options=(METRIC, RULE, MEMORY)),
    Discovery("eap_ig_activations", "llmtrace.circuits.discovery.eap_ig_activations:eap_ig_activations",
              "EAP, each layer's writes on a path of their own", "Hanna et al. 2024", "2 F + K (2L + 1) (F + W)",
              ("corrupted", "gradient"), gives="edges", passes=_by_group,
              options=(METRIC, RULE, STEPS, MEMORY)),
    Discovery("atp_star", "llmtrace.circuits.discovery.atp_star:atp_star",
              "EAP that goes through the softmax of attention exactly", "Kramar et al. 2024", "2 F + 1 W (+ L W)",
              ("corrupted", "gradient"), gives="edges",
              passes=lambda graph, options: Passes(2, 1 + (graph.n_layers if options["grad_drop"] else 0), buffers=5),
              options=(METRIC, MEMORY, Option("qk_fix", "flag", "queries and keys by the pattern they make", "qk_fix"),
                       Option("grad_drop", "flag", "also without the gradient through each layer", "no_grad_drop"))),
    Discovery("ifr", "llmtrace.circuits.discovery.ifr:ifr",
              "information flow routes: the writer's share in what the port reads", "Ferrando & Voita 2024", "1 F",
              gives="edges", estimates=False, passes=lambda graph, options: Passes(1, 0, points=0, buffers=3),
              options=(METRIC, MEMORY)),
    Discovery("hisp", "llmtrace.circuits.discovery.hisp:hisp",
              "head importance scores, an edge as important as the lower of its ends", "Michel et al. 2019",
              "1 F + 1 W", ("gradient",), gives="edges", estimates=False,
              passes=lambda graph, options: Passes(1, 1),
              options=(METRIC, MEMORY)),
    Discovery("acdc", "llmtrace.circuits.discovery.acdc:acdc",
              "edges removed one after the other while the metric moves by less than tau", "Conmy et al. 2023",
              "a part of F per edge tried", ("corrupted",), gives="edges",
              passes=lambda graph, options: Passes(3 + graph.n_edges, 0, points=0, buffers=4, at_most=True),
              options=(Option("tau", "number", "edges that move the metric by X or more are the circuit"),
                       METRIC, ABLATION, MEMORY, RESUME)),
    Discovery("edge_pruning", "llmtrace.circuits.discovery.edge_pruning:edge_pruning",
              "a gate on every edge, learned until n edges are open", "Bhaskar et al. 2024", "steps (F + W)",
              ("corrupted", "gradient"), gives="edges", estimates=False,
              passes=lambda graph, options: Passes(2 + options["steps"], options["steps"]),
              options=(METRIC, ABLATION, Option("steps", "whole", "updates of the gates", "200"),
                       Option("learning_rate", "number", "of the updates", "0.2"), RESUME)),
    Discovery("exact", "llmtrace.circuits.discovery.exact:exact",
              "the oracle: each edge patched in a run of its own", "Conmy et al. 2023", "edges F", ("corrupted",),
              gives="edges", passes=lambda graph, options: Passes(2 + graph.n_edges, 0, points=0, buffers=4),
              options=(METRIC, ABLATION, MEMORY,
                       Option("max_edges", "whole", "more edges than this are refused", "5000"))),
    of=Discovery, gives=("edges",),
)  # fmt: skip

# Functions of (graph, scores turned so that positive supports the answer, n or threshold).
SELECTIONS = Table(
    "selection",
    Method("top", "llmtrace.circuits.selection.select:top_edges", "largest |score|", "Syed et al. 2023"),
    Method("greedy", "llmtrace.circuits.selection.select:greedy_edges",
           "largest |score| into what is already in, from the logits", "Hanna et al. 2024"),
    Method("threshold", "llmtrace.circuits.selection.select:threshold_edges", "|score| of the threshold or more",
           "Conmy et al. 2023", needs=("threshold",)),
    Method("pnr", "llmtrace.circuits.selection.select:pnr_edges",
           "a share of what supports the answer, the rest by |score|", "Nikankin et al. 2025",
           options=(Option("pnr", "number", "so many for supporting", "0.5"),)),
    Method("integer", "llmtrace.circuits.selection.integer_programme:integer_edges",
           "the largest sum of |score| without dead ends", "Nikankin et al. 2025"),
)  # fmt: skip

D_MODEL = Option("d_model", "whole", "the model's width, which these files have a place for", "unknown")
MEMBERSHIP = Option("membership", "flag", "nine circuits instead of importances", "no_membership")
KV_HEADS = Option("n_kv_heads", "whole", "key-value heads in a layer, where the file is silent", "as the file has it")
PERCENT = Option("percent", "number", "which of MIB's nine circuits is meant", "none")

FORMATS = Table(
    "circuit format",
    Format("llmtrace", "llmtrace.circuits.formats.circuit_json:write",
           "circuit.json (llmtrace.circuit), what every command takes",
           read="llmtrace.circuits.formats.circuit_json:read", alone=False, holds=("spans", "neurons")),
    Format("eap_ig", "llmtrace.circuits.formats.eap_ig_json:write",
           "EAP-IG's graph as JSON: every edge with score and membership", "Hanna et al. 2024",
           read="llmtrace.circuits.formats.eap_ig_json:read", alone=False, marks=("cfg", "edges"), holds=(),
           options=(D_MODEL,), reads=(KV_HEADS,)),
    Format("eap_ig_pt", "llmtrace.circuits.formats.eap_ig_tensors:write", "EAP-IG's graph as tensors, for large models",
           "Hanna et al. 2024", read="llmtrace.circuits.formats.eap_ig_tensors:read", suffix=".pt", holds=(),
           options=(D_MODEL,), reads=(KV_HEADS,)),
    Format("mib", "llmtrace.circuits.formats.mib:write",
           "MIB submission folder task_model: importances, or nine circuits, as JSON", "Mueller et al. 2025",
           read="llmtrace.circuits.formats.mib:read", suffix="", holds=(),
           options=(MEMBERSHIP, D_MODEL), reads=(KV_HEADS, PERCENT)),
    Format("mib_pt", "llmtrace.circuits.formats.mib:write_tensors",
           "MIB submission folder task_model: importances, or nine circuits, as tensors", "Mueller et al. 2025",
           read="llmtrace.circuits.formats.mib:read", suffix="", alone=False, holds=(),
           options=(MEMBERSHIP, D_MODEL), reads=(KV_HEADS, PERCENT)),
    Format("neuronpedia", "llmtrace.circuits.formats.neuronpedia:write",
           "an attribution graph for Neuronpedia and circuit-tracer: the circuit's edges", "Ameisen et al. 2025",
           read="llmtrace.circuits.formats.neuronpedia:read", alone=False, marks=("metadata", "qParams", "links")),
    Format("graphml", "llmtrace.circuits.formats.graphml:write",
           "GraphML: the circuit's edges, for graph programs", read="llmtrace.circuits.formats.graphml:read",
           suffix=".graphml"),
    Format("dot", "llmtrace.circuits.formats.dot:write", "Graphviz text, to draw with dot (written only)",
           suffix=".dot"),
    Format("mermaid", "llmtrace.circuits.formats.mermaid:write",
           "a flow chart for Markdown pages, up to 500 arrows (written only)", suffix=".mmd"),
    of=Format,
)  # fmt: skip

# Circuits that people wrote down: one YAML file in `definitions/` and one row each. `load_definition("ioi")`.
DEFINITIONS = Table(
    "definition",
    Shipped("ioi", "ioi.yaml", "GPT-2 small: who gets the drink, 26 heads in seven roles", "Wang et al. 2022"),
    Shipped("greater_than", "greater_than.yaml",
            "GPT-2 small: a later year, heads that read it and MLPs that compare", "Hanna et al. 2023"),
    Shipped("docstring", "docstring.yaml", "attn-only-4l: the next argument in a docstring",
            "Heimersheim and Janiak 2023"),
    Shipped("induction", "induction.yaml", "the hand-built two-layer model: previous token, then induction",
            "Olsson et al. 2022"),
    of=Shipped,
)  # fmt: skip
