"""Results as `save` writes them: JSON beside tensors in one safetensors file, read here without their classes."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from llmtrace import nodes
from llmtrace.console.schemas import Attribution, HeadMap, Lens, Overview
from llmtrace.console.stored.effects import put_effects
from llmtrace.console.stored.found import Found, stored_run, texts
from llmtrace.console.stored.places import on_map
from llmtrace.errors import FileFormatError
from llmtrace.files import require_schema

KIND, VERSION = "llmtrace.result", 1
PROMPTS = 32  # shown
CLASS = "class"


def read_result(path: Path) -> Found:
    """Raises FileFormatError for a file that is damaged; what no view shows says so in `why`."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            about = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, TypeError) as error:
        raise FileFormatError(
            f"Expected a file that the save() of a result wrote, got {path.name!r} ({error})."
        ) from None
    version = about.get("schema_version", "")
    require_schema(about | {"schema_version": int(version) if version.isdigit() else version}, KIND, VERSION, path.name)
    try:
        noun = _plain(json.loads(about["content"]), tensors)
        kind = noun[CLASS].rpartition(":")[2]
        python = f"import llmtrace as lt\n\nfound = lt.load_result({str(path)!r})\nresult = repr(found)\n"
        return READ[kind](path.stem, noun, python) if kind in READ else Found(why={"": _unshown(kind)})
    except FileFormatError:
        raise
    except Exception as error:  # whatever a damaged file ends in
        raise FileFormatError(f"{path.name!r} is damaged ({type(error).__name__}: {error}); write it again.") from error


def _unshown(kind: str) -> str:
    return f"Expected a trace, a circuit or one of {', '.join(READ)}, got {kind}; lt.plot draws it."


def _plain(told: Any, tensors: Mapping[str, Any]) -> Any:
    """As it was, but for classes: a dict of fields with the class's name."""
    if isinstance(told, list):
        return [_plain(part, tensors) for part in told]
    if not isinstance(told, dict):
        return told
    match told:
        case {"tensor": name} | {"array": name}:
            return tensors[name]
        case {"tuple": parts}:
            return [_plain(part, tensors) for part in parts]
        case {"map": pairs}:
            return {_key(_plain(key, tensors)): _plain(part, tensors) for key, part in pairs}
        case {"class": name, "fields": fields}:
            return {CLASS: str(name), **{key: _plain(part, tensors) for key, part in fields.items()}}
        case {"number": text}:
            return float(text)
    raise FileFormatError(f"Expected what a result is written as, got {sorted(told)[:3]}; write it again.")


