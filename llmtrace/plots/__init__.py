"""Any noun -> a plotly figure, and figures -> a self-contained report. Only this room imports plotly; it runs no model.

plot(effects)                        a Figure: returned, never shown
plot(trace, layer=3, head=1)         the options of a noun are those of its drawing function
save_report("report.html", "IOI", [Section("Effects", "...", figure=plot(effects))], provenance=effects.provenance)
"""

from llmtrace.plots.nouns import NOUNS, plot
from llmtrace.plots.report import Section, report, save_report

__all__ = ["NOUNS", "Section", "plot", "report", "save_report"]
