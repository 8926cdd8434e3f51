"""The table of families is true: each is loaded and asked again (`tests/families.py`)."""

from __future__ import annotations

import warnings

import pytest
from families import FAMILIES, measured

from llmtrace.models.family_table import USES, families, release, releases


def test_every_family_was_measured_under_this_release() -> None:
    assert release() in releases() and list(families(release())) == list(FAMILIES)


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.filterwarnings("default")  # of modelling code that is not ours
@pytest.mark.parametrize("name", FAMILIES)
def test_what_the_table_says_of_a_family_is_so(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = measured(name)
    told = families(release())[name]
    assert found["loads"] == told["loads"]
    assert {use: bool(found.get(use)) for use in USES} == {use: bool(told.get(use)) for use in USES}
