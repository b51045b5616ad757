"""A training that came to its end is never done again, whenever its job is killed."""

import itertools
import signal
import subprocess
import sys

import pytest
import torch
from train import synthetic
from train.files import assert_same, job_file

from ctssl.errors import WeightsError
from ctssl.methods.context_aware import ContextAware
from ctssl.prepare.atlas import write_card
from ctssl.train.jobfile import read_job
from ctssl.train.loop import pretrain

VICTIM = """
import os, signal, sys
from ctssl.train import checkpoint, loop, weights

where = sys.argv.pop(1)

def dying(module, name):
    real = getattr(module, name)

    def call(*arguments, **options):
        real(*arguments, **options)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(module, name, call)

def half_finished(folder, state):
    checkpoint._write(folder / checkpoint.FINISHED, state)
    os.kill(os.getpid(), signal.SIGKILL)

if where == "replaced":
    checkpoint.finish = half_finished
elif where == "cleared":
    dying(checkpoint, "finish")
elif where == "history":
    dying(loop, "write_csv")
else:
    dying(weights, "save")
from ctssl.train.__main__ import main
main()
"""
OUTPUTS = ("history.csv", "model.json", "model.safetensors")


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("at the end")
    people = synthetic.cohort(folder / "stores")
    write_card(folder / "atlas", people.atlas, {})
    torch.set_num_threads(1)
    whole = read_job(job_file(folder, people, "whole", epochs=1))
    pretrain(whole)
    return folder, people, whole.out


@pytest.fixture
def no_step(monkeypatch):
    monkeypatch.setattr(ContextAware, "after_step", lambda *_: pytest.fail("a step was done again"))


@pytest.mark.parametrize("where", ["replaced", "cleared", "history", "written"])
def test_a_kill_at_the_end_costs_no_step(study, where, no_step, capfd):
    """Snakemake deletes the outputs of the killed job before it starts it again."""
    folder, people, whole = study
    path = job_file(folder, people, where, epochs=1, checkpoint_steps=5)
    killed = subprocess.run([sys.executable, "-c", VICTIM, where, str(path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    out = folder / "runs" / where
    for name in OUTPUTS:
        (out / name).unlink(missing_ok=True)
    pretrain(read_job(path))
    assert "this training is finished" in capfd.readouterr().err
    assert_same(out, whole)
    assert {file.name for file in (out / "checkpoints").iterdir()} == {"finished.pt", "history.jsonl"}


def test_another_training_in_its_place_is_done(study, monkeypatch):
    folder, people, whole = study
    count, real = itertools.count(), ContextAware.after_step

    def counted(*arguments):
        next(count)
        real(*arguments)

    monkeypatch.setattr(ContextAware, "after_step", counted)
    pretrain(read_job(job_file(folder, people, "again", epochs=1)))
    first = next(count)
    assert first > 0
    pretrain(read_job(job_file(folder, people, "again", epochs=1, momentum=0.5)))
    assert next(count) == 2 * first + 1
    with pytest.raises(AssertionError):
        assert_same(folder / "runs/again", whole)


def test_a_damaged_record_is_an_error_that_names_it(study, no_step):
    folder, people, _ = study
    path = job_file(folder, people, "whole", epochs=1)
    record = folder / "runs/whole/checkpoints/finished.pt"
    before = record.read_bytes()
    record.write_bytes(before[:-100])
    with pytest.raises(WeightsError, match=r"finished\.pt cannot be read"):
        pretrain(read_job(path))
    record.write_bytes(before)
    pretrain(read_job(path))
