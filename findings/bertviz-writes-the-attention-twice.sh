#!/usr/bin/env bash
# bertviz 1.4.1: the page of model_view and of head_view holds all attention twice, and reads one of them. The numbers
# are put in the place of the marker PYTHON_PARAMS of its script by str.replace, and a comment on the same line says
# "HACK: PYTHON_PARAMS is a template marker": the second copy is in that comment, where no code ever reads it. A page is
# so twice as large as what is in it: 12 heads x 1,024 tokens take 355 MB, of which 177 MB are comment.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/env"
"$work/env/bin/pip" install -q torch==2.13.0 numpy==2.4.6 ipython==8.37.0
"$work/env/bin/pip" install -q --no-deps bertviz==1.4.1
"$work/env/bin/python" - <<'PYTHON'
import json
from importlib.metadata import version

import torch
from bertviz import head_view, model_view

torch.manual_seed(0)
attention = [torch.randn(1, 4, 32, 32).softmax(-1) for _ in range(3)]
numbers = json.dumps(torch.stack([layer[0] for layer in attention]).tolist())
tokens = [f"t{i}" for i in range(32)]
for view in (head_view, model_view):
    page = view(attention, tokens, html_action="return").data
    (line,) = [line for line in page.splitlines() if "const params =" in line]
    code, comment = line.split("; // HACK: ")
    times = page.count(numbers)
    print(
        f"bertviz {version('bertviz')} {view.__name__}: the attention ({len(numbers):,} characters) is in the page "
        f"({len(page):,}) {times} times, {code.count(numbers)} in code, {comment.count(numbers)} in a comment"
    )
    assert times == 2 and code.count(numbers) == comment.count(numbers) == 1, "the behaviour has changed"
PYTHON
