"""The file of a pretraining, and the bare command that does it."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace

import pandas as pd
import pytest
from train import lungs, synthetic
from train.files import job_file

from ctssl.config.runs import Run
from ctssl.errors import ConfigError
from ctssl.prepare.atlas import write_card
from ctssl.train.jobfile import read_job

BARE = """
import sys

gone = "pandas sklearn scipy zarr click yaml snakemake SimpleITK nibabel ants matplotlib jinja2 pyarrow"
for name in [*gone.split(), "safetensors", "umap", "PIL", "pydicom", "lungmask"]:
    sys.modules[name] = None  # as if it were not installed
from ctssl.train.__main__ import main
main()
"""


@pytest.fixture
def study(tmp_path):
    """A job's file beside its atlas and stores, as it would be carried to another machine."""
    people = synthetic.cohort(tmp_path / "stores", scans=8)
    write_card(tmp_path / "atlas", people.atlas, {})

    def write(**changes):
        shape = {"patch_batch": 8, "graph_batch": 8, "epochs": 1, "graph_steps": 1} | changes
        return job_file(tmp_path, people, "out", **shape)

    return write


def test_a_job_is_carried_elsewhere_with_its_stores_and_atlas(study, tmp_path):
    path = study()
    moved = tmp_path.with_name(f"{tmp_path.name} moved")
    shutil.copytree(tmp_path, moved)
    there, here = read_job(moved / "runs/out.json"), read_job(path)
    assert there.fingerprint() == here.fingerprint()
    assert all(store.path.is_relative_to(moved) for store in there.stores)
    assert there.out.resolve() == moved / "runs/out"
    assert there.run.options.patch_batch == 8


@pytest.mark.parametrize(("method", "differs"), [("moco-v2", True), ("context-aware", False)])
def test_a_changed_voxel_of_a_box_makes_another_training_of_methods_that_read_it(tmp_path, method, differs):
    people = lungs.with_boxes(synthetic.cohort(tmp_path / "stores"), tmp_path / "boxes")
    job = replace(synthetic.job(people, tmp_path), run=Run(name="small", method=method))
    prints = [
        replace(job, boxes=boxes).fingerprint()
        for boxes in (people.boxes, people.boxes, lungs.with_a_changed_voxel(people.boxes, "scan4"))
    ]
    assert prints[0] == prints[1]
    assert (prints[1] != prints[2]) is differs


def test_what_is_no_job_says_so(tmp_path):
    path = tmp_path / "job.json"
    for text in ("{}", "[]", "no json", '{"run": {}, "more": 1}'):
        path.write_text(text)
        with pytest.raises(ConfigError, match=r"job\.json is no job of pretraining"):
            read_job(path)
    with pytest.raises(ConfigError, match="no job of pretraining"):
        read_job(tmp_path / "nowhere.json")


def test_training_needs_torch_numpy_tensorstore_and_pydantic_only(study, tmp_path):
    command = [sys.executable, "-c", BARE, str(study())]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=bare_environment())
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(pd.read_csv(tmp_path / "runs/out/history.csv")) == 7
    assert (tmp_path / "runs/out/model.safetensors").stat().st_size > 1000
    broken = subprocess.run(
        [*command[:3], str(tmp_path / "none.json")], capture_output=True, text=True, check=False
    )
    assert broken.returncode == 1
    assert broken.stderr.startswith("error: ")
    assert "Traceback" not in broken.stderr


def bare_environment():
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
