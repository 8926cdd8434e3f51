"""The graph of a model, finding a circuit in it, running only that circuit, and judging it."""

from llmtrace.circuits.background import background
from llmtrace.circuits.circuit import Circuit, circuit_json_schema
from llmtrace.circuits.compare import Comparison, Overlap, average_precision, compare, roc_auc
from llmtrace.circuits.completeness import Completeness, Minimality, completeness, minimality
from llmtrace.circuits.curves import FaithfulnessCurve, faithfulness_curve
from llmtrace.circuits.definitions import (
    DEFINITIONS,
    Definition,
    definition_json_schema,
    find_definition,
    load_definition,
)
from llmtrace.circuits.details import Details
from llmtrace.circuits.discover import discover
from llmtrace.circuits.discovery import (
    METHODS,
    acdc,
    atp_star,
    clean_corrupted,
    eap,
    eap_ig,
    eap_ig_activations,
    edge_pruning,
    exact_edges,
    hisp,
    ifr,
)
from llmtrace.circuits.evaluation import CircuitReport, evaluate
from llmtrace.circuits.formats import FORMATS, export_circuit, import_circuit
from llmtrace.circuits.graph import Graph
from llmtrace.circuits.hypotheses import Hypotheses, hypothesis_tests
from llmtrace.circuits.patterns import Patterns, patterns, prompt_circuits
from llmtrace.circuits.plan import DiscoveryPlan, plan_discover
from llmtrace.circuits.random_circuits import random_circuits
from llmtrace.circuits.running import run_circuit, run_circuits
from llmtrace.circuits.scores import EdgeScores
from llmtrace.circuits.selection import SELECTIONS, select
from llmtrace.circuits.specificity import Specificity, specificity
from llmtrace.circuits.stability import jaccard_stability, stable_edges

__all__ = [
    "DEFINITIONS", "FORMATS", "METHODS", "SELECTIONS", "Circuit", "CircuitReport", "Comparison", "Completeness",
    "Definition", "Details", "DiscoveryPlan", "EdgeScores", "FaithfulnessCurve", "Graph", "Hypotheses",
    "Minimality", "Overlap", "Patterns", "Specificity", "acdc", "atp_star", "average_precision", "background",
    "circuit_json_schema", "clean_corrupted", "compare", "completeness", "definition_json_schema", "discover",
    "eap", "eap_ig", "eap_ig_activations", "edge_pruning", "evaluate", "exact_edges", "export_circuit",
    "faithfulness_curve", "find_definition", "hisp", "hypothesis_tests", "ifr", "import_circuit",
    "jaccard_stability", "load_definition", "minimality", "patterns", "plan_discover", "prompt_circuits",
    "random_circuits", "roc_auc", "run_circuit", "run_circuits", "select", "specificity", "stable_edges",
]  # fmt: skip
