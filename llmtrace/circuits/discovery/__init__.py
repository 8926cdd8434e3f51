"""Which edges: scores per edge, then a selection. One method, one file, one row."""

from llmtrace.circuits.discovery.eap import eap
from llmtrace.circuits.discovery.exact import exact_edges
from llmtrace.methods import Method, Table

METHODS = Table(
    "discovery method",
    Method("eap", eap, "edge attribution patching: first-order effect of every edge at once", "Syed et al. 2023",
           "2 F + 1 W", ("corrupted", "gradient")),
    Method("exact", exact_edges, "the oracle: each edge patched in a run of its own", "Conmy et al. 2023",
           "edges F", ("corrupted",)),
)  # fmt: skip

__all__ = ["METHODS", "eap", "exact_edges"]
