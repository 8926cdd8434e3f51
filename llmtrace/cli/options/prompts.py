"""Which prompts a command line asks for, and the options that ask for the same again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmtrace.cli.options.from_rows import as_kinds, flag, flags
from llmtrace.errors import FileFormatError, InputError, NotFoundError, did_you_mean
from llmtrace.methods import Method
from llmtrace.prompts.rows import MAKERS

if TYPE_CHECKING:
    from llmtrace.models import TraceModel
    from llmtrace.prompts import Chat, PromptSet

KNOWN = "known"  # the pair of prompts under which a hand-built model's circuit is known edge by edge


@dataclass(frozen=True)
class Talk:
    """A conversation. `jinja`: what is in the file `template`; None: the model's own template."""

    messages: tuple[tuple[str, str], ...]
    template: Path | None = None
    jinja: str | None = None
    correct: str | None = None
    wrong: str | None = None

    def make(self, model: TraceModel, named: dict[str, str] | None = None) -> Chat:
        from llmtrace.prompts import from_messages

        right, wrong = self.correct, self.wrong
        return from_messages(model, self.messages, named=named, correct=right, wrong=wrong, template=self.jinja)

    def recorded(self) -> dict[str, Any]:
        """Among the options of a result."""
        template = None if self.template is None else str(self.template)
        said = {"messages": self.messages, "template": template, "correct": self.correct, "wrong": self.wrong}
        return {name: value for name, value in said.items() if value is not None}

    def flags(self) -> list[str]:
        """As typed."""
        said = self.recorded()
        parts = [item for role, text in said.pop("messages") for item in ("--message", f"{role}={text}")]
        return parts + [item for name, value in said.items() for item in (f"--{name}", value)]


def template_in(file: Path) -> str:
    """Refused before a model is loaded: an empty template would mean the model's own."""
    if not file.is_file():
        raise NotFoundError(f"Expected a file with a chat template, got {str(file)!r}, which is none; check the path.")
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise FileFormatError(f"Expected a chat template (Jinja) in {file.name!r}, got no text; check it.") from error
    if not text.strip():
        raise InputError(f"Expected a chat template (Jinja) in {file.name!r}, got nothing; leave --template out.")
    return text


def tasks() -> dict[str, Method]:
    """The makers that need nothing but a model, those that a user registered included; the first is the default."""
    return {name: row for name, row in MAKERS.items() if not row.needs}


def of_makers() -> list[str]:
    """The options of all of them."""
    return list(dict.fromkeys(option for row in tasks().values() for option in row.option_names()))


@dataclass(frozen=True)
class Asked:
    """One of: texts as they stand, a conversation, a file of pairs, or a task (default: the first) with n and
    `options` of its own."""

    task: str | None = None
    n: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    file: Path | None = None
    texts: tuple[str, ...] = ()
    seed: int = 0
    talk: Talk | None = None

    def __post_init__(self) -> None:
        given = {"--prompt": self.texts, "--message": self.talk, "--prompts": self.file, "--task": self.task}
        both = [option for option, value in given.items() if value is not None and value != ()]
        if len(both) > 1:
            raise InputError(f"Expected one kind of prompts, got {' and '.join(both)}; leave one out.")
        made = {"-n": self.n, **{flag(name): value for name, value in self.options.items()}}
        for option, value in made.items():
            if value is not None and both and both != ["--task"]:
                raise InputError(f"Expected {option} with --task only, got it with {both[0]}; leave it out.")
        for option in self.options:
            takes = [name for name, row in tasks().items() if option in row.option_names()]
            if (task := self.task or next(iter(tasks()))) not in takes:
                known = " or ".join(takes)
                raise InputError(f"Expected {flag(option)} with --task {known} only, got it with {task}; leave it out.")

    @property
    def answered(self) -> bool:
        """Whether prompts have answers, so that something can be scored and tested."""
        return not self.texts and (self.talk is None or self.talk.correct is not None)

    def make(self, model: TraceModel, source: str) -> PromptSet:
        """Raises what the makers raise, NotFoundError for an unknown task."""
        from llmtrace.prompts import from_jsonl, from_pairs, from_texts

        if self.texts:
            return from_texts(model, self.texts)
        if self.file is not None:
            return from_jsonl(model, self.file)
        pair = _known_pair(source)
        known = tasks()
        task = self.task or (KNOWN if pair else next(iter(known)))
        if task == KNOWN and pair:
            if self.n is not None or self.options:
                several = " and ".join(["-n", *map(flag, of_makers())])
                raise InputError(f"{source} has one known pair of prompts, so {several} mean nothing; leave them out.")
            return from_pairs(model, [pair], name=f"{source}, known circuit")
        if task not in known:
            meant = did_you_mean(task, [*known])
            raise NotFoundError(f"Expected a task, one of {', '.join(known)}; got {task!r}.{meant}")
        n = 16 if self.n is None else self.n
        prompts: PromptSet = known[task](model, n=n, seed=self.seed, **as_kinds(known[task], self.options))
        return prompts

    def make_with(self, model: TraceModel, source: str, *, seed: int) -> PromptSet:
        """Other prompts of the same kind."""
        return replace(self, seed=seed).make(model, source)

    def flags(self, *, seed: int | None = None) -> str:
        """As typed, with a leading space; nothing for defaults."""
        parts: list[Any] = [item for text in self.texts for item in ("--prompt", text)]
        parts += [] if self.talk is None else self.talk.flags()
        named = {"--prompts": self.file, "--task": self.task, "-n": self.n}
        parts += [item for option, value in named.items() if value is not None for item in (option, value)]
        seed = self.seed if seed is None else seed
        last = f" --seed {seed}" if seed else ""
        return "".join(f" {shlex.quote(str(part))}" for part in parts) + flags(self.options) + last


def _known_pair(source: str) -> dict[str, str] | None:
    from llmtrace.models.hand_built.designs import CIRCUITS

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
