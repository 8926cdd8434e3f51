"""Odd values for every parameter of every public function: each call must end in a result or in an error of ours.

    python tests/odd_arguments.py                 all of them: half an hour, not CI
    python tests/odd_arguments.py 4000            a sample
    python tests/odd_arguments.py 0 prompts.      all of the functions whose path begins so

`tests/test_odd_arguments.py` tries a seeded sample. A call is a valid one, but for one argument.
"""

from __future__ import annotations

import inspect
import json
import os
import random
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

import llmtrace as lt
from llmtrace.errors import LLMTraceError
from llmtrace.nodes import Head, Neuron

ROOMS = "circuits influence interventions metrics models nodes plots prompts signals validation".split()
# What changes tables for the whole process, and what only results ask.
LEFT_OUT = {"plots.register", "nodes.place_of"}
FEW = ("draws", "steps", "greedy")  # what takes long by default
TRACED = ("pattern", "scores", "q", "k", "v", "z", "resid_pre", "resid_mid", "resid_post", "mlp_pre", "mlp_post")
ODD: dict[str, Callable[[], Any]] = {
    "None": lambda: None, "True": lambda: True, "0": lambda: 0, "-1": lambda: -1, "7": lambda: 7, "-5": lambda: -5,
    "2.5": lambda: 2.5, "0.5": lambda: 0.5, "nan": lambda: float("nan"), "inf": lambda: float("inf"),
    "1j": lambda: 1 + 1j, "np.int64(1)": lambda: np.int64(1), "np.float32(0.5)": lambda: np.float32(0.5),
    "np.bool_": lambda: np.bool_(True), "''": lambda: "", "'x'": lambda: "x", "'False'": lambda: "False",
    "'END'": lambda: "END", "'0.0'": lambda: "0.0", "'nul'": lambda: "a\0b", "long": lambda: "a" * 5000,
    "b'x'": lambda: b"x", "[]": list, "()": tuple, "{}": dict, "set": lambda: {1}, "[0]": lambda: [0],
    "[-1]": lambda: [-1], "[99]": lambda: [99], "['x']": lambda: ["x"], "[None]": lambda: [None], "[[]]": lambda: [[]],
    "[[0]]": lambda: [[0]], "[1.5]": lambda: [1.5], "[True]": lambda: [True], "(3, 2)": lambda: (3, 2),
    "{'x': 1}": lambda: {"x": 1}, "{1: 'x'}": lambda: {1: "x"}, "range": lambda: range(2), "slice": lambda: slice(0, 1),
    "generator": lambda: (i for i in (0, 1)), "lambda": lambda: lambda x: x, "type": lambda: int, "object": object,
    "path": lambda: Path("nowhere"), "array 0": lambda: np.array(0), "array": lambda: np.array([0]),
    "array of none": lambda: np.array([]), "array of text": lambda: np.array(["x"]), "mask": lambda: np.array([True]),
    "tensor 0": lambda: torch.tensor(0), "tensor": lambda: torch.tensor([0]), "floats": lambda: torch.zeros(3),
    "complex": lambda: torch.zeros(3, dtype=torch.complex64), "nan tensor": lambda: torch.full((2,), torch.nan),
    "matrix": lambda: torch.zeros(2, 2), "cube": lambda: torch.zeros(1, 2, 3), "no tensor": lambda: torch.zeros(0),
    "Head": lambda: Head(0, 0), "Head 9": lambda: Head(9, 9), "[Head]": lambda: [Head(0, 0)], "class": lambda: Head,
    "module": lambda: torch, "nn.Module": lambda: torch.nn.Linear(2, 2), "error": lambda: ValueError("x"),
}  # fmt: skip


