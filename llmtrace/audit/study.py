"""Fit -> calibrate -> test -> prove: four steps on four disjoint sets, monitors and baselines alike.

    fit         on labelled prompts
    calibrate   the threshold at a chosen false-positive rate, with an exact interval; a value as a probability
    test        AUROC, true positives at 1 % and 5 % false ones, calibration error: on kinds of prompts never seen
    before prove       an intervention on what is watched, beside interventions of the same size drawn by lot

Cost: 1 F over each of the first three sets for all monitors of cached activations together, each other monitor's own
passes, and 20 F over the True prompts of the last set for each monitor with something to take hold of.
Sign: larger = likelier that the model did what is watched for.
Known failure: what holds on these kinds of prompts need not hold on others; four sets of a few kinds each are few.

    lt.audit.study(model, lt.audit.embedded_instruction(model)).df()
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from llmtrace.audit.evidence.calibration import platt
from llmtrace.audit.evidence.prove import prove
from llmtrace.audit.evidence.roc import require_rate, threshold_at
from llmtrace.audit.labelled import LabelledPrompts
from llmtrace.audit.monitor_study import MonitorStudy
from llmtrace.audit.rows import BASELINES, MONITORS
from llmtrace.audit.splits import Split, split
from llmtrace.audit.watch import Watch, measured
from llmtrace.errors import InputError
from llmtrace.models import TraceModel, provenance
from llmtrace.progress import track


def study(
    model: TraceModel,
    labelled: LabelledPrompts | Split,
    *,
    monitors: Sequence[str] | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    rate: float = 0.05,
    draws: int = 19,
    seed: int = 0,
) -> MonitorStudy:
    """What `monitors` are worth on these prompts, beside every baseline.

    labelled   prompts of at least four kinds, dealt out by `split` with `seed`; or sets of your own
    monitors   names of `MONITORS`. None: those that need no passes of their own, and whose spans the prompts have
    options    by monitor, of its fit: {"mean_difference": {"layer": 2}}
    rate       of false alarms that the threshold keeps on the calibration's prompts
    draws      of the causal step; 0 leaves nothing to compare with

    Raises InputError for sets that overlap or have one class only, a rate outside 0 to 1, no monitor; NotFoundError for
    an unknown one.
    """
    require_rate(rate)
    if draws < 1:
        raise InputError(f"Expected at least one draw by lot to compare with, got draws={draws}; leave it out for 19.")
    sets = labelled if isinstance(labelled, Split) else split(labelled, seed=seed)
    names = _usual(sets) if monitors is None else [MONITORS[name].name for name in monitors]
    if not names:
        raise InputError(f"Expected at least one monitor, got none; choose of {', '.join(MONITORS)}.")
    asked = dict(options or {})
    if unread := [name for name in asked if name not in (*names, *BASELINES)]:
        raise InputError(f"Expected options of the monitors of this study, got some of {unread[0]!r}; leave them out.")
    rows = [*(("monitor", MONITORS[name]) for name in names), *(("baseline", row) for row in BASELINES.values())]
    watches: list[Watch] = [
        row(model, sets.fit, **row.read_options(asked.get(row.name, {}))) for _, row in track(rows, "fitting")
    ]
    calibration = measured(model, sets.calibrate.prompts, sets.calibrate.spans, watches)
    false = calibration[:, ~sets.calibrate.labels]
    thresholds = tuple(threshold_at(one, rate) for one in false)
    return MonitorStudy(
        watches=tuple(watches),
        roles=tuple(role for role, _ in rows),
        threshold=thresholds,
        alarms=torch.stack([one.double() > at for one, at in zip(false, thresholds, strict=True)]),
        platt=tuple(platt(one, sets.calibrate.labels) for one in calibration),
        values=measured(model, sets.test.prompts, sets.test.spans, watches),
        labels=sets.test.labels,
        proofs=tuple(
            prove(model, watch.lever(), sets.prove, draws=draws, seed=seed) for watch in track(watches, "proving")
        ),
        kinds={step: tuple(sorted({*some.kinds})) for step, some in sets.steps()},
        meaning=sets.test.meaning,
        rate=rate,
        seed=seed,
        provenance=provenance(model).as_dict(),
    )


def _usual(sets: Split) -> list[str]:
    """Monitors of cached activations; those that ask for an instruction where the prompts have one."""
    has_instruction = "instruction" in sets.fit.spans.names
    return [
        name
        for name, row in MONITORS.items()
        if "passes" not in row.needs and (has_instruction or "spans" not in row.needs)
    ]
