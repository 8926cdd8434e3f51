"""The tables of interventions, and of what may take the place of an activation."""

from __future__ import annotations

from dataclasses import replace

from llmtrace.methods import Method, Option, Table

# `where(prompts, over, reference, value)` gives a `New` of engine/changes.py: what stands there instead.
ABLATIONS = Table(
    "ablation",
    Method("zero", "llmtrace.interventions.ablation:zero", "nothing"),
    Method("mean", "llmtrace.interventions.ablation:mean", "its mean over prompts", "Wang et al. 2022",
           needs=("reference",)),
    Method("resample", "llmtrace.interventions.ablation:resample", "what it is on the corrupted prompt",
           "Chan et al. 2022", needs=("corrupted",)),
    Method("value", "llmtrace.interventions.ablation:given", "a vector of yours", needs=("value",)),
)  # fmt: skip


def without_a_vector() -> tuple[str, ...]:
    """Those rows of `ABLATIONS`, a user's own among them, that serve nodes of any width."""
    return tuple(name for name, row in ABLATIONS.items() if "value" not in row.needs)


DIRECTION = Option("direction", "word", "clean values into the corrupted run, or the other way round",
                   one_of=("denoising", "noising"))  # fmt: skip
CONVENTION = Option("convention", "word", "what is held between sender and receiver", "heads_frozen")
POSITIONS = Option("positions", "places", "only there, such as S2,END,-1", "everywhere")
METRIC = Option("metric", "word", "what is measured", "the prompts' own")
MEMORY = Option("memory", "size", "what may be used beside the weights, such as 2GB", "auto")
RESUME = Option("resume", "file", "partial results: taken up where they are, kept when a run is stopped", "nothing")
LAYERS = Option("layers", "layers", "such as 0,4-7", "all")
WINDOW = Option("window", "whole", "layers that are cut together", "1", least=1)
TOGETHER = Option("together", "flag", "all at once instead of one at a time", "no_together")
RUN = (METRIC, MEMORY, RESUME)

OF_LAYER = ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out")
OF_HEAD = ("z", "q", "pattern", "scores")
OF_KV_HEAD = ("k", "v")
OF_NEURON = ("mlp_pre", "mlp_post")
KINDS = (*OF_LAYER, *OF_HEAD, *OF_KV_HEAD, *OF_NEURON)
SPLITS = ("position", "head", "head and position", "layer", "query and key")
WHAT = Option("what", "word", "kinds of activations", one_of=KINDS)
SENDERS = Option("senders", "nodes", "such as 9.6,m3,input", "every head")
RECEIVERS = Option("receivers", "word", "ports such as a9.h9<q> or m3, all together", "logits")
OVER = Option("over", "word", "what a mean is taken over", "group", one_of=("group", "position", "global"))
REFERENCE = Option("reference", "word", "the prompts of the mean", "corrupted", one_of=("clean", "corrupted"))

METHODS = Table(
    "intervention",
    Method("patch", "llmtrace.interventions.patching:patch", "chosen activations of one run copied into the other",
           "Meng et al. 2022", "2 F, and each its layers and positions", ("corrupted",), gives="effects",
           options=(replace(DIRECTION, default="denoising"), *RUN)),
    Method("patch_sweep", "llmtrace.interventions.patching:patch_sweep",
           "every activation of a kind copied, one by one", "Zhang and Nanda 2024", "2 F, and about places / 2 F",
           ("corrupted",), gives="effects",
           options=(replace(WHAT, default="resid_pre"), LAYERS, POSITIONS,
                    Option("by", "word", "one patch for each of these", "position or head", one_of=SPLITS),
                    replace(DIRECTION, default="denoising"), *RUN)),
    Method("path_patch", "llmtrace.interventions.path_patching:path_patch",
           "what a sender tells chosen receivers, from the other run", "Wang et al. 2022",
           "2 F; to the logits no more than MLPs at one position", ("corrupted",), gives="effects",
           options=(SENDERS, RECEIVERS, replace(CONVENTION, one_of=("heads_frozen", "all_frozen", "edges")), POSITIONS,
                    replace(DIRECTION, default="noising"), *RUN)),
    Method("patch_chains", "llmtrace.interventions.path_patching:patch_chains", "paths of several hops, ports named",
           "Goldowsky-Dill et al. 2023", "2 F, and a layer for each hop", ("corrupted",), gives="effects",
           options=(replace(CONVENTION, one_of=("heads_frozen", "all_frozen")), POSITIONS,
                    replace(DIRECTION, default="noising"), *RUN)),
    Method("ablate", "llmtrace.interventions.ablation:ablate", "the metric without a node", "Wang et al. 2022",
           "about nodes / 2 F", ("corrupted",), gives="effects",
           options=(Option("ablation", "word", "what takes the node's place", "mean", one_of=(*ABLATIONS,)), OVER,
                    REFERENCE, POSITIONS, TOGETHER, *RUN)),
    Method("knock_out", "llmtrace.interventions.knockout:knock_out",
           "positions that others no longer see, by window of layers", "Geva et al. 2023", "about layers / 2 F",
           gives="effects",
           options=(WINDOW, LAYERS, Option("heads", "nodes", "such as 9.6,9.9", "all"), *RUN)),
    Method("zero_values", "llmtrace.interventions.knockout:zero_values",
           "positions whose values are 0, by window of layers", "Mohebbi et al. 2023", "about layers / 2 F",
           gives="effects",
           options=(WINDOW, LAYERS, *RUN)),
    Method("project_out", "llmtrace.interventions.directions:project_out",
           "the residual stream without a direction or subspace", "Arditi et al. 2024", "about layers / 2 F",
           gives="effects",
           options=(replace(WHAT, default="resid_post", one_of=OF_LAYER), LAYERS, POSITIONS, TOGETHER, *RUN)),
    Method("causal_trace", "llmtrace.interventions.causal_tracing:causal_trace",
           "one clean activation in a run whose subject is noise", "Meng et al. 2022",
           "about draws x layers x positions / 4 F", gives="effects",
           options=(replace(WHAT, default="resid_post", one_of=OF_LAYER), WINDOW, POSITIONS,
                    Option("noise", "number", "in standard deviations of the embeddings", "3.0"),
                    Option("draws", "whole", "of noise, averaged", "10", least=1),
                    replace(METRIC, default="probability"), MEMORY, RESUME)),
    Method("steer", "llmtrace.interventions.steering:steer", "a vector added at a place", "Turner et al. 2023",
           "about places / 2 F", gives="effects",
           options=(Option("coefficient", "number", "of the vector", "1.0"), POSITIONS, *RUN)),
)  # fmt: skip
