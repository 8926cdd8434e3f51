"""Files appear whole or not at all, also where a program was killed while it wrote them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from llmtrace.files import atomic_folder

KILLED = """
import os, signal, sys
from pathlib import Path
from llmtrace import files

at, when = Path(sys.argv[1]), sys.argv[2]
moved = os.replace

def replace(old, new):
    if when == "moved away" and Path(new) == at:
        os.kill(os.getpid(), signal.SIGKILL)
    moved(old, new)

os.replace = replace
with files.atomic_folder(at, overwrite=True) as draft:
    (draft / "new").write_text("new")
    if when == "half-written":
        os.kill(os.getpid(), signal.SIGKILL)
"""


def killed(at: Path, when: str) -> None:
    ended = subprocess.run([sys.executable, "-c", KILLED, str(at), when], check=False)
    assert ended.returncode == -signal.SIGKILL and len(drafts(at)) == 1


def drafts(at: Path) -> list[Path]:
    return [found for found in at.parent.iterdir() if found.name.startswith(f".{at.name}.")]


pytestmark = pytest.mark.skipif(os.name != "posix", reason="folders have no locks here")


@pytest.mark.parametrize("when", ["half-written", "moved away"])
def test_what_a_killed_program_left_is_cleared_by_the_next(when: str, tmp_path: Path) -> None:
    at = tmp_path / "out"
    with atomic_folder(at) as draft:
        (draft / "old").write_text("old")
    killed(at, when)
    assert at.exists() is (when == "half-written")
    with pytest.raises(RuntimeError), atomic_folder(at, overwrite=True):
        raise RuntimeError("this one ends badly too")
    assert (at / "old").read_text() == "old" and not drafts(at)
    with atomic_folder(at, overwrite=True) as draft:
        (draft / "last").write_text("last")
    assert [file.name for file in at.iterdir()] == ["last"] and not drafts(at)


def test_what_somebody_is_writing_is_left_alone(tmp_path: Path) -> None:
    at, others = tmp_path / "out", tmp_path / ".out.settings"
    others.mkdir()
    with atomic_folder(at) as first:
        (first / "slow").write_text("slow")
        with atomic_folder(at) as second:
            (second / "quick").write_text("quick")
        assert (first / "slow").exists()
        (at / "quick").unlink()
    assert (at / "slow").exists() and others.is_dir()
