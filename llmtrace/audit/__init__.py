"""Watching the inside of a model: monitors, and the evidence that they mean anything.

study(model, labelled)      fit -> calibrate -> test -> prove, on four disjoint sets, beside baselines -> MonitorStudy
split(labelled)             the four sets, by kind
by_output, labelled_jsonl   labelled prompts; `SETS` makes some: lt.audit.embedded_instruction(model)
"""

from typing import TYPE_CHECKING, Any

from llmtrace.audit.rows import BASELINES as BASELINES, MONITORS as MONITORS, SETS as SETS
from llmtrace.rooms import open_room

if TYPE_CHECKING:
    from llmtrace.audit.labelled import (
        LabelledPrompts as LabelledPrompts,
        by_output as by_output,
        labelled_jsonl as labelled_jsonl,
    )
    from llmtrace.audit.monitor_study import MonitorStudy as MonitorStudy
    from llmtrace.audit.splits import Split as Split, split as split
    from llmtrace.audit.study import study as study
    from llmtrace.audit.watch import Watch as Watch, measured as measured

    def __getattr__(name: str) -> Any: ...  # a row that was added later


register = MONITORS.register
open_room(__name__, SETS)
