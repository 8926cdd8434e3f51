"""Bad input, in one table: what is given, the error it gets, and the sentence that a researcher reads.

Every row runs as a user runs it (without the annotations' checks, which only tests have) and must end in the named
error and no other, with its exit code, and leave the folder it was given byte for byte as it was.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import torch

import llmtrace as lt
from llmtrace.circuits import METHODS, SELECTIONS, background, eap, exact, stable_edges
from llmtrace.errors import (
    CheckError,
    FileFormatError,
    InputError,
    LimitError,
    LLMTraceError,
    MetricError,
    MismatchError,
    NotFoundError,
    NoWeightsError,
    UnsupportedError,
)
from llmtrace.metrics import custom, kl, logit_diff, normalised, probability
from llmtrace.nodes import Embed, Head, Logits, Mlp, Neuron

EXIT_CODES = {
    InputError: 2, MetricError: 2, NotFoundError: 3, LimitError: 4, NoWeightsError: 5,
    UnsupportedError: 1, CheckError: 1, FileFormatError: 1, MismatchError: 1,
}  # fmt: skip

SENTENCE = "When Mary and John went to the store, John gave a drink to"
OTHER = "When Tom and Anna went to the store, Bob gave a drink to"


class World:
    """The models and prompts that the rows share, each made when it is first needed."""

    @cached_property
    def model(self) -> Any:
        return lt.load("tiny-english")

    @cached_property
    def gate(self) -> Any:
        return lt.load("or-gate")

    @cached_property
    def attention_only(self) -> Any:
        return lt.load("induction")

    @cached_property
    def prompts(self) -> Any:
        return lt.prompts.ioi(self.model, 4)

    @cached_property
    def gate_prompts(self) -> Any:
        return lt.from_pairs(self.gate, [("1 1 =", "0 0 =", "1", "0")])

    @cached_property
    def texts(self) -> Any:
        """No corruption: the corrupted tokens are the clean ones."""
        return lt.from_texts(self.model, [SENTENCE, OTHER])

    @cached_property
    def equal(self) -> Any:
        return replace(self.prompts, corrupted=self.prompts.clean)

    @cached_property
    def graph(self) -> Any:
        return lt.Graph.of(self.model)

    @cached_property
    def full(self) -> Any:
        return lt.Circuit.full(self.graph)

    @cached_property
    def effects(self) -> Any:
        return lt.ablate(self.model, self.prompts, [Head(0, 0)])

    @cached_property
    def scores(self) -> Any:
        return lt.influence.direct_logit_attribution(self.model, self.prompts)

    @cached_property
    def trace(self) -> Any:
        return lt.capture(self.model, self.prompts, what="z", layers=[0])

    def pair(self, *row: Any) -> Any:
        return lt.from_pairs(self.model, [(SENTENCE, OTHER, "Mary", "John"), row])

    def nan(self, name: str) -> Any:
        """A Hugging Face model with a NaN in one weight."""
        from transformers import GPT2Config, GPT2LMHeadModel

        hf = GPT2LMHeadModel(GPT2Config(n_embd=8, n_layer=1, n_head=1, n_positions=32, vocab_size=40))
        hf.get_parameter(name).data.view(-1)[3] = torch.nan
        return hf


Given = Callable[[World, Path], object]
Call = Callable[[World, Path], object]


@dataclass(frozen=True)
class Bad:
    """`given` makes what must be there first; `call` is refused with a sentence that holds `sentence`."""

    call: Call
    error: type[LLMTraceError]
    sentence: str
    given: Given = lambda w, p: None


def first_logit(rows: Any) -> Any:
    return rows[..., 0]


def constant(rows: Any) -> Any:
    return torch.ones_like(rows[..., 0])


def no_gradient(rows: Any) -> Any:
    return rows.argmax(-1).float()


def not_a_number(rows: Any) -> Any:
    return rows[..., 0] * torch.nan


def mean_over_prompts(rows: Any) -> Any:
    return rows.mean()


def a_file(name: str, content: bytes | str) -> Given:
    def write(w: World, folder: Path) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)

    return write


def a_trace(change: Callable[[Path], object] = lambda path: None) -> Given:
    """A saved trace in the folder `run`, then damaged."""

    def save(w: World, folder: Path) -> None:
        w.trace.save(folder / "run")
        change(folder / "run")

    return save


def a_circuit(**changes: Any) -> Given:
    """The saved circuit of one edge, `c.json`, with other fields."""

    def save(w: World, folder: Path) -> None:
        path = lt.Circuit.of(w.graph, ["input->logits"]).save(folder / "c.json")
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return save


def a_graph(**changes: Any) -> Given:
    return lambda w, p: a_circuit(graph=w.graph.as_dict() | changes)(w, p)


def in_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def last_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


LOAD = {
    "misspelt model": Bad(
        lambda w, p: lt.load("gtp2-small"), NotFoundError,
        "got 'gtp2-small'. Did you mean 'gpt2-small'",
    ),
    "misspelt embedded model": Bad(
        lambda w, p: lt.load("tiny-inglish"), NotFoundError, "got 'tiny-inglish'. Did you mean 'tiny-english'"
    ),
    "a hub name without network": Bad(
        lambda w, p: lt.load("gpt2"), NoWeightsError,
        "Give a local folder, a .gguf file or an embedded model such as 'tiny-english'",
    ),
    "no such path": Bad(
        lambda w, p: lt.load(p / "nowhere"), NotFoundError, "nowhere', which does not exist"
    ),
    "folder without config.json": Bad(
        lambda w, p: lt.load(p / "model"), FileFormatError,
        "Expected config.json in the folder 'model', got none; give a folder written by save_pretrained().",
        given=a_file("model/model.safetensors", b""),
    ),
    "config.json that is no JSON": Bad(
        lambda w, p: lt.load(p / "model"), FileFormatError, "Expected JSON in model/config.json, got",
        given=a_file("model/config.json", "{"),
    ),
    "pickled weights only": Bad(
        lambda w, p: lt.load(p / "model"), FileFormatError,
        "Expected *.safetensors in the folder 'model', got none; pickled weights (.bin, .pt, .pth) are never read",
        given=lambda w, p: [
            a_file(f"model/{name}", content)(w, p)
            for name, content in (("config.json", '{"model_type": "gpt2"}'), ("pytorch_model.bin", b"\x80"))
        ],
    ),
    "truncated gguf": Bad(
        lambda w, p: lt.load(p / "x.gguf"), FileFormatError, "Expected a whole GGUF file, got 'x.gguf'",
        given=a_file("x.gguf", b"GGUF\x03\x00\x00\x00\x01"),
    ),
    "a gguf that is none": Bad(
        lambda w, p: lt.load(p / "x.gguf"), FileFormatError, "which starts with b'PK\\x03\\x04'; get it again.",
        given=a_file("x.gguf", b"PK\x03\x04zip"),
    ),
    "a file of weights alone": Bad(
        lambda w, p: lt.load(p / "model.pth"), InputError,
        "Expected a .gguf file or a folder, got the file 'model.pth'; give its folder.",
        given=a_file("model.pth", b""),
    ),
    "unknown dtype": Bad(
        lambda w, p: lt.load("or-gate", dtype="int8"), InputError,
        "Expected dtype to be one of float64, float32, float16, bfloat16, got 'int8'; choose one.",
    ),
    "unknown device": Bad(
        lambda w, p: lt.load("or-gate", device="abacus"), InputError,
        "Expected a device such as 'auto', 'cpu' or 'cuda:0', got 'abacus'",
    ),
    "unknown backend": Bad(
        lambda w, p: lt.load("or-gate", backend="jax"), InputError,
        "Expected backend to be one of auto, hooked, bridge, got 'jax'; choose one.",
    ),
    "loaded already": Bad(lambda w, p: lt.load(w.gate), InputError, "needs no load()."),
    "not a model at all": Bad(
        lambda w, p: lt.load(3), InputError,
        "Expected source as text, a path or a Module, got 3; see help(load).",
    ),
    "NaN weights": Bad(
        lambda w, p: lt.load(w.nan("transformer.h.0.mlp.c_fc.weight")), CheckError,
        "got NaN or infinity in transformer.h.0.mlp.c_fc.weight; the file is damaged or its training diverged",
    ),
    "a name where a model is wanted": Bad(
        lambda w, p: lt.capture("gpt2", w.prompts), InputError,
        "Expected model as a HookedTransformer or TransformerBridge, got 'gpt2'; make one with llmtrace.load(name).",
    ),
}  # fmt: skip

PROMPTS = {
    "empty prompt": Bad(
        lambda w, p: lt.from_texts(w.model, " "), InputError,
        "Expected a prompt with at least one word, got ' '; write a sentence.",
    ),
    "prompt over the context length": Bad(
        lambda w, p: lt.capture(w.model, "Mary " * 70), LimitError,
        "Expected a prompt of at most 64 tokens, the model's context, got 71 ('Mary Mary",
    ),
    "unknown word": Bad(
        lambda w, p: lt.from_texts(w.model, "Zoe and John"), InputError,
        "Expected words that the tokenizer knows, got 'Zoe'; replace them, or use a model with a larger vocabulary.",
    ),
    "pair of unequal length": Bad(
        lambda w, p: w.pair("Mary and John", "Tom and", "Mary"), InputError,
        "Pair 1: Expected clean and corrupted prompts of equal token length, got 4 and 3: "
        "['<bos>', 'Mary', 'and', 'John'] against ['<bos>', 'Tom', 'and']; reword one",
    ),
    "corrupted prompt that is the clean one": Bad(
        lambda w, p: w.pair("Mary and John", "Mary and John", "Mary"), InputError,
        "Pair 1: Expected a corrupted prompt that differs from the clean one, got 'Mary and John' twice; "
        "change the word that decides the answer.",
    ),
    "answer of two tokens": Bad(
        lambda w, p: w.pair(SENTENCE, OTHER, "Mary John"), InputError,
        "Pair 1: Expected an answer of one token, got 'Mary John', which is ['Mary', 'John']; "
        "choose another word or its first piece.",
    ),
    "answer that is right and wrong": Bad(
        lambda w, p: w.pair(SENTENCE, OTHER, "Mary", "Mary"), InputError,
        "Pair 1: Expected correct and wrong answers to differ, got ['Mary'] in both.",
    ),
    "answer as a number": Bad(
        lambda w, p: w.pair(SENTENCE, OTHER, 3), InputError,
        "Pair 1: Expected answers as text, got 3; write them in quotes.",
    ),
    "positions as a list": Bad(
        lambda w, p: w.pair(SENTENCE, OTHER, "Mary", "John", [3]), InputError,
        "Pair 1: Expected positions as a dict, got [3]; write {'S': 'John'}.",
    ),
    "a field too many": Bad(
        lambda w, p: w.pair(SENTENCE, OTHER, "Mary", "John", {}, "group", 7), InputError,
        "Pair 1: Expected at most 6 fields (clean, corrupted, correct, wrong, positions, group), got 7",
    ),
    "unknown key": Bad(
        lambda w, p: lt.from_pairs(w.model, [{"clean": "a", "corupted": "b", "correct": "c"}]), InputError,
        "got 'corupted'; rename or remove it. Did you mean 'corrupted'?",
    ),
    "no pairs": Bad(
        lambda w, p: lt.from_pairs(w.model, []), InputError, "Expected at least 1 prompt, got 0; give a pair, or ask"
    ),
    "nothing for pairs": Bad(
        lambda w, p: lt.from_pairs(w.model, None), InputError, "got None; see help(from_pairs)."
    ),
    "no file of prompts": Bad(
        lambda w, p: lt.from_jsonl(w.model, p / "none.jsonl"), NotFoundError, "none.jsonl', which does not exist"
    ),
    "line that is no JSON": Bad(
        lambda w, p: lt.from_jsonl(w.model, p / "x.jsonl"), FileFormatError,
        "Line 3 of x.jsonl: Expected one JSON object per line, got '{\"clean\": '",
        given=a_file("x.jsonl", f'\n{json.dumps([SENTENCE, OTHER, "Mary"])}\n{{"clean": \n'),
    ),
    "line that is bottomless": Bad(
        lambda w, p: lt.from_jsonl(w.model, p / "x.jsonl"), FileFormatError,
        "Line 1 of x.jsonl: Expected one JSON object per line, got '[[[[",
        given=a_file("x.jsonl", "[" * 200_000),
    ),
    "bad pair on a line": Bad(
        lambda w, p: lt.from_jsonl(w.model, p / "x.jsonl"), InputError,
        "Line 2 of x.jsonl: Expected an answer of one token, got 'Zoe'",
        given=a_file("x.jsonl", "\n" + json.dumps({"clean": SENTENCE, "corrupted": OTHER, "correct": "Zoe"})),
    ),
    "unknown corruption": Bad(
        lambda w, p: lt.prompts.ioi(w.model, corruption="s2_flip"), NotFoundError,
        "got 's2_flip'. Did you mean 's2_io_flip' or 's1_io_flip'?",
    ),
    "too few names": Bad(
        lambda w, p: lt.prompts.ioi(w.model, names=["Mary", "John", "Zoe"]), InputError,
        "Expected five names that are one token each, got 2 of 3; pass names=",
    ),
    "more prompts than there are": Bad(
        lambda w, p: lt.prompts.ioi(w.model, 999, templates=["When {A} and {B} went to the park, {S} gave a key to"],
                            names=["Mary", "John", "Tom", "Anna", "Bob"]), InputError,
        "before they repeated; ask for fewer, or pass more names or templates",
    ),
    "no prompts asked": Bad(
        lambda w, p: lt.prompts.ioi(w.model, 0), InputError,
        "Expected at least 1 prompt, got 0; give a pair, or ask a maker for n=16.",
    ),
    "half a prompt": Bad(
        lambda w, p: lt.prompts.ioi(w.model, 2.5), InputError,
        "Expected n as a whole number, got 2.5; 16 is the default.",
    ),
    "a name for a model": Bad(
        lambda w, p: lt.prompts.ioi("gpt2"),
        InputError,
        "Expected a model, got the text 'gpt2'; give lt.load('gpt2')",
    ),
    "prompts longer than another model": Bad(
        lambda w, p: lt.path_patch(w.gate, w.prompts), LimitError,
        "Expected prompts of at most 4 tokens, the model's context, got 15; shorten them.",
    ),
    "prompts of a larger vocabulary": Bad(
        lambda w, p: lt.ablate(w.attention_only, w.prompts), MismatchError,
        "Expected tokens below the vocabulary size 32",
    ),
    "a text where answers are needed": Bad(
        lambda w, p: lt.path_patch(w.model, SENTENCE, metric=first_logit), InputError,
        f"Expected prompts as a PromptSet, got '{SENTENCE}'; make one with ioi(model) or from_pairs(model, pairs).",
    ),
}  # fmt: skip

METRICS = {
    "unknown metric": Bad(
        lambda w, p: lt.ablate(w.model, w.prompts, metric="logit_dif"), NotFoundError,
        "got 'logit_dif'. Did you mean 'logit_diff'?",
    ),
    "metric without its answers": Bad(
        lambda w, p: lt.ablate(w.model, w.texts), InputError,
        "Expected correct answers for the metric logit_diff, got none for prompt 0; give them, or choose",
    ),
    "one answer in both": Bad(
        lambda w, p: logit_diff([3], [[5, 6]], [[6]]), InputError,
        "Expected correct and wrong answers to differ, got token 6 in both for prompt 0; take it out of one.",
    ),
    "metric of other prompts": Bad(
        lambda w, p: lt.ablate(w.model, w.prompts, metric=w.prompts[:2].metric()), MismatchError,
        "Expected a metric of these 4 prompts, got one of 2; slice metric and prompts alike.",
    ),
    "metric of as many other prompts": Bad(
        lambda w, p: lt.ablate(w.model, w.prompts, metric=lt.prompts.ioi(w.model, 4, seed=1).metric()), MismatchError,
        "Expected a metric of these 4 prompts, got a metric of others (the first that differs is prompt 0); make",
    ),
    "metric of the same prompts in another order": Bad(
        lambda w, p: lt.influence.decompx(w.model, w.prompts, metric=w.prompts[[1, 0, 2, 3]].metric()), MismatchError,
        "got a metric of others (the first that differs is prompt 0); make a metric of these, and slice and order",
    ),
    "spans of as many other prompts": Bad(
        lambda w, p: lt.influence.rollout(w.model, w.prompts[:1]).by_span(lt.Spans.between(w.prompts[1:2], ["S1"])),
        MismatchError,
        "Expected spans of these 1 prompts, got spans of others",
    ),
    "scores of as many other prompts": Bad(
        lambda w, p: lt.validate(w.model, lt.prompts.ioi(w.model, 4, seed=1), w.scores), MismatchError,
        "Expected scores of these 4 prompts, got scores of others",
    ),
    "edge scores by node of as many other prompts": Bad(
        lambda w, p: lt.validate(w.model, lt.prompts.ioi(w.model, 4, seed=1), eap(w.model, w.prompts).by_node()),
        MismatchError, "Expected scores of these 4 prompts, got scores of others",
    ),
    "scores of spans of as many other prompts": Bad(
        lambda w, p: lt.validate(
            w.model, w.prompts, replace(
                lt.influence.rollout(w.model, w.prompts).by_span(lt.Spans.between(w.prompts, ["S1"])),
                fingerprints=w.prompts.fingerprints.flip(0),
            ), spans=lt.Spans.between(w.prompts, ["S1"]),
        ),
        MismatchError, "Expected scores of these 4 prompts, got scores of others",
    ),
    "scores cut by hand": Bad(
        lambda w, p: lt.validate(
            w.model, w.prompts[:2], replace(w.scores, values=w.scores.values[:, :2], total=None)
        ),
        MismatchError, "Expected scores of these 2 prompts, got scores of 4; slice and order both alike.",
    ),
    "kl of other prompts": Bad(
        lambda w, p: kl([1, 2], torch.zeros(3, 5)), MismatchError,
        "Expected kl to hold 2 prompts throughout, got a tensor of 3",
    ),
    "answers over the vocabulary": Bad(
        lambda w, p: lt.path_patch(w.model, w.prompts, metric=logit_diff([14] * 4, [[999]] * 4, [[5]] * 4)),
        MismatchError,
        "Expected answers below the vocabulary size 204, got token 999; make the prompts with this model's tokenizer.",
    ),
    "probability over the vocabulary": Bad(
        lambda w, p: lt.path_patch(w.model, w.prompts, metric=probability([14] * 4, [[999]] * 4)), MismatchError,
        "Expected answers below the vocabulary size 204, got token 999; make the prompts with this model's tokenizer.",
    ),
    "position over the prompt": Bad(
        lambda w, p: lt.path_patch(w.model, w.prompts, metric=custom("far", first_logit, [99] * 4)), InputError,
        "Expected logits up to position 99, got 15 positions; run the prompts whole.",
    ),
    "equal runs, normalised": Bad(
        lambda w, p: normalised(w.prompts.metric(), torch.ones(4), torch.ones(4)), InputError,
        "clean and corrupted runs give the same value of logit_diff in the mean over prompts (1 and 1); "
        "choose another corruption or another metric.",
    ),
    "a mean over prompts": Bad(
        lambda w, p: lt.ablate(w.model, w.prompts, [Head(0, 0)], metric=mean_over_prompts), InputError,
        "Expected mean_over_prompts to give one number per prompt, shape [4], got []; reduce the last axis",
    ),
    "a metric that is no tensor": Bad(
        lambda w, p: lt.ablate(w.model, w.prompts, [Head(0, 0)], metric=lambda rows: 1.0), InputError,
        "Expected <lambda> to give one number per prompt, shape [4], got float; reduce the last axis",
    ),
    "a metric that is NaN": Bad(
        lambda w, p: lt.evaluate(w.model, w.prompts, w.full, metric=not_a_number), CheckError,
        "Expected a number from not_a_number for each prompt, got NaN for prompt 0; "
        "the logits are numbers, so look at the metric's function.",
    ),
    "logits that are NaN": Bad(
        lambda w, p: w.prompts.metric()(torch.full((4, 15, 204), torch.nan)), CheckError,
        "got NaN for prompt 0; the logits are NaN already, so look at the model's weights and dtype.",
    ),
}  # fmt: skip

SIGNALS = {
    "unknown kind of activation": Bad(
        lambda w, p: lt.capture(w.model, w.prompts, what="resid_pots"), NotFoundError,
        "got 'resid_pots'. Did you mean 'resid_post'",
    ),
    "unknown hook": Bad(
        lambda w, p: lt.capture(w.model, w.prompts, what="blocks.9.hook_resid_pre"), NotFoundError,
        "Expected the name of an activation of this model, got 'blocks.9.hook_resid_pre'. Did you mean 'blocks.",
    ),
    "a hook after the last block": Bad(
        lambda w, p: lt.capture(w.model, w.prompts, what="ln_final.hook_normalized"), InputError,
        "'ln_final.hook_normalized' never fired; it is not computed before the final norm.",
    ),
    "nothing to capture": Bad(
        lambda w, p: lt.capture(w.model, w.prompts, what=()), InputError,
        "Expected at least one activation to keep, got none; say what='pattern', for instance.",
    ),
    "no such layer to capture": Bad(
        lambda w, p: lt.capture(w.model, w.prompts, layers=[0, 9]), InputError,
        "Expected layers between 0 and 3, got [0, 9]; leave layers out for all.",
    ),
    "a layer without its list": Bad(
        lambda w, p: lt.capture(w.model, w.prompts, layers=0), InputError,
        "Expected layers as a list, each a whole number, got 0; put it in a list: [0].",
    ),
    "no MLP to capture": Bad(
        lambda w, p: lt.capture(w.attention_only, "w1 w2", what="mlp_post"), UnsupportedError,
        "This model is attention-only, so it has no mlp_post; ask for resid_pre, z or attn_out.",
    ),
    "unknown position": Bad(
        lambda w, p: lt.capture(w.model, w.prompts, positions="S3"), NotFoundError,
        "Expected a named position, one of IO, S1, S1+1, S2, END, or an index; got 'S3'.",
    ),
    "position outside": Bad(
        lambda w, p: lt.capture(w.model, w.prompts, positions=15), InputError,
        "Expected a position inside every prompt, the shortest of which has 15 tokens, got 15; take fewer prompts",
    ),
    "position between tokens": Bad(
        lambda w, p: lt.capture(w.model, w.prompts, positions=[1.5]), InputError,
        "Expected positions as a name such as 'END', a whole number, a list of these, a slice or a mask",
    ),
    "tensor of positions outside": Bad(
        lambda w, p: lt.capture(w.model, w.prompts, positions=torch.full((4, 1), 99)), InputError,
        "Expected positions from 0 to 14, got 99 to 99; count from BOS.",
    ),
    "one tensor of positions for all": Bad(
        lambda w, p: lt.capture(w.model, w.prompts, positions=torch.tensor([[3]])), InputError,
        "Expected positions of shape [4, n], n indices per prompt, got [1, 1]",
    ),
    "no positions": Bad(
        lambda w, p: lt.capture(w.model, w.prompts, positions=[]), InputError,
        "Expected a list of positions, got []; write a list, such as ['END'] or [1, -1].",
    ),
    "no memory": Bad(
        lambda w, p: lt.capture(w.model, w.prompts, memory=0), InputError,
        "Expected memory as bytes, 'auto' or a size such as '512MB', got 0.",
    ),
    "unknown side": Bad(
        lambda w, p: lt.capture(w.model, w.prompts, side="dirty"), InputError,
        "Expected side 'clean' or 'corrupted', got 'dirty'; choose one.",
    ),
    "not captured": Bad(
        lambda w, p: w.trace["blocks.2.attn.hook_z"], NotFoundError, "'blocks.2.attn.hook_z' was not captured"
    ),
    "no trace": Bad(
        lambda w, p: lt.load_trace(p / "run"), NotFoundError,
        "Expected the folder of a trace at 'run', found none at that path; check the path.",
    ),
    "truncated trace": Bad(
        lambda w, p: lt.load_trace(p / "run"), FileFormatError, "it is truncated.",
        given=a_trace(lambda path: half(path / "tensors.safetensors")),
    ),
    "tampered trace": Bad(
        lambda w, p: lt.load_trace(p / "run"), FileFormatError,
        "tensors.safetensors is not what was saved (its sha256 differs); capture the trace again.",
        given=a_trace(lambda path: last_bit(path / "tensors.safetensors")),
    ),
    "broken trace.json": Bad(
        lambda w, p: lt.load_trace(p / "run"), FileFormatError, "it is truncated or not ours: write it again.",
        given=a_trace(lambda path: half(path / "trace.json")),
    ),
    "newer trace": Bad(
        lambda w, p: lt.load_trace(p / "run"), FileFormatError,
        "'trace.json' has schema version 99 and this llmtrace reads up to 1; upgrade llmtrace-interp.",
        given=a_trace(lambda path: in_json(path / "trace.json", schema_version=99)),
    ),
    "trace with a wrong field": Bad(
        lambda w, p: lt.load_trace(p / "run"), FileFormatError,
        "trace.json does not follow its schema: seed: Input should be a valid integer",
        given=a_trace(lambda path: in_json(path / "trace.json", seed="one")),
    ),
    "saving over a trace": Bad(
        lambda w, p: w.trace.save(p / "run"), InputError,
        "Expected a new folder, but 'run' exists; choose another name or pass overwrite=True.",
        given=a_trace(),
    ),
    "saving below a file": Bad(
        lambda w, p: w.trace.save(p / "notes" / "run"), InputError,
        "Expected a folder for 'run', but a file is in its place ('notes'); choose another.",
        given=a_file("notes", "mine"),
    ),
    "saving over a file": Bad(
        lambda w, p: w.trace.save(p / "notes", overwrite=True), InputError, "Expected a new folder, but 'notes' exists",
        given=a_file("notes", "mine"),
    ),
}  # fmt: skip

INFLUENCE = {
    "direct attribution of a probability": Bad(
        lambda w, p: lt.influence.direct_logit_attribution(w.model, w.prompts, metric="probability"), MetricError,
        "Expected a metric that is linear in the logits, such as 'logit_diff', got 'probability'",
    ),
    "neurons of no such layer": Bad(
        lambda w, p: lt.influence.neuron_attribution(w.model, w.prompts, layers=[4]), InputError,
        "Expected layers between 0 and 3, got [4]; leave layers out for all.",
    ),
    "neurons of an attention-only model": Bad(
        lambda w, p: lt.influence.neuron_attribution(w.attention_only, lt.from_texts(w.attention_only, "w1 w2")),
        UnsupportedError,
        "This model is attention-only, so it has no neurons; use direct_logit_attribution.",
    ),
    "attention of no such layer": Bad(
        lambda w, p: lt.influence.raw_attention(w.model, SENTENCE, layer=4), InputError,
        "Expected a layer between 0 and 3, got 4; leave layer out for all of them.",
    ),
    "attention of no such head": Bad(
        lambda w, p: lt.influence.raw_attention(w.model, SENTENCE, layer=0, head=8),
        InputError,
        "a0.h8 is not in this model",
    ),
    "norms before the first layer": Bad(
        lambda w, p: lt.influence.value_weighted_norms(w.model, SENTENCE, layer=-1), InputError,
        "Expected a layer between 0 and 3, got -1; leave layer out",
    ),
    "source tokens of an MLP": Bad(
        lambda w, p: lt.influence.source_token_attribution(w.model, w.prompts, heads=[Mlp(0)]), InputError,
        "Expected a list of nodes to split by source (Head), got m0 (Mlp); take it out.",
    ),
    "a node that was not scored": Bad(
        lambda w, p: w.scores.of(Head(7, 1)), NotFoundError,
        "nodes of direct_logit_attribution (input to unembedding.4), got 'a7.h1'",
    ),
}  # fmt: skip

NEED = "needs corrupted prompts that differ from the clean ones, got '{}', which has none; make prompts with ioi(model)"

INTERVENTIONS = {
    "unknown way to ablate": Bad(
        lambda w, p: lt.ablate(w.model, w.prompts, ablation="median"), InputError,
        "Expected ablation to be one of zero, mean, resample, value, got 'median'; choose one.",
    ),
    "unknown reference": Bad(
        lambda w, p: lt.ablate(w.model, w.prompts, reference="dirty"), InputError,
        "Expected reference to be one of corrupted, clean or a PromptSet, got 'dirty'; choose one.",
    ),
    "a node without a list": Bad(
        lambda w, p: lt.ablate(w.model, w.prompts, "2.2"), InputError,
        "got '2.2'; put it in a list: ['2.2'].",
    ),
    "an edge that leads backwards": Bad(
        lambda w, p: lt.ablate(w.model, w.prompts, ["a2.h2->a1.h0<q>"]), InputError,
        "a2.h2->a1.h0<q> is not an edge of this model: a1.h0<q> reads before a2.h2 writes.",
    ),
    "a value for another ablation": Bad(
        lambda w, p: lt.ablate(w.model, w.prompts, ["2.2"], value=torch.zeros(16)), InputError,
        "Expected value= with ablation='value' and only there, got ablation='mean'; say both or neither.",
    ),
    "an unknown mean": Bad(
        lambda w, p: lt.ablate(w.model, w.prompts, over="prompt"), InputError,
        "Expected over to be one of group, position, global, got 'prompt'; choose one.",
    ),
    "memory in words": Bad(
        lambda w, p: lt.ablate(w.model, w.prompts, memory="plenty"), InputError,
        "Expected memory as bytes, 'auto' or a size such as '512MB', got 'plenty'.",
    ),
    "memory for nobody": Bad(
        lambda w, p: lt.patch_sweep(w.model, w.prompts, memory=1000), LimitError,
        "Expected room for one prompt, which takes",
    ),
    "partial results in a folder": Bad(
        lambda w, p: lt.patch_sweep(w.model, w.prompts, resume=p), InputError,
        "is a folder; add a file name.",
    ),
    "partial results of nobody": Bad(
        lambda w, p: lt.patch_sweep(w.model, w.prompts, resume=p / "notes.txt"), FileFormatError,
        "'notes.txt' holds no partial results",
        given=lambda w, p: (p / "notes.txt").write_text("mine"),
    ),
    "a name that is no node": Bad(
        lambda w, p: lt.parse_node("head 2"), InputError,
        "Expected a node such as 'a9.h6' (or '9.6'), 'm3', 'm3.n12', 'input' or 'logits', got 'head 2'.",
    ),
    "a node without its list": Bad(
        lambda w, p: lt.ablate(w.model, w.prompts, Head(2, 2)), InputError,
        "got Head(layer=2, head=2); put it in a list: [Head(layer=2, head=2)].",
    ),
    "no node": Bad(
        lambda w, p: lt.ablate(w.model, w.prompts, []), InputError,
        "Expected a list of nodes to ablate, got none; leave nodes out for all heads and MLPs.",
    ),
    "a node of a larger model": Bad(
        lambda w, p: lt.ablate(w.model, w.prompts, [Head(9, 6)]), InputError,
        "a9.h6 is not in this model, which has layers 0-3, heads 0-7 and key-value heads 0-7; name one of these.",
    ),
    "the logits, ablated": Bad(
        lambda w, p: lt.ablate(w.model, w.prompts, [Logits()]), InputError,
        "Expected a head, an MLP, a neuron, 'input' or a site such as 'a9.h6<q>' or 'resid_pre.5', got Logits().",
    ),
    "an MLP of an attention-only model": Bad(
        lambda w, p: lt.ablate(w.attention_only, w.texts, [Mlp(0)]), InputError,
        "m0 is an MLP and this model is attention-only; name a head such as 'a0.h0'.",
    ),
    "a sender that cannot send": Bad(
        lambda w, p: lt.path_patch(w.model, w.prompts, senders=[Head(0, 0), Logits()]), InputError,
        "Expected a list of nodes as senders (Head, Mlp, Embed), got logits (Logits); take it out.",
    ),
    "a neuron as sender": Bad(
        lambda w, p: lt.path_patch(w.model, w.prompts, senders=[Neuron(0, 0)]), InputError,
        "got m0.n0 (Neuron); take it out.",
    ),
    "half the input as sender": Bad(
        lambda w, p: lt.path_patch(w.model, w.prompts, senders=[Embed("pos")]), InputError,
        "pos is not a node of its own: what enters the first block is one node, 'input' (Embed()).",
    ),
    "no sender": Bad(
        lambda w, p: lt.path_patch(w.model, w.prompts, senders=[]), InputError,
        "Expected a list of nodes as senders (Head, Mlp, Embed), got none; name one, or leave the argument out",
    ),
    "unknown fate of MLPs": Bad(
        lambda w, p: lt.path_patch(w.model, w.prompts, convention="thawed"), InputError,
        "Expected convention to be one of heads_frozen, all_frozen, edges, got 'thawed'; choose one.",
    ),
    "paths without a corruption": Bad(
        lambda w, p: lt.path_patch(w.model, w.texts, metric=first_logit), InputError,
        f"Path patching {NEED.format('texts')}",
    ),
    "paths between equal runs": Bad(
        lambda w, p: lt.path_patch(w.model, w.equal), InputError, f"Path patching {NEED.format('ioi')}"
    ),
    "resampling without a corruption": Bad(
        lambda w, p: lt.ablate(w.model, w.texts, ablation="resample", metric=first_logit), InputError,
        f"Resample ablation {NEED.format('texts')}",
    ),
    "corrupted means without a corruption": Bad(
        lambda w, p: lt.ablate(w.model, w.texts, metric=first_logit), InputError,
        f"Mean ablation {NEED.format('texts')}",
    ),
    "an effect that was not measured": Bad(
        lambda w, p: w.effects.of(Head(1, 1)), NotFoundError,
        "Expected one of the 1 nodes of mean ablation (a0.h0 to a0.h0), got 'a1.h1'",
    ),
    "interval of all and nothing": Bad(
        lambda w, p: w.effects.interval(level=95), InputError,
        "Expected a level between 0 and 1, got 95; 0.95 leaves 2.5 % out at each end.",
    ),
}  # fmt: skip

CIRCUITS = {
    "a circuit of no edges": Bad(
        lambda w, p: lt.discover(w.model, w.prompts, n_edges=0), InputError,
        "Expected a whole number of edges from 1 to 1,519, got 0; try 100.",
    ),
    "a circuit of all edges and more": Bad(
        lambda w, p: lt.discover(w.model, w.prompts, n_edges=1520), InputError, "from 1 to 1,519, got 1520; try 100."
    ),
    "half an edge": Bad(
        lambda w, p: lt.discover(w.model, w.prompts, n_edges=3.5), InputError,
        "Expected n_edges as a whole number, got 3.5; give that, or leave it out."
    ),
    "neither a size nor a threshold": Bad(
        lambda w, p: lt.circuits.select(lt.circuits.eap(w.model, w.prompts)), InputError,
        "Expected n_edges or threshold, got neither; say how many edges or how large a score.",
    ),
    "a size and a threshold": Bad(
        lambda w, p: lt.discover(w.model, w.prompts, n_edges=9, threshold=0.1), InputError,
        "Expected n_edges or threshold, got both; leave one out.",
    ),
    "a threshold of nothing": Bad(
        lambda w, p: lt.discover(w.model, w.prompts, threshold=0), InputError,
        "Expected a threshold above 0, in units of the metric, got 0; try 0.01.",
    ),
    "ACDC of nothing": Bad(
        lambda w, p: lt.circuits.acdc(w.model, w.prompts, tau=0), InputError,
        "Expected a threshold tau above 0, in units of the metric, got 0; try 0.01.",
    ),
    "discovery by a negative tau": Bad(
        lambda w, p: lt.discover(w.model, w.prompts, method="acdc", tau=-1), InputError,
        "Expected a threshold above 0, in units of the metric, got -1; try 0.01.",
    ),
    "ACDC without tau": Bad(
        lambda w, p: lt.discover(w.model, w.prompts, method="acdc", n_edges=9), InputError,
        "Expected tau for the method acdc, got none; try tau=0.01, in units of the metric.",
    ),
    "steps of a method without": Bad(
        lambda w, p: lt.discover(w.model, w.prompts, method="acdc", tau=0.1, steps=5), InputError,
        "got 'steps'; leave it out.",
    ),
    "half a step": Bad(
        lambda w, p: lt.discover(w.model, w.prompts, n_edges=9, method="eap_ig", steps=0.5), InputError,
        "Expected steps as a whole number, got 0.5; 5 is the default.",
    ),
    "a threshold for a number of edges": Bad(
        lambda w, p: lt.discover(w.model, w.prompts, threshold=0.1, selection="top"), InputError,
        "Expected n_edges for the selection top, got threshold; give n_edges instead.",
    ),
    "a number of edges for a threshold": Bad(
        lambda w, p: lt.discover(w.model, w.prompts, n_edges=9, selection="threshold"), InputError,
        "Expected threshold for the selection threshold, got n_edges; give threshold instead.",
    ),
    "a share of more than all": Bad(
        lambda w, p: lt.discover(w.model, w.prompts, n_edges=9, selection="pnr", pnr=50), InputError,
        "Expected pnr as a share of the edges from 0 to 1, got 50; 0.5 is the default.",
    ),
    "a share for another selection": Bad(
        lambda w, p: lt.discover(w.model, w.prompts, n_edges=9, pnr=0.5), InputError,
        "Expected options of greedy (it has none), got 'pnr'; leave it out.",
    ),
    "stability of one prompt": Bad(
        lambda w, p: stable_edges(eap(w.model, w.prompts[:1])), InputError,
        "Expected scores of two prompts or more to draw from, got 1; score more prompts.",
    ),
    "unknown discovery": Bad(
        lambda w, p: lt.discover(w.model, w.prompts, n_edges=9, method="epa"), NotFoundError,
        f"Expected a discovery method, one of {', '.join(METHODS)}; got 'epa'. Did you mean",
    ),
    "unknown selection": Bad(
        lambda w, p: lt.discover(w.model, w.prompts, n_edges=9, selection="best"), NotFoundError,
        f"Expected a selection, one of {', '.join(SELECTIONS)}; got 'best'.",
    ),
    "option of another method": Bad(
        lambda w, p: lt.discover(w.model, w.prompts, n_edges=9, max_edges=9), InputError,
        "got 'max_edges'; leave it out.",
    ),
    "EAP without a corruption": Bad(
        lambda w, p: eap(w.model, w.texts, metric=first_logit), InputError, f"EAP {NEED.format('texts')}"
    ),
    "EAP of KL": Bad(
        lambda w, p: eap(w.model, w.prompts, metric="kl"), InputError,
        "Expected a task metric for EAP: the gradient of kl is zero at the clean run",
    ),
    "EAP of a count": Bad(
        lambda w, p: eap(w.model, w.prompts, metric=no_gradient), InputError,
        "Expected a metric with a gradient, got no_gradient, which has none (a count or an argmax?); use 'logit_diff'",
    ),
    "every edge of a large model": Bad(
        lambda w, p: exact(w.model, w.prompts, max_edges=1000), LimitError,
        "Expected at most 1,000 edges for the exact method (one run each), got 1,519; "
        "use method='eap' or raise max_edges.",
    ),
    "unknown ablation of edges": Bad(
        lambda w, p: lt.evaluate(w.model, w.prompts, w.full, ablation="noise"), InputError,
        "Expected ablation zero, mean, resample or Mean(...), got 'noise'; choose one.",
    ),
    "a circuit without a corruption": Bad(
        lambda w, p: lt.evaluate(w.model, w.texts, w.full, metric=first_logit), InputError,
        f"Resample ablation of edges {NEED.format('texts')}",
    ),
    "a circuit run without a corruption": Bad(
        lambda w, p: lt.run_circuit(w.model, w.equal, w.full, ablation="mean"), InputError,
        f"Mean ablation of edges {NEED.format('ioi')}",
    ),
    "clean run and empty circuit alike": Bad(
        lambda w, p: lt.evaluate(w.model, w.prompts, w.full, metric=constant), InputError,
        "The model and the empty circuit give the same constant, so faithfulness has no scale; "
        "choose another corruption or another metric.",
    ),
    "circuit of another model": Bad(
        lambda w, p: lt.evaluate(w.gate, w.gate_prompts, w.full), MismatchError,
        "This circuit belongs to Graph(4 layers x 8 heads, 1,519 edges), and the model is "
        "Graph(1 layers x 2 heads, 13 edges); load the circuit's model.",
    ),
    "less than no random circuits": Bad(
        lambda w, p: lt.evaluate(w.model, w.prompts, w.full, draws=-1), InputError,
        "Expected 0 or more random circuits, got -1; 10 is the default.",
    ),
    "union of two models": Bad(
        lambda w, p: w.full | lt.Circuit.full(lt.Graph.of(w.gate)), MismatchError,
        "Expected circuits of one graph, got Graph(4",
    ),
    "a background of other prompts": Bad(
        lambda w, p: lt.run_circuit(w.model, w.prompts[:2], w.full, ablation=background(w.model, w.prompts)),
        MismatchError,
        "Expected a background of Graph(4 layers x 8 heads, 1,519 edges) on [2, 15] tokens, got one of Graph(4",
    ),
    "an ablation that nobody knows": Bad(
        lambda w, p: lt.run_circuit(w.model, w.prompts, w.full, ablation="noise"), InputError,
        "Expected ablation zero, mean, resample or Mean(...), got 'noise'; choose one.",
    ),
    "an edge backwards": Bad(
        lambda w, p: lt.Circuit.of(w.graph, ["m1->m0"]), InputError,
        "m1->m0 is not an edge of this graph (Graph(4 layers x 8 heads, 1,519 edges)); a writer must come before",
    ),
    "an edge that is none": Bad(
        lambda w, p: lt.Circuit.of(w.graph, ["m0 to m1"]), InputError,
        "Expected an edge such as 'a5.h5->a8.h6<v>', got 'm0 to m1'.",
    ),
    "a mask of another shape": Bad(
        lambda w, p: lt.Circuit(w.graph, torch.zeros(2, 2, dtype=torch.bool)), MismatchError,
        "Expected a mask of (37, 101) (writers x ports), got (2, 2); start from Circuit.empty(graph).mask.",
    ),
    "a mask of numbers": Bad(
        lambda w, p: lt.Circuit(w.graph, w.graph.real.float()), InputError,
        "Expected a mask of booleans, got torch.float32; compare scores with a threshold.",
    ),
    "a mask of impossible edges": Bad(
        lambda w, p: lt.Circuit(w.graph, torch.ones_like(w.graph.real)), InputError,
        "The mask selects edges that the graph does not have: a writer must come before its reader; write mask &",
    ),
    "without a node it never had": Bad(
        lambda w, p: w.full.without(Head(7, 7)), NotFoundError,
        "Expected one of the 37 nodes of the graph (input to m3), got 'a7.h7'",
    ),
    "NaN scores, saved": Bad(
        lambda w, p: replace(w.full, scores=torch.full(w.graph.real.shape, torch.nan)).save(p / "c.json"), InputError,
        "Expected finite numbers to write into 'c.json', got NaN or infinity; look for them in what you save.",
    ),
    "saved to a folder": Bad(
        lambda w, p: w.full.save(p), InputError, "is a folder; add a file name."
    ),
    "no circuit file": Bad(
        lambda w, p: lt.Circuit.load(p / "c.json"), NotFoundError,
        "Expected the file 'c.json', found none at that path; check the path.",
    ),
    "truncated circuit": Bad(
        lambda w, p: lt.Circuit.load(p / "c.json"), FileFormatError, "it is truncated or not ours: write it again.",
        given=lambda w, p: half(w.full.save(p / "c.json")),
    ),
    "a trace for a circuit": Bad(
        lambda w, p: lt.Circuit.load(p / "run" / "trace.json"), FileFormatError,
        "says it is 'llmtrace.trace'; it is a trace: read it with lt.load_trace.",
        given=a_trace(),
    ),
    "newer circuit": Bad(
        lambda w, p: lt.Circuit.load(p / "c.json"), FileFormatError,
        "'c.json' has schema version 2 and this llmtrace reads up to 1; upgrade llmtrace-interp.",
        given=a_circuit(schema_version=2),
    ),
    "circuit of no version": Bad(
        lambda w, p: lt.Circuit.load(p / "c.json"), FileFormatError,
        "Expected a schema version from 1 to 1 in 'c.json', got -1",
        given=a_circuit(schema_version=-1),
    ),
    "circuit with an impossible edge": Bad(
        lambda w, p: lt.Circuit.load(p / "c.json"), FileFormatError,
        "'c.json' does not follow the circuit schema: m1->m0 is not an edge of this graph",
        given=a_circuit(edges=["m1->m0"]),
    ),
    "circuit with an unknown field": Bad(
        lambda w, p: lt.Circuit.load(p / "c.json"), FileFormatError,
        "'c.json' does not follow the circuit schema: extra: Extra inputs are not permitted; discover it again.",
        given=a_circuit(extra=1),
    ),
    "circuit short of scores": Bad(
        lambda w, p: lt.Circuit.load(p / "c.json"), FileFormatError,
        "Expected a score for each of 1 edges in 'c.json', got 0; discover it again.",
        given=a_circuit(scores=[]),
    ),
    "circuit of infinite scores": Bad(
        lambda w, p: lt.Circuit.load(p / "c.json"), FileFormatError, "(Infinity is not a number of JSON)",
        given=a_circuit(scores=[float("inf")]),
    ),
    "circuit of no layers": Bad(
        lambda w, p: lt.Circuit.load(p / "c.json"), FileFormatError,
        "Expected whole numbers of layers, heads and key-value heads above 0",
        given=a_graph(n_layers=-4),
    ),
    "circuit of three groups of eight heads": Bad(
        lambda w, p: lt.Circuit.load(p / "c.json"), FileFormatError, "the last dividing the second, got 4, 8, 3",
        given=a_graph(n_kv_heads=3),
    ),
}  # fmt: skip

PLOTS = {
    "a figure of a number": Bad(lambda w, p: lt.plot(3), InputError, "got int; plot what a method returned."),
    "a figure of a metric": Bad(
        lambda w, p: lt.plot(w.prompts.metric()), InputError, "got Metric; plot what a method returned."
    ),
    "unknown option of a figure": Bad(
        lambda w, p: lt.plot(w.effects, colour="red"),
        InputError,
        "figure of Effects (top, level, seed, normalised), got 'colour'.",
    ),
}

TABLE = {
    f"{room}: {what}": row
    for room, rows in {
        "load": LOAD, "prompts": PROMPTS, "metrics": METRICS, "signals": SIGNALS, "influence": INFLUENCE,
        "interventions": INTERVENTIONS, "circuits": CIRCUITS, "plots": PLOTS,
    }.items()
    for what, row in rows.items()
}  # fmt: skip


@pytest.fixture(scope="module")
def world() -> World:
    return World()


def contents(folder: Path) -> dict[Path, bytes | None]:
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.mark.parametrize("bad", TABLE.values(), ids=TABLE.keys())
def test_bad_input_gets_one_sentence_and_leaves_nothing_behind(
    bad: Bad, world: World, tmp_path: Path, as_users_run: None
) -> None:
    bad.given(world, tmp_path)
    before = contents(tmp_path)
    with pytest.raises(LLMTraceError) as caught:
        bad.call(world, tmp_path)
    said = str(caught.value)
    assert type(caught.value) is bad.error, said
    assert caught.value.exit_code == EXIT_CODES[bad.error]
    assert bad.sentence in said
    assert said.endswith((".", "?")) and "\n" not in said, said
    assert contents(tmp_path) == before


def test_without_a_corruption_what_needs_none_still_works(world: World) -> None:
    metric = world.texts.metric(first_logit)
    effects = lt.ablate(world.model, world.texts, [Head(2, 2)], ablation="zero", metric=metric)
    assert effects.other is None and "share" not in effects.df()
    assert lt.ablate(world.model, world.texts, [Head(2, 2)], reference="clean", metric=metric).mean().isfinite()


def test_a_circuit_in_other_weights_is_run_and_said_to_be(world: World) -> None:
    found = lt.discover(world.gate, world.gate_prompts, n_edges=5)
    report = lt.evaluate(lt.load("and-gate"), world.gate_prompts, found, draws=0)
    assert report.caveats == ("the circuit was found in other weights (or-gate)",)
    assert lt.evaluate(world.gate, world.gate_prompts, found, draws=0).caveats == ()
