"""The graph of a model, finding a circuit in it, running only that circuit, and judging it."""

from llmtrace.circuits.circuit import Circuit, circuit_json_schema
from llmtrace.circuits.discover import discover
from llmtrace.circuits.discovery import METHODS, eap, exact_edges
from llmtrace.circuits.evaluation import CircuitReport, evaluate, random_circuits
from llmtrace.circuits.graph import Graph
from llmtrace.circuits.running import ablated_writes, run_circuit, run_circuits
from llmtrace.circuits.scores import EdgeScores
from llmtrace.circuits.selection import SELECTIONS, select

__all__ = [
    "METHODS", "SELECTIONS", "Circuit", "CircuitReport", "EdgeScores", "Graph", "ablated_writes", "circuit_json_schema",
    "discover", "eap", "evaluate", "exact_edges", "random_circuits", "run_circuit",
    "run_circuits", "select",
]  # fmt: skip
