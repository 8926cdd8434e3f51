"""Watching the inside of a model: monitors, and the evidence that they mean anything.

audit(model, prompts, policy)   which prompts raise an alarm, and what would make it go away -> AuditReport;
                                the room itself may be called: lt.audit(model, prompts, policy)
study(model, labelled)      fit -> calibrate -> test -> prove, on four disjoint sets, beside baselines -> MonitorStudy
split(labelled)             the four sets, by kind
by_output, labelled_jsonl   labelled prompts; `SETS` makes some: lt.audit.embedded_instruction(model)
"""

from typing import TYPE_CHECKING, Any

from llmtrace.audit.rows import BASELINES as BASELINES, MONITORS as MONITORS, SETS as SETS
from llmtrace.rooms import Room, open_room

if TYPE_CHECKING:
    from llmtrace.audit.audit import audit as audit
    from llmtrace.audit.labelled import (
        LabelledPrompts as LabelledPrompts,
        by_output as by_output,
        labelled_jsonl as labelled_jsonl,
    )
    from llmtrace.audit.monitor_study import MonitorStudy as MonitorStudy
    from llmtrace.audit.policy import Policy as Policy, Rule as Rule
    from llmtrace.audit.report import AuditReport as AuditReport, Finding as Finding
    from llmtrace.audit.splits import Split as Split, split as split
    from llmtrace.audit.study import study as study
    from llmtrace.audit.watch import Watch as Watch, measured as measured

    def __getattr__(name: str) -> Any: ...  # a row that was added later


class AuditRoom(Room):
    """A room that is called like the verb that it is named after."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        """`audit`."""
        return self.audit(*args, **options)


register = MONITORS.register
open_room(__name__, SETS, kind=AuditRoom)
