"""What stage pretrain computes belongs to its RECIPE: results that changed are made again, others are not."""

import json

import pytest
from golden import fill_pretraining

from ctssl.recipes import RECIPES

ANEW = "then make the numbers anew: python tests/golden/fill_pretraining.py"
TOLERANCE = 2e-3
"""Relative. With other instructions of the processor (AVX2, SSE4.1) values move by 2e-4 at most (seen)."""


@pytest.fixture(scope="module")
def want():
    return json.loads(fill_pretraining.FILE.read_text())


@pytest.fixture(scope="module")
def got(tmp_path_factory):
    return fill_pretraining.measured(tmp_path_factory.mktemp("golden") / "cohort")


def far(got, want):
    """The names whose values differ."""
    assert got.keys() == want.keys(), f"other names: {got.keys() ^ want.keys()}; {ANEW}"
    return [n for n, value in want.items() if got[n] != pytest.approx(value, rel=TOLERANCE, abs=1e-4)]


def test_values_of_pretraining_change_with_its_recipe_only(got, want):
    stores = far(got["stores"], want["stores"])
    assert not stores, f"the phantom's stores changed in {stores}, not the training; {ANEW}"
    changed = [name for part in ("history", "weights") for name in far(got[part], want[part])]
    if RECIPES["pretrain"] == want["recipe"]:
        assert not changed, f"values changed in {changed}: raise RECIPES['pretrain'], {ANEW}"
    else:
        pytest.fail(f"RECIPES['pretrain'] was raised, {ANEW}")


def test_the_comparison_can_fail(got, want):
    """A learning rate a tenth higher, or one step more, is no rounding."""
    other = {**got["history"], "patch learning_rate": got["history"]["patch learning_rate"] * 1.1}
    assert far(other, want["history"]) == ["patch learning_rate"]
    assert far({**want["history"], "graph steps": want["history"]["graph steps"] + 1}, want["history"])
