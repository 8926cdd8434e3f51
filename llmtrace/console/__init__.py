"""The Inspection Console: follow a prediction to a head, change it, see what changes. In the browser, on this machine.

llmtrace console tiny-english            a model: every view, edits, jobs
llmtrace console FOLDER                  what was saved, without a model
lt.save_html(trace, "trace.html")        one file to hand over; lt.show(trace) is the same in a notebook
"""

from typing import TYPE_CHECKING

from llmtrace.console.rows import VIEWS as VIEWS
from llmtrace.rooms import open_room

if TYPE_CHECKING:
    from llmtrace.console.page import save_html as save_html, show as show

open_room(__name__)
