"""kill -9 of a job and of snakemake: the same command again gives what an undisturbed run gives."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from workflow.study import Study, quiet_environment

pytestmark = [pytest.mark.xdist_group("workflow"), pytest.mark.slow]


def processes(study: Study, words: str = "") -> list[int]:
    """Ids of the processes that work in the study's folder and have these words in their command."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            here = (entry / "cwd").readlink() == study.folder
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:  # it ended, or is not ours
            continue
        if here and command and words in command:
            found.append(int(entry.name))
    return found


def wait_for(what: Callable[[], object]) -> None:
    """Returns when `what` is true; 120 s are far more than any machine needs."""
    for _ in range(2400):
        if what():
            return
        time.sleep(0.05)
    raise AssertionError("it never came")


def start(study: Study, *args: str) -> subprocess.Popen:
    with (study.folder / "said").open("w") as said:
        return subprocess.Popen(
            study.command(*args), cwd=study.folder, stdout=said, stderr=said, env=quiet_environment()
        )


POINTS = ["stage volume", "stage register", "stage pretrain"]


@pytest.mark.parametrize("point", POINTS)
def test_a_killed_job_leaves_nothing_wrong(fresh, finished, point):
    snakemake = start(fresh)
    wait_for(lambda: processes(fresh, point))
    os.kill(min(processes(fresh, point)), signal.SIGKILL)
    snakemake.wait()
    assert processes(fresh) == []
    fresh.snakemake()
    assert fresh.values() == finished.values()
    assert fresh.plan() == {}


@pytest.mark.parametrize("point", POINTS)
def test_a_killed_snakemake_leaves_no_orphans_and_nothing_wrong(fresh, finished, point):
    snakemake = start(fresh)
    wait_for(lambda: processes(fresh, point))
    snakemake.kill()
    snakemake.wait()
    wait_for(lambda: processes(fresh) == [])
    assert "locked" in fresh.snakemake(ok=False).lower()
    fresh.snakemake("--unlock")
    fresh.snakemake()
    assert fresh.values() == finished.values()
    assert fresh.plan() == {}


def test_a_training_killed_after_a_checkpoint_goes_on_from_it(fresh, finished):
    snakemake = start(fresh)
    checkpoints = fresh.results / "runs/tiny/seed0/all/checkpoints"
    wait_for(lambda: list(checkpoints.glob("step-*.pt")))
    snakemake.kill()
    snakemake.wait()
    wait_for(lambda: processes(fresh) == [])
    assert list(checkpoints.glob("step-*.pt")), "it was killed before its end"
    fresh.snakemake("--unlock")
    fresh.snakemake()
    log = (fresh.results / "logs/pretrain/tiny_seed0_all.log").read_text()
    assert "going on after step" in log
    assert fresh.values() == finished.values()
