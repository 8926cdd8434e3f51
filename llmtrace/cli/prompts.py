"""Which prompts a command line asks for, and the options that ask for the same again."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmtrace.errors import InputError, NotFoundError, did_you_mean

if TYPE_CHECKING:
    from llmtrace.models import TraceModel
    from llmtrace.prompts import PromptSet

KNOWN = "known"  # the pair of prompts under which a hand-built model's circuit is known edge by edge


@dataclass(frozen=True)
class Asked:
    """One of: texts as they stand, a file of pairs, or a task (default: ioi) with n, corruption and seed."""

    task: str | None = None
    n: int | None = None
    corruption: str | None = None
    file: Path | None = None
    texts: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        given = {"--prompt": bool(self.texts), "--prompts": self.file is not None, "--task": self.task is not None}
        both = [option for option, here in given.items() if here]
        if len(both) > 1:
            raise InputError(
                f"Expected one of --prompt, --prompts and --task, got {' and '.join(both)}; leave one out."
            )
        made = {"-n": self.n, "--corruption": self.corruption}
        for option, value in made.items():
            if value is not None and both and both != ["--task"]:
                raise InputError(f"Expected {option} with --task only, got it with {both[0]}; leave it out.")
        if self.corruption is not None and (self.task or "ioi") != "ioi":
            raise InputError(f"Expected --corruption with --task ioi only, got it with {self.task}; leave it out.")

    def make(self, model: TraceModel, source: str) -> PromptSet:
        """Raises what the makers raise, NotFoundError for an unknown task."""
        from llmtrace.prompts import MAKERS, from_jsonl, from_pairs, from_texts

        if self.texts:
            return from_texts(model, self.texts)
        if self.file is not None:
            return from_jsonl(model, self.file)
        pair = _known_pair(source)
        tasks = [name for name, maker in MAKERS.items() if not maker.needs]
        task = self.task or (KNOWN if pair else "ioi")
        if task == KNOWN and pair:
            if self.n is not None or self.corruption is not None:
                raise InputError(
                    f"{source} has one known pair of prompts, so -n and --corruption mean nothing; leave them out."
                )
            return from_pairs(model, [pair], name=f"{source}, known circuit")
        if task not in tasks:
            raise NotFoundError(f"Expected a task, one of {', '.join(tasks)}; got {task!r}.{did_you_mean(task, tasks)}")
        options: dict[str, Any] = {} if self.corruption is None else {"corruption": self.corruption}
        prompts: PromptSet = MAKERS[task](model, n=16 if self.n is None else self.n, seed=self.seed, **options)
        return prompts

    def make_with(self, model: TraceModel, source: str, *, seed: int) -> PromptSet:
        """Other prompts of the same kind."""
        return replace(self, seed=seed).make(model, source)

    def flags(self, *, seed: int | None = None) -> str:
        """As typed, with a leading space; nothing for defaults."""
        parts: list[Any] = [item for text in self.texts for item in ("--prompt", text)]
        named = {"--prompts": self.file, "--task": self.task, "-n": self.n, "--corruption": self.corruption}
        parts += [item for option, value in named.items() if value is not None for item in (option, value)]
        seed = self.seed if seed is None else seed
        parts += ["--seed", seed] if seed else []
        return "".join(f" {shlex.quote(str(part))}" for part in parts)


def _known_pair(source: str) -> dict[str, str] | None:
    from llmtrace.models.hand_built import CIRCUITS

    circuit = CIRCUITS.get(source.lower())
    if circuit is None:
        return None
    return {key: getattr(circuit, key) for key in ("clean", "corrupted", "correct", "wrong")}


def described(prompts: PromptSet) -> str:
    """`16 ioi prompts (corruption abc, seed 0; left out: 3 names)`."""
    count = f"{len(prompts)} prompt{'s' if len(prompts) != 1 else ''}"
    facts = []
    if prompts.corruption:
        facts.append(f"corruption {prompts.corruption}")
    if prompts.seed is not None:
        facts.append(f"seed {prompts.seed}")
    left_out = ", ".join(f"{n} {what}" for what, n in prompts.left_out.items() if n)
    inside = "; ".join(filter(None, [", ".join(facts), left_out and f"left out: {left_out}"]))
    return f"{count} of {prompts.name}" + (f" ({inside})" if inside else "")