class World:
    """Valid arguments by the names of parameters, on one small model."""

    def __init__(self, folder: Path) -> None:
        model = small_model()
        prompts, graph = lt.prompts.ioi(model, 2), lt.Graph.of(model)
        arch, full, n = lt.describe(model), lt.Circuit.full(graph), len(prompts)
        scores = lt.circuits.eap(model, prompts)
        trace = lt.capture(model, prompts, what=TRACED)
        text, other = prompts.texts[0], prompts.corrupted_texts[0]
        circuit, pairs, saved = full.save(folder / "c.json"), folder / "p.jsonl", trace.save(folder / "trace")
        pairs.write_text(json.dumps({"clean": text, "corrupted": other, "correct": "Mary"}))
        resid = trace["blocks.0.hook_resid_pre"]
        vector, flags, meta = torch.ones(arch.d_model), torch.tensor([True, False]), {"role": "user", "content": text}
        self.values: dict[str, Any] = {
            "model": model, "prompts": prompts, "prompt": prompts[:1], "circuit": full, "graph": graph,
            "scores": scores, "found": full, "known": full, "circuits": [full, full], "trace": trace, "layer": 0,
            "head": Head(0, 0), "nodes": [Head(0, 0)], "places": ["0.0"], "place": "resid_post.0",
            "paths": ["a0.h0 -> logits"], "vector": vector, "directions": vector, "subject": [0], "queries": ["END"],
            "keys": [1], "n_edges": 3, "tau": 0.1, "draws": 2, "path": folder / "made.json", "truth": flags,
            "positions": None, "correct": [[1]] * n, "wrong": [[2]] * n, "reference": torch.zeros(n, arch.d_vocab),
            "metric": prompts.metric(), "clean": torch.ones(n), "corrupted": torch.zeros(n), "name": "mine",
            "function": lambda rows: rows[..., 0], "text": text, "texts": [text], "messages": [meta],
            "pairs": [(text, other, "Mary", "John")], "source": "or-gate", "tokens": prompts.clean, "heads": [0],
            "neurons": [Neuron(0, 0)], "memory": "auto", "noun": scores, "title": "t", "sections": [],
            "provenance": {}, "n": 2, "k": 2, "device": torch.device("cpu"), "method": "x", "names": [], "resid": resid,
            "normed": resid, "z": trace["blocks.0.attn.hook_z"], "x": resid,
            "max_new_tokens": 2, "steps": 2, "greedy": 1, "tasks": {"a": prompts},
            "name_or_path": "ioi", "receivers": ["logits"], "value": resid, "mean": lt.interventions.Mean(),
        }  # fmt: skip
        direct, effects = lt.influence.direct_logit_attribution(model, prompts), lt.ablate(model, prompts, ["0.0"])
        reader = next(iter(lt.models.mlp_readers(model, 0)))
        read = {slot: trace[f"blocks.0.attn.hook_{slot}"] for slot in "qkv"}
        at = {"positions": torch.zeros(n, dtype=torch.long)}
        of_positions = ("custom", "kl", "log_probability", "logit_diff", "probability", "probability_diff")
        ranked = {"scores": torch.tensor([0.1, 0.2])}
        self.of_function: dict[str, dict[str, Any]] = {f"metrics.{name}": at for name in of_positions} | {
            "circuits.average_precision": ranked, "circuits.roc_auc": ranked, "circuits.discover": {"n_edges": 3},
            "circuits.select": {"n_edges": 3}, "circuits.specificity": {"circuits": {"a": full}},
            "circuits.export_circuit": {"path": folder / "made.json", "format": "llmtrace"},
            "circuits.import_circuit": {"path": circuit}, "influence.copying_scores": {"tokens": [0, 1, 2], "k": 1},
            "influence.token_lens": {"tokens": [[1]] * n}, "influence.read_neurons": {"neurons": [Neuron(0, 0)]},
            "influence.source_token_attribution": {"heads": [Head(0, 0)]}, "interventions.generate": {"prompt": text},
            "interventions.steer": {"places": "resid_post.0"}, "models.greedy": {"tokens": prompts.clean[0]},
            "models.neuron_results": {"neurons": [0], "x": resid[None]}, "models.sum_of_neurons": {"neurons": [0]},
            "models.parts_of_neurons": {"neurons": [0], "activations": resid[..., :1]}, "models.attend": read,
            "models.project": {"which": [0], "x": resid[None], "reader": reader, "norm": lt.models.mlp_norm(model, 0)},
            "models.head_mixtures": {"streams": resid[None], "q": [0], "k": [0], "v": [0]},
            "models.heads_received": {"results": resid[None]}, "models.backward_rule": {"name": "standard"},
            "models.require_live": {"names": ["blocks.0.attn.hook_z"]}, "models.load": {"check": False},
            "prompts.metric_of": {"metric": None}, "prompts.from_jsonl": {"path": pairs},
            "signals.load_trace": {"path": saved}, "validation.correlate": {"scores": direct, "effects": effects},
            "validation.validate": {"scores": direct, "k": 1}, "validation.name_of": {"scores": direct},
            "nodes.parse_node": {"text": "0.0"}, "nodes.parse_place": {"text": "0.0"},
            "nodes.parse_edge": {"text": "a0.h0->logits"}, "nodes.parse_path": {"text": "a0.h0 -> logits"},
            "nodes.parse_port": {"text": "logits"},        }  # fmt: skip


