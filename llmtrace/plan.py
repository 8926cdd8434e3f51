"""`plan`: what would it cost? One verb for everything that can say so before it is run.

    lt.plan(lt.path_patch, model, prompts, senders=[Head(9, 9)])     the arguments of the call itself

A function with a cost returns a `Declaration`: what was asked, checked and not yet done. `@declares` makes it the
function that a user calls, which does it at once; `function.declare(...)` is the declaration.

    >>> lt.plan(lt.path_patch, model, prompts).work
    '32 interventions: 2.9 forward passes'
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, Generic, ParamSpec, Protocol, TypeVar, cast, runtime_checkable

from llmtrace.errors import InputError
from llmtrace.models.memory import size

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


@dataclass(frozen=True)
class Plan(ABC):
    """What a call would cost.

    bytes            at the peak, beside the weights (estimated)
    prompts_at_once  how many prompts share a pass
    """

    bytes: int
    prompts_at_once: int

    @property
    @abstractmethod
    def work(self) -> str:
        """What is run, and in how many passes over the prompts."""

    def __str__(self) -> str:
        return f"{self.work}, {self.prompts_at_once} prompts at once, about {size(self.bytes)} beside the weights"


class Declaration(ABC, Generic[R_co]):
    """What was asked for and is not yet done."""

    @property
    @abstractmethod
    def plan(self) -> Plan:
        """What it will cost. Runs nothing."""

    @abstractmethod
    def run(self) -> R_co:
        """Do it."""


@runtime_checkable
class Declares(Protocol[P, R_co]):
    """A function that does what it is asked, or with `declare` says it first."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...

    def declare(self, *args: P.args, **kwargs: P.kwargs) -> Declaration[R_co]: ...


def declares(declare: Callable[P, Declaration[R]]) -> Declares[P, R]:
    """The function that runs at once what `declare` declares: its arguments and documentation, the run's result."""

    @wraps(declare)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        return declare(*args, **kwargs).run()

    signature = inspect.signature(declare)
    result = str(signature.return_annotation).removeprefix("Declaration[").removesuffix("]")
    run.__signature__ = signature.replace(return_annotation=result)  # type: ignore[attr-defined]
    run.__annotations__ = {**declare.__annotations__, "return": result}
    run.declare = declare  # type: ignore[attr-defined]
    return cast(Declares[P, R], run)


def plan(function: Declares[P, Any], *args: P.args, **kwargs: P.kwargs) -> Plan:
    """What `function` would cost with these arguments, from shapes alone: no pass is run.

    Raises what the function itself raises for its arguments, InputError for a function that does not know its cost.
    """
    declare = getattr(function, "declare", None)
    if declare is None:
        raise InputError(
            "Expected a function that knows its cost, such as path_patch or discover, got "
            f"{getattr(function, '__name__', repr(function))}; just run it."
        )
    return cast(Declaration[Any], declare(*args, **kwargs)).plan
