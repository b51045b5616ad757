"""kill -9 anywhere, again and again: the training ends as if nothing had happened, bit for bit."""

import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from train import synthetic
from train.files import assert_same, job_file

from ctssl.prepare.atlas import write_card
from ctssl.train.jobfile import read_job
from ctssl.train.loop import pretrain

SHAPE = {"epochs": 2, "graph_steps": 2, "checkpoint_steps": 3, "random_negatives": True}

VICTIM = """
import io, os, resource, signal, sys
import torch
from ctssl.train import checkpoint, loop
from ctssl.train.step import Stepper

where, number = sys.argv.pop(1), int(sys.argv.pop(1))

def die():
    os.kill(os.getpid(), signal.SIGKILL)

class Dying(Stepper):
    def __call__(self, step, load, rate):
        if where == "before" and step.number == number:
            die()
        terms = super().__call__(step, load, rate)
        if where == "after" and step.number == number:
            die()
        return terms

def half_written(path, state):
    if where == "checkpoint" and state["done"] > number:
        whole = io.BytesIO()
        torch.save(state, whole)
        half = whole.tell() // 2
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_FSIZE, (half, half))
    real(path, state)

loop.Stepper = Dying
real, checkpoint._write = checkpoint._write, half_written
from ctssl.train.__main__ import main
main()
"""
"""A process that is killed before or after a step, or by the system as soon as half of the next checkpoint is
on the disk, however it is written."""

ENDS = {"before": signal.SIGKILL, "after": signal.SIGKILL, "checkpoint": signal.SIGXFSZ}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("killed")
    people = synthetic.cohort(folder / "stores")
    write_card(folder / "atlas", people.atlas, {})
    torch.set_num_threads(1)
    whole = read_job(job_file(folder, people, "whole", **SHAPE))
    pretrain(whole)
    return folder, people, whole.out


def kill_again_and_again(study, name, deaths):
    folder, people, whole = study
    path = job_file(folder, people, name, **SHAPE)
    files = folder / "runs" / name / "checkpoints"
    for where, number in deaths:
        done = subprocess.run([sys.executable, "-c", VICTIM, where, str(number), str(path)], check=False)
        assert done.returncode == -ENDS[where], (where, number)
        assert not (folder / "runs" / name / "model.safetensors").exists()
        halves = list(files.glob("*.part"))
        assert len(halves) == (where == "checkpoint")  # that of an earlier death is gone
        assert all(half.stat().st_size > 10_000 for half in halves)
    pretrain(read_job(path))
    assert_same(folder / "runs" / name, whole)
    assert {file.name for file in files.iterdir()} == {"finished.pt", "history.jsonl"}


def test_three_kills_in_both_phases_change_nothing(study):
    kill_again_and_again(study, "three", [("after", 4), ("checkpoint", 7), ("before", 13)])


@pytest.mark.slow
def test_twenty_kills_at_random_steps_change_nothing(study):
    """Before and after 21 different steps of both phases, and in the middle of writing a checkpoint."""
    rng = np.random.default_rng(20)
    phases = pd.read_csv(study[2] / "history.csv").phase
    last = len(phases) - SHAPE["checkpoint_steps"]  # one more checkpoint follows
    rounds = rng.choice(np.arange(1, last), (3, 7), replace=False)
    assert {*phases[rounds.ravel()]} == {"patch", "graph"}
    assert len({*rounds.ravel().tolist()}) > 20
    for number, steps in enumerate(np.sort(rounds, axis=1)):
        deaths = [(str(rng.choice(list(ENDS))), int(step)) for step in steps]
        kill_again_and_again(study, f"twenty{number}", deaths)