def _key(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _place(told: Any) -> str:
    """A node or a site by its name."""
    kinds = {"Head", "KvHead", "Mlp", "Neuron", "Embed", "Bias", "Logits", "Site"}
    kind = told[CLASS].rpartition(":")[2]
    if kind not in kinds:
        return kind
    own = {name: value for name, value in told.items() if name != CLASS}
    if kind == "Site":
        place = own["place"]
        at = tuple(own["at"])
        if isinstance(place, int):
            return str(nodes.Site(own["kind"], place, at))
        head = {name: value for name, value in place.items() if name != CLASS}
        return str(nodes.Site(own["kind"], getattr(nodes, place[CLASS].rpartition(":")[2])(**head), at))
    return str(getattr(nodes, kind)(**own))


def _effects(name: str, noun: dict[str, Any], python: str) -> Found:
    change = (noun["after"] - noun["before"]).mean(1).tolist()
    places = [" + ".join(map(_place, together)) for together in noun["nodes"]]
    found = stored_run(f"{name}: {noun['method']}", python, noun["provenance"], metric=noun["metric"], about=change)
    labels = {at: str(text) for at, text in noun["tokens"].items() if isinstance(at, int)}
    other = None if noun["other"] is None else float(noun["other"].mean())
    why = put_effects(
        found, noun["method"], dict(zip(places, change, strict=True)), before=float(noun["before"].mean()),
        other=other, passes=noun["passes"], labels=labels,
    )  # fmt: skip
    return Found([] if why else [found], {"": why} if why else {})


def _node_scores(name: str, noun: dict[str, Any], python: str) -> Found:
    values = noun["values"].mean(1).tolist()
    found = stored_run(f"{name}: {noun['method']}", python, noun["provenance"], metric=noun["metric"], about=values)
    grid = on_map(dict(zip(map(_place, noun["nodes"]), values, strict=True)))
    if grid is None:
        return Found(why={"": "The scores are of some nodes only, which fill no map of heads; plot them."})
    what = f"{noun['method']}, mean over {noun['values'].shape[1]} prompts; positive raises the metric."
    drawn = HeadMap(title=noun["method"].replace("_", " ").capitalize(), unit=noun["metric"], what=what,
                    heads=grid[0], mlps=grid[1], python=python)  # fmt: skip
    explained = None if noun["total"] is None else sum(values)
    found.put("overview", Overview(run=found.about.id, maps=[drawn], explained=explained, python=python))
    return Found([found])


def _token_influence(name: str, noun: dict[str, Any], python: str) -> Found:
    from llmtrace.influence.rows import METHODS

    found = Found()
    row = METHODS.get(noun["method"])
    for prompt, labels in enumerate(noun["labels"][:PROMPTS]):
        n = len(labels) if noun["lengths"] is None else int(noun["lengths"][prompt])
        targets = [*range(n)] if noun["targets"] is None else noun["targets"][prompt].tolist()
        scores = noun["values"][prompt, len(targets) - 1, :n].tolist()
        run = stored_run(f"{name} {prompt}", python, noun["provenance"], tokens=texts(labels[:n]),
                         metric=noun["metric"] or "", about=scores)  # fmt: skip
        total = noun["total"]
        gap = None if total is None else float(total[prompt, len(targets) - 1]) - sum(scores)
        what = noun["method"] if row is None else row.summary
        run.put("attribution", Attribution(
            run=run.about.id, method=noun["method"], what=f"{what[:1].upper()}{what[1:]}.", scores=scores, gap=gap,
            occlusion=[], correlation=None, spans=[], python=python,
        ), method=noun["method"])  # fmt: skip
        found.runs.append(run)
    return found


def _token_lens(name: str, noun: dict[str, Any], python: str) -> Found:
    kept = [i for i, stage in enumerate(noun["stages"]) if not stage.endswith("_mid")]
    found = Found()
    for prompt, labels in enumerate(noun["labels"][:PROMPTS]):
        at = [int(i) for i in noun["positions"][prompt] if i >= 0]
        if at != [*range(len(at))] or noun["probability"].shape[-1] < 2:
            return Found(
                why={"lens": "The lens was read at some positions or one token only; ask with positions=None."}
            )
        n, run = len(at), stored_run(f"{name} {prompt}", python, noun["provenance"], tokens=texts(labels[: len(at)]))
        p, rank = noun["probability"][kept, prompt, n - 1], noun["rank"][kept, prompt, n - 1]
        run.put("lens", Lens(
            run=run.about.id, stages=[noun["stages"][i] for i in kept],
            top=[texts(noun["top_tokens"][i][prompt][:n]) for i in kept],
            probability=noun["top_probability"][kept, prompt, :n].tolist(),
            correct=_logs(p[:, 0]), wrong=_logs(p[:, 1]), correct_rank=rank[:, 0].tolist(),
            wrong_rank=rank[:, 1].tolist(), python=python,
        ))  # fmt: skip
        found.runs.append(run)
    return found


def _logs(p: Any) -> list[float]:
    return [math.log(max(float(value), 1e-300)) for value in p]


READ: dict[str, Callable[[str, dict[str, Any], str], Found]] = {
    "Effects": _effects, "NodeScores": _node_scores, "TokenInfluence": _token_influence, "TokenLens": _token_lens,
}  # fmt: skip
