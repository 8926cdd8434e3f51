"""One thread owns the model: whatever is asked of it waits in one queue, views before jobs.

Equal requests share one answer. The queue is bounded: who comes when it is full is told to come again (`Busy`). A job
is stopped between passes, by the callback that `progress.listen` calls there, or before it has begun.
"""

from __future__ import annotations

import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import count
from queue import PriorityQueue
from typing import Any, Literal

from llmtrace.console.rows import key_of
from llmtrace.console.schemas import Event, Job
from llmtrace.console.service.problems import Busy
from llmtrace.errors import Cancelled, LLMTraceError, NotFoundError
from llmtrace.progress import listen

VIEWS_WAITING, JOBS_WAITING, JOBS_KEPT = 256, 16, 128
State = Literal["waiting", "running", "done", "cancelled", "failed"]
ENDED = ("done", "cancelled", "failed")
Emit = Callable[[int, list[float]], None]


@dataclass(eq=False)
class Work:
    """A job as it goes on. Written by the worker, read by those who follow it; `lock` stands between them."""

    id: str
    view: str
    query: dict[str, str]
    make: Callable[[Emit], object]
    state: State = "waiting"
    done: int = 0
    total: int = 0
    problem: str | None = None
    rows: dict[int, list[float]] = field(default_factory=dict)
    stopped: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def job(self) -> Job:
        return Job(
            id=self.id, view=self.view, query=self.query, state=self.state, done=self.done, total=self.total,
            problem=self.problem,
        )  # fmt: skip

    def since(self, seen: set[int]) -> Event:
        """The state, and the rows that are not in `seen`, which then are."""
        with self.lock:
            new = {index: values for index, values in self.rows.items() if index not in seen}
            seen.update(new)
            return Event(job=self.job(), rows=new)

    def run(self) -> None:
        """In the worker's thread."""
        if self.stopped:
            return
        with self.lock:
            self.state = "running"
        outermost: list[str] = []

        def step(done: int, total: int | None, label: str) -> None:
            if self.stopped:
                raise Cancelled("Stopped; nothing was kept.")
            outermost[:] = outermost or [label]
            if label == outermost[0]:
                with self.lock:
                    self.done, self.total = done, total or 0

        def emit(index: int, values: list[float]) -> None:
            with self.lock:
                self.rows[index] = values

        try:
            with listen(step):
                self.make(emit)
        except Cancelled:
            self._end("cancelled")
        except LLMTraceError as error:
            self._end("failed", str(error))
        except Exception as error:
            print(f"llmtrace console: {self.view}: {type(error).__name__}: {error}", file=sys.stderr)
            self._end("failed", "The service failed on this job; its terminal says more.")
        else:
            self._end("done")

    def stop(self) -> None:
        """At once where it has not begun, else between two passes."""
        self.stopped = True
        with self.lock:
            if self.state == "waiting":
                self.state = "cancelled"

    def _end(self, state: State, problem: str | None = None) -> None:
        with self.lock:
            self.state, self.problem = state, problem


class Worker:
    """The thread, its queue, and the jobs that it has or had."""

    def __init__(self) -> None:
        self._queue: PriorityQueue[tuple[int, int, Callable[[], None]]] = PriorityQueue()
        self._order, self._lock = count(), threading.Lock()
        self._asked: dict[str, Future[Any]] = {}
        self._jobs: OrderedDict[str, Work] = OrderedDict()
        self._thread = threading.Thread(target=self._serve, name="llmtrace console", daemon=True)
        self._thread.start()

    def ask(self, key: str, make: Callable[[], Any]) -> Future[Any]:
        """What `make` gives, in the worker's thread; of equal keys at one time it is made once."""
        with self._lock:
            if (known := self._asked.get(key)) is not None:
                return known
            if len(self._asked) >= VIEWS_WAITING:
                raise Busy(f"Expected at most {VIEWS_WAITING} questions at once, got one more; ask again soon.")
            future: Future[Any] = Future()
            self._asked[key] = future
        self._put(0, lambda: self._answer(key, make, future))
        return future

    def start(self, view: str, query: Mapping[str, str], make: Callable[[Emit], object], *, known: bool) -> Job:
        """A job, or the one that does the same already. `known`: its answer is there."""
        with self._lock:
            key = key_of(view, query)
            same = [work for work in self._jobs.values() if key_of(work.view, work.query) == key and not work.stopped]
            for work in reversed(same):
                if work.state in ("waiting", "running") or (work.state == "done" and known):
                    return work.job()
            if sum(work.state == "waiting" for work in self._jobs.values()) >= JOBS_WAITING and not known:
                raise Busy(f"Expected at most {JOBS_WAITING} jobs to wait, got one more; cancel one or ask again soon.")
            work = Work(f"j{next(self._order)}", view, dict(query), make, state="done" if known else "waiting")
            self._jobs[work.id] = work
            for old in [job for job in self._jobs.values() if job.state in ENDED][:-JOBS_KEPT]:
                del self._jobs[old.id]
        if not known:
            self._put(1, work.run)
        return work.job()

    def jobs(self) -> list[Job]:
        with self._lock:
            return [work.job() for work in self._jobs.values()]

    def work(self, job: str) -> Work:
        found = self._jobs.get(job)
        if found is None:
            raise NotFoundError(f"Expected the id of a job, got {job[:40]!r}; start it again.")
        return found

    def close(self) -> None:
        """Stop what runs, and end the thread."""
        for work in list(self._jobs.values()):
            work.stop()
        self._queue.put((2, next(self._order), sys.exit))
        self._thread.join()

    def _put(self, priority: int, call: Callable[[], None]) -> None:
        self._queue.put((priority, next(self._order), call))

    def _serve(self) -> None:
        while True:
            call = self._queue.get()[2]
            if call is sys.exit:
                return
            call()

    def _answer(self, key: str, make: Callable[[], Any], future: Future[Any]) -> None:
        if not future.set_running_or_notify_cancel():
            found, error = None, None
        else:
            try:
                found, error = make(), None
            except BaseException as raised:
                found, error = None, raised
        with self._lock:
            self._asked.pop(key, None)
        if not future.cancelled():
            future.set_exception(error) if error is not None else future.set_result(found)
