"""Any noun -> a plotly figure, and figures -> a self-contained report. Only this room imports plotly; it runs no model.

plot(effects)                        a Figure: returned, never shown
plot(trace, layer=3, head=1)         the options of a noun are those of its drawing function
save_report("report.html", "IOI", [Section("Effects", "...", figure=plot(effects))], provenance=effects.provenance)
"""

from typing import TYPE_CHECKING

from llmtrace.rooms import open_room

if TYPE_CHECKING:
    from llmtrace.plots.plot import plot as plot
    from llmtrace.plots.report import Section as Section, report as report, save_report as save_report
    from llmtrace.plots.rows import NOUNS as NOUNS, register as register

open_room(__name__)
