"""The graph of a model, finding a circuit in it, running only that circuit, and judging it."""

from typing import TYPE_CHECKING, Any

from llmtrace.circuits.rows import METHODS as METHODS
from llmtrace.rooms import open_room

if TYPE_CHECKING:
    from llmtrace.circuits.circuit import Circuit as Circuit, circuit_json_schema as circuit_json_schema
    from llmtrace.circuits.definitions.definition import Definition as Definition
    from llmtrace.circuits.definitions.load_definition import (
        definition_json_schema as definition_json_schema,
        load_definition as load_definition,
    )
    from llmtrace.circuits.discover import DiscoveryPlan as DiscoveryPlan, discover as discover
    from llmtrace.circuits.discovery.acdc import acdc as acdc
    from llmtrace.circuits.discovery.atp_star import atp_star as atp_star
    from llmtrace.circuits.discovery.clean_corrupted import clean_corrupted as clean_corrupted
    from llmtrace.circuits.discovery.eap import eap as eap
    from llmtrace.circuits.discovery.eap_ig import eap_ig as eap_ig
    from llmtrace.circuits.discovery.eap_ig_activations import eap_ig_activations as eap_ig_activations
    from llmtrace.circuits.discovery.edge_pruning import edge_pruning as edge_pruning
    from llmtrace.circuits.discovery.exact import exact as exact
    from llmtrace.circuits.discovery.hisp import hisp as hisp
    from llmtrace.circuits.discovery.ifr import ifr as ifr
    from llmtrace.circuits.edge_scores import EdgeScores as EdgeScores
    from llmtrace.circuits.evaluation.compare import (
        Comparison as Comparison,
        Overlap as Overlap,
        average_precision as average_precision,
        compare as compare,
        roc_auc as roc_auc,
    )
    from llmtrace.circuits.evaluation.completeness import (
        Completeness as Completeness,
        Minimality as Minimality,
        completeness as completeness,
        minimality as minimality,
    )
    from llmtrace.circuits.evaluation.evaluate import CircuitReport as CircuitReport, evaluate as evaluate
    from llmtrace.circuits.evaluation.faithfulness_curve import (
        FaithfulnessCurve as FaithfulnessCurve,
        faithfulness_curve as faithfulness_curve,
    )
    from llmtrace.circuits.evaluation.hypotheses import Hypotheses as Hypotheses, hypothesis_tests as hypothesis_tests
    from llmtrace.circuits.evaluation.patterns import (
        Patterns as Patterns,
        patterns as patterns,
        prompt_circuits as prompt_circuits,
    )
    from llmtrace.circuits.evaluation.random_circuits import random_circuits as random_circuits
    from llmtrace.circuits.evaluation.specificity import Specificity as Specificity, specificity as specificity
    from llmtrace.circuits.evaluation.stability import (
        jaccard_stability as jaccard_stability,
        stable_edges as stable_edges,
    )
    from llmtrace.circuits.evaluation.thorough import Details as Details
    from llmtrace.circuits.exchange import export_circuit as export_circuit, import_circuit as import_circuit
    from llmtrace.circuits.formats.format import Format as Format
    from llmtrace.circuits.graph import Graph as Graph
    from llmtrace.circuits.rows import (
        DEFINITIONS as DEFINITIONS,
        FORMATS as FORMATS,
        SELECTIONS as SELECTIONS,
        Discovery as Discovery,
    )
    from llmtrace.circuits.running.empty_circuit import background as background
    from llmtrace.circuits.running.run_circuit import run_circuit as run_circuit, run_circuits as run_circuits
    from llmtrace.circuits.selection.select import select as select

    def __getattr__(name: str) -> Any: ...  # a row that was added later


register = METHODS.register
open_room(__name__, METHODS)
