"""A disk that fills up in the middle of a stage: the job says so, and nothing half-written is ever used."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from faults.namespace import NAMESPACE, need_mounts
from faults.small_disk import OUTPUTS

pytestmark = pytest.mark.xdist_group("workflow")

TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="module", autouse=True)
def _namespace(tmp_path_factory):
    need_mounts(tmp_path_factory.mktemp("mount"))


def outcomes(study, stage, shares):
    done = subprocess.run(
        [*NAMESPACE, sys.executable, "-m", "faults.small_disk"],
        input=json.dumps({"study": str(study.folder), "stage": stage, "shares": shares}),
        env={**os.environ, "PYTHONPATH": str(TESTS), "PYTHONWARNINGS": ""},
        text=True,
        capture_output=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def check(finished, stage, shares):
    for found in outcomes(finished, stage, shares):
        where = f"{stage} with {found['share']:.0%} of the room: {found['said'][-2000:]}"
        if found["code"] == 0:  # the results found room, and the last words of the log did not
            assert "the log cannot be written (No space left on device)" in found["said"], where
        else:
            assert "the disk is full" in found["said"], where
            assert "make room" in found["said"], where
            assert not found["ready"], where
        assert "Traceback" not in found["said"] or "the log cannot be written" in found["said"], where
        assert found["again"] == 0, found["then"]
        assert found["values"] == finished.values(), where


@pytest.mark.parametrize("stage", ["volume", "store", "features"])
def test_a_full_disk_is_told_and_leaves_nothing_wrong(finished, stage):
    check(finished, stage, [0.5])


@pytest.mark.slow
@pytest.mark.parametrize("stage", OUTPUTS)
def test_a_disk_that_is_full_sooner_or_later_is_told_and_leaves_nothing_wrong(finished, stage):
    check(finished, stage, [0, 0.25, 0.5, 0.75, 0.99])
