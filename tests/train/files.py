"""Trainings on disk: their job files, and whether two ended alike."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from train import synthetic

from ctssl.config.runs import Pretraining
from ctssl.train.jobfile import JobFile


def job_file(folder: Path, people, name: str, **changes) -> Path:
    """The file of a pretraining of people whose stores and atlas lie in this folder."""
    machine = synthetic.MACHINE | {n: changes.pop(n) for n in Pretraining.model_fields if n in changes}
    options = synthetic.options(**changes).model_dump(mode="json")
    path = folder / "runs" / f"{name}.json"
    JobFile(
        run={"name": "small", "method": "context-aware", "options": options},
        pretraining=machine,
        atlas=str(folder / "atlas"),
        stores=[str(store.path) for store in people.stores],
        packed=None,
        digests={store.scan: store.card["digest"] for store in people.stores},
        subjects=people.subjects,
        seed=0,
        out=str(folder / "runs" / name),
    ).write(path)
    return path


def assert_same(one: Path, two: Path) -> None:
    """Fail unless two trainings ended with the same weights, histories and cards, bit for bit."""
    first, second = load_file(one / "model.safetensors"), load_file(two / "model.safetensors")
    assert first.keys() == second.keys()
    assert all(torch.equal(first[n], second[n]) for n in first)
    assert (one / "history.csv").read_text() == (two / "history.csv").read_text()
    assert json.loads((one / "model.json").read_text()) == json.loads((two / "model.json").read_text())
