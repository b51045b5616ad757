"""kill -9 anywhere, again and again: the training ends as if nothing had happened, bit for bit."""

import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from train import synthetic
from train.files import assert_same, job_file

from ctssl.prepare.atlas import write_card
from ctssl.train.jobfile import read_job
from ctssl.train.loop import pretrain

SHAPE = {"epochs": 2, "graph_steps": 2, "checkpoint_steps": 3, "random_negatives": True}

VICTIM = """
import os, signal, sys
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

def half_written(state, file):
    real(state, file)
    if where == "checkpoint" and state["done"] > number:
        file.seek(0, 2)
        file.truncate(file.tell() // 2)
        file.flush()
        die()

loop.Stepper = Dying
real, checkpoint.torch.save = checkpoint.torch.save, half_written
from ctssl.train.__main__ import main
main()
"""


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
    for where, number in deaths:
        done = subprocess.run([sys.executable, "-c", VICTIM, where, str(number), str(path)], check=False)
        assert done.returncode == -signal.SIGKILL, (where, number)
        assert not (folder / "runs" / name / "model.safetensors").exists()
    pretrain(read_job(path))
    assert_same(folder / "runs" / name, whole)


def test_three_kills_in_both_phases_change_nothing(study):
    kill_again_and_again(study, "three", [("after", 4), ("checkpoint", 7), ("before", 13)])


@pytest.mark.slow
def test_twenty_kills_at_random_steps_change_nothing(study):
    """Before and after steps of both phases, and in the middle of writing a checkpoint."""
    rng = np.random.default_rng(20)
    steps = np.sort(rng.choice(np.arange(1, 18), 7, replace=False))
    for round_number in range(3):
        deaths = [(str(rng.choice(["before", "after", "checkpoint"])), int(step)) for step in steps]
        kill_again_and_again(study, f"twenty{round_number}", deaths)
