"""Which edges: scores per edge, then a selection. One method, one file, one row."""

from llmtrace.circuits.discovery.acdc import acdc
from llmtrace.circuits.discovery.atp_star import atp_star
from llmtrace.circuits.discovery.clean_corrupted import clean_corrupted
from llmtrace.circuits.discovery.eap import eap
from llmtrace.circuits.discovery.eap_ig import eap_ig
from llmtrace.circuits.discovery.eap_ig_activations import eap_ig_activations
from llmtrace.circuits.discovery.edge_pruning import edge_pruning
from llmtrace.circuits.discovery.exact import exact_edges
from llmtrace.circuits.discovery.hisp import hisp
from llmtrace.circuits.discovery.ifr import ifr
from llmtrace.methods import Method, Table

METHODS = Table(
    "discovery method",
    Method("eap", eap, "edge attribution patching: first-order effect of every edge at once", "Syed et al. 2023",
           "2 F + 1 W", ("corrupted", "gradient")),
    Method("eap-ig", eap_ig, "EAP, its gradient averaged over a path of embeddings", "Hanna et al. 2024",
           "2 F + K (F + W)", ("corrupted", "gradient")),
    Method("clean-corrupted", clean_corrupted, "EAP, its gradient averaged over the two ends", "Hanna et al. 2024",
           "2 F + 2 W", ("corrupted", "gradient")),
    Method("eap-ig-activations", eap_ig_activations, "EAP, each layer's writes on a path of their own",
           "Hanna et al. 2024", "2 F + K (2L + 1) (F + W)", ("corrupted", "gradient")),
    Method("atp-star", atp_star, "EAP that goes through the softmax of attention exactly", "Kramar et al. 2024",
           "2 F + 1 W (+ L W)", ("corrupted", "gradient")),
    Method("ifr", ifr, "information flow routes: the writer's share in what the port reads", "Ferrando & Voita 2024",
           "1 F"),
    Method("hisp", hisp, "head importance scores, an edge as important as the lower of its ends", "Michel et al. 2019",
           "1 F + 1 W", ("gradient",)),
    Method("acdc", acdc, "edges removed one after the other while the metric moves by less than tau",
           "Conmy et al. 2023", "a part of F per edge tried", ("corrupted",)),
    Method("edge-pruning", edge_pruning, "a gate on every edge, learned until n edges are open", "Bhaskar et al. 2024",
           "steps (F + W)", ("corrupted", "gradient")),
    Method("exact", exact_edges, "the oracle: each edge patched in a run of its own", "Conmy et al. 2023",
           "edges F", ("corrupted",)),
)  # fmt: skip

__all__ = [
    "METHODS", "acdc", "atp_star", "clean_corrupted", "eap", "eap_ig", "eap_ig_activations", "edge_pruning",
    "exact_edges", "hisp", "ifr",
]  # fmt: skip