def small_model() -> Any:
    """Two layers of two heads and a handful of neurons, with tiny-english's words."""
    from transformers import GPT2Config, GPT2LMHeadModel

    words = lt.load("tiny-english").tokenizer
    torch.manual_seed(0)
    shape = {"n_embd": 8, "n_layer": 2, "n_head": 2, "n_positions": 48, "vocab_size": len(words)}
    model = GPT2LMHeadModel(GPT2Config(**shape, bos_token_id=0, eos_token_id=0))
    return lt.load(model, tokenizer=words, check=False)


@cache
def world() -> World:
    return World(Path(tempfile.mkdtemp()))


def functions() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Every public function, by room and name; each once."""
    seen = set()
    for room in ROOMS:
        for name, found in sorted((name, getattr(getattr(lt, room), name)) for name in dir(getattr(lt, room))):
            ours = inspect.isfunction(found) and found.__module__.startswith(f"llmtrace.{room}") and name[0] != "_"
            if ours and found not in seen and f"{room}.{name}" not in LEFT_OUT:
                seen.add(found)
                yield f"{room}.{name}", found


@dataclass(frozen=True)
class Call:
    """A valid call of a function, but for one argument."""

    path: str
    parameter: str
    odd: str

    def __str__(self) -> str:
        return f"{self.path}({self.parameter}={self.odd})"

    def run(self, of: World) -> object:
        function = dict(functions())[self.path]
        own, parameters = of.of_function.get(self.path, {}), inspect.signature(function).parameters.values()
        wanted = [p.name for p in parameters if p.default is p.empty or p.name in FEW]
        given = {name: of.values[name] for name in wanted if name in of.values} | own
        return function(**given | {self.parameter: ODD[self.odd]()})


def calls() -> Iterator[Call]:
    for path, function in functions():
        for parameter in inspect.signature(function).parameters.values():
            if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                yield from (Call(path, parameter.name, odd) for odd in ODD)


def outcome(call: Call, of: World) -> Exception | None:
    """What a call ended in that is neither a result nor an error of ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            call.run(of)
        except LLMTraceError:
            return None
        except Exception as error:
            return error
    return None


def sample(n: int, seed: int) -> list[Call]:
    return random.Random(seed).sample(list(calls()), n)


def main(n: str = "0", path: str = "") -> None:
    torch.set_num_threads(1)
    os.chdir(tempfile.mkdtemp())
    chosen = [call for call in (sample(int(n), 0) if int(n) else calls()) if call.path.startswith(path)]
    raw = Counter[str]()
    for call in chosen:
        if error := outcome(call, world()):
            raw[f"{call.path}({call.parameter})"] += 1
            frames = traceback.extract_tb(error.__traceback__)
            where = [frame for frame in frames if "/llmtrace/" in frame.filename][-1:] or frames[-1:]
            at = " ".join(f"{Path(frame.filename).stem}:{frame.lineno}" for frame in where)
            print(f"{call}: {type(error).__name__}: {str(error)[:100]!r} at {at}", flush=True)
    print(f"{len(chosen):,} calls, {sum(raw.values())} ended in something other than a sentence; {len(raw)} parameters")


if __name__ == "__main__":
    main(*sys.argv[1:])
