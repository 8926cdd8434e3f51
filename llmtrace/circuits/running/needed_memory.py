"""What scoring edges and running circuits takes beside the weights, and so how many prompts fit at once.

    writes     nodes x d_model for each token: a buffer of what every node writes (a difference takes no second one)
    pass       what autograd keeps of a token, gradients included, for each layer (`models/memory.py: numbers_kept`)
    wave       the streams of one layer's ports, its norms and what its nodes write: a few times ports x d_model
    scores     nodes x ports, for every prompt of the result and three times for those of a batch

`memory` is kept within 15 %, and 64 MB for what libraries hold anyway. What cannot be kept is refused beforehand.
"""

from __future__ import annotations

import math

from llmtrace.circuits.graph import Graph
from llmtrace.interventions import Memory, budget
from llmtrace.models import TraceModel, describe
from llmtrace.models.memory import at_once, numbers_kept
from llmtrace.prompts import PromptSet

TOKENS_TO_SCORE = 128  # in one batch: more prompts are not faster on a CPU
TOKENS_TO_RUN = 256
WAVE = 4  # of the streams of a layer's ports: as they are, normed, projected and written
HEAP = 6  # more of them: what a C library's heap keeps of one layer's pieces while the next is run, as measured


def bytes_of_writes(model: TraceModel, graph: Graph, prompts: PromptSet, buffers: int) -> int:
    """One prompt's, `buffers` times over."""
    return buffers * len(graph.nodes) * prompts.clean.shape[1] * model.cfg.d_model * model.W_E.element_size()


def bytes_to_score(
    model: TraceModel, graph: Graph, prompts: PromptSet, *, buffers: int, points: int
) -> tuple[int, int]:
    """(one prompt's, the whole result's); `points` runs of a prompt keep what their backward pass needs."""
    arch, width, itemsize = describe(model), prompts.clean.shape[1], model.W_E.element_size()
    layer = numbers_kept(arch, width)
    wave = max(points, 1) * WAVE * _ports_of_layer(graph) * arch.d_model
    scores = itemsize * len(graph.nodes) * len(graph.ports)
    each = bytes_of_writes(model, graph, prompts, buffers) + 3 * scores
    return each + width * itemsize * (points * arch.n_layers * layer + wave), scores * len(prompts)


def scored_at_once(
    model: TraceModel,
    graph: Graph,
    prompts: PromptSet,
    memory: Memory,
    *,
    buffers: int = 1,
    points: int = 1,
    held: int = 0,
) -> int:
    """How many prompts are scored in one batch; `held` bytes are taken by other things.

    Raises LimitError when not even one fits."""
    each, result = bytes_to_score(model, graph, prompts, buffers=buffers, points=points)
    room = budget(memory, model.W_E.device) - result - held
    fit = at_once(room, each, len(prompts), "the scores of one prompt", asked=memory)
    return _even(min(fit, _enough(model, prompts, memory, TOKENS_TO_SCORE)), len(prompts))


def bytes_to_run(model: TraceModel, graph: Graph, prompts: PromptSet, *, buffers: int) -> tuple[int, int]:
    """(what removed edges carry in `buffers` of all writes, what one circuit takes), of one prompt."""
    arch, width, itemsize = describe(model), prompts.clean.shape[1], model.W_E.element_size()
    streams = 2 * arch.n_layers * arch.d_model
    wave = (WAVE + HEAP) * _ports_of_layer(graph) * arch.d_model + 4 * arch.d_mlp
    ground = bytes_of_writes(model, graph, prompts, buffers) + (width * itemsize * streams if buffers else 0)
    return ground, bytes_of_writes(model, graph, prompts, 1) + width * itemsize * wave


def run_at_once(
    model: TraceModel, graph: Graph, prompts: PromptSet, memory: Memory, *, buffers: int, held: int = 0
) -> tuple[int, int]:
    """How many prompts, and how many circuits on them, run in one batch; `held` bytes are taken by other things.

    Raises LimitError when not even one circuit on one prompt fits."""
    ground, each = bytes_to_run(model, graph, prompts, buffers=buffers)
    room = budget(memory, model.W_E.device) - held
    fit = at_once(room, ground + each, len(prompts), "one circuit on one prompt", asked=memory)
    fit = _even(min(fit, _enough(model, prompts, memory, TOKENS_TO_RUN)), len(prompts))
    circuits = min((room - fit * ground) // (fit * each), TOKENS_TO_RUN // (fit * prompts.clean.shape[1]))
    return fit, max(1, circuits)


def _enough(model: TraceModel, prompts: PromptSet, memory: Memory, tokens: int) -> int:
    """On a CPU, unless the user says how much, no more prompts than are faster."""
    at_ease = memory == "auto" and model.W_E.device.type == "cpu"
    return max(1, tokens // prompts.clean.shape[1]) if at_ease else len(prompts)


def _even(fit: int, prompts: int) -> int:
    """Batches of one size, as few as before: what the heap keeps of one is the room of the next."""
    return math.ceil(prompts / math.ceil(prompts / fit))


def _ports_of_layer(graph: Graph) -> int:
    most = max(map(len, map(graph.neurons_of, range(graph.n_layers))))
    return graph.n_heads + 2 * graph.n_kv_heads + 1 + most
