"""The team that is started for a job on one machine."""

import os
import shutil
import signal
import sys
import time

import pandas as pd
import pytest
from train import synthetic
from train.files import assert_same, job_file

from ctssl.errors import CtsslError
from ctssl.prepare.atlas import write_card
from ctssl.train import launch
from ctssl.train.jobfile import read_job
from ctssl.train.launch import train_together

SHAPE = {"patch_batch": 8, "graph_batch": 8, "epochs": 1, "graph_steps": 1, "devices": 2}

VICTIM = """
import os, signal, sys, time
from ctssl.train import checkpoint, loop
from ctssl.train.step import Stepper

seconds = float(sys.argv.pop(1))
real = checkpoint.save

class Stopped(Stepper):
    def __call__(self, step, load, rate):
        if step.number == 3 and self.team.rank == 1:
            os.kill(os.getppid(), signal.SIGTERM)
            time.sleep(0.5)
        return super().__call__(step, load, rate)

def save(*arguments, **options):
    time.sleep(seconds)
    real(*arguments, **options)

loop.Stepper, checkpoint.save = Stopped, save
from ctssl.train.__main__ import main
main()
"""
"""A process of a team whose second one sends SIGTERM to the one that started it; writing is slow."""


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    folder = tmp_path_factory.mktemp("launched")
    people = synthetic.cohort(folder / "stores", scans=8)
    write_card(folder / "atlas", people.atlas, {})
    people.folder = folder
    return people


@pytest.fixture
def study(people):
    """Job file and results of a training of two processes."""

    def write(name, **changes):
        return job_file(people.folder, people, name, **SHAPE | changes), people.folder / "runs" / name

    return write


@pytest.fixture(scope="module")
def whole(people):
    """The results of an undisturbed team."""
    path = job_file(people.folder, people, "whole", **SHAPE)
    train_together(path, read_job(path).pretraining)
    return people.folder / "runs/whole"


def stopped(path, monkeypatch, seconds):
    """Train with a SIGTERM that comes in the fourth step."""
    monkeypatch.setattr(launch, "WORKER", (sys.executable, "-c", VICTIM, str(seconds)))
    with pytest.raises(SystemExit) as end:
        train_together(path, read_job(path).pretraining)
    monkeypatch.undo()
    assert end.value.code == 143
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_stopped_team_goes_on_where_it_stopped_bit_for_bit(study, whole, monkeypatch, capfd):
    path, out = study("stopped")
    stopped(path, monkeypatch, 0.5)
    (kept,) = (out / "checkpoints").glob("*.pt")
    done = int(kept.stem.removeprefix("step-"))
    assert 4 <= done < len(pd.read_csv(whole / "history.csv"))
    assert not (out / "model.safetensors").exists()
    capfd.readouterr()
    train_together(path, read_job(path).pretraining)
    assert capfd.readouterr().err.count(f"going on after step {done} of") == 1
    assert_same(out, whole)


@pytest.mark.slow
def test_a_stopped_team_has_as_long_as_its_checkpoint_takes(study, monkeypatch):
    """Longer than the 30 s after which torchrun would kill it."""
    path, out = study("slowly")
    stopped(path, monkeypatch, 33)
    assert len(list((out / "checkpoints").glob("step-*.pt"))) == 1


def test_a_failure_is_told_and_ends_the_others(study, people, tmp_path, monkeypatch):
    path, _ = study("broken")
    script = "import os, sys, time; sys.exit(7) if os.environ['RANK'] == '1' else time.sleep(600)"
    monkeypatch.setattr(launch, "WORKER", (sys.executable, "-c", script))
    monkeypatch.setattr(launch, "GRACE_S", 0.5)
    begun = time.monotonic()
    with pytest.raises(CtsslError, match="a process of the training ended with code 7"):
        train_together(path, read_job(path).pretraining)
    assert time.monotonic() - begun < 60
    monkeypatch.undo()
    moved = tmp_path / "moved"
    shutil.copytree(people.folder, moved)
    shutil.rmtree(moved / "stores/scan3/store.zarr/patches/c")
    job = moved / "runs" / path.name
    with pytest.raises(CtsslError, match="a process of the training ended with code 1"):
        train_together(job, read_job(path).pretraining)


def test_what_all_processes_find_is_said_once(study, people, capfd):
    path, _ = study("said", queue_size=4096)
    train_together(path, read_job(path).pretraining)
    assert capfd.readouterr().err.count("random keys stay among the negatives") == 1
    path, _ = study("said", queue_size=11)  # another training: the finished one's file is of no use
    train_together(path, read_job(path).pretraining)
    assert capfd.readouterr().err.count("belongs to a training with other settings") == 1


def test_sigterm_to_a_team_that_ends_all_the_same_is_no_failure(study, monkeypatch):
    """Its weights are there."""
    sent = []

    class Finishing:
        def __init__(self, *command, **how):
            pass

        def send_signal(self, number):
            sent.append(number)

        def poll(self):
            if not sent:
                os.kill(os.getpid(), signal.SIGTERM)
            return 0

        def kill(self):
            pass

        wait = kill

    path, _ = study("ending")
    monkeypatch.setattr("ctssl.train.launch.subprocess.Popen", Finishing)
    train_together(path, read_job(path).pretraining)
    assert sent == [signal.SIGTERM] * 2
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_sigterm_while_processes_start_ends_the_team(study, monkeypatch):
    """While the first of two is started: it hears of it, the second is never started, and no weights are
    there, so that a code of 0 is not taken for the end of the training.
    """
    started, sent = [], []

    class Starting:
        def __init__(self, *command, **how):
            started.append(self)
            os.kill(os.getpid(), signal.SIGTERM)

        def send_signal(self, number):
            sent.append((self, number))

        def poll(self):
            return 0

        def kill(self):
            pass

        wait = kill

    path, _ = study("early")
    monkeypatch.setattr("ctssl.train.launch.subprocess.Popen", Starting)
    with pytest.raises(SystemExit) as end:
        train_together(path, read_job(path).pretraining)
    assert end.value.code == 143
    assert sent == [(started[0], signal.SIGTERM)]
    assert len(started) == 1
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_sigterm_while_the_last_process_starts_reaches_all(study, monkeypatch):
    real, started = launch.subprocess.Popen, []

    def popen(*command, **how):
        started.append(real(*command, **how))
        if len(started) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return started[-1]

    path, out = study("late")
    monkeypatch.setattr(launch, "WORKER", (sys.executable, "-c", "import time; time.sleep(600)"))
    monkeypatch.setattr("ctssl.train.launch.subprocess.Popen", popen)
    begun = time.monotonic()
    with pytest.raises(SystemExit):
        train_together(path, read_job(path).pretraining)
    assert [process.returncode for process in started] == [-signal.SIGTERM] * 2
    assert time.monotonic() - begun < launch.GRACE_S  # else one had to be killed
    assert not (out / "model.safetensors").exists()
