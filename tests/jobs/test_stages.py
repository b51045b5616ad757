"""From an atlas in a file, along LAS and with patches of 16 voxels, to the store of one scan."""

import csv
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import yaml
from prepare.chest import turned
from prepare.ellipsoids import chest, lungs, write

from ctssl import config, settings
from ctssl.errors import StoreError
from ctssl.manifest import read_manifest
from ctssl.prepare.atlas import read_atlas
from ctssl.store.reader import open_store

pytestmark = pytest.mark.xdist_group("registration")

READ = ["--max-voxels", "100000000"]
LIMITS = ["--time-s", "300", "--memory-mb", "8000"]
SHAPE = {"scale": (1.06, 0.96, 1.04), "shift": (9.0, -4.0, 12.0)}
STUDY = {
    "atlas": {"source": "file", "spacing_mm": 5.0, "patch_voxels": 16, "pitch_mm": 60.0},
    "mask": {"method": "threshold"},
    "registration": {"spacing_mm": 12.0, "syn_iterations": [20]},
    "graph": {"edges": "topology"},
}


def stage(folder: Path, name: str, text: str, *args: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", "from ctssl.cli import main; main()", "stage", name, "--settings", text]
    command += ["--log", str(folder / f"{name}.log"), *args, *LIMITS]
    environment = {**os.environ, "PYTHONWARNINGS": ""}
    return subprocess.run(
        command, cwd=folder, text=True, capture_output=True, check=False, env=environment, timeout=120
    )


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A folder with an atlas's mask, one scan, and the config and manifest that name them."""
    folder = tmp_path_factory.mktemp("study")
    _, mask, grid = chest()
    write(folder / "mask.nii.gz", *turned(mask, grid, "LAS"))
    hu, _, scan_grid = chest(4.0, **SHAPE)
    write(folder / "anna.nii.gz", hu, scan_grid)
    with (folder / "scans.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["scan", "image"], ["anna", "anna.nii.gz"]])
    atlas = STUDY["atlas"] | {"mask": str(folder / "mask.nii.gz")}
    own = {"manifest": str(folder / "scans.csv"), "atlas": atlas}
    (folder / "study.yaml").write_text(yaml.safe_dump(STUDY | own))
    chosen = config.read(folder / "study.yaml")
    return SimpleNamespace(folder=folder, config=chosen, manifest=read_manifest(chosen.manifest))


@pytest.fixture(scope="module")
def finished(study):
    """The study after its four stages."""
    folder, scan = study.folder, ["--scan", "anna", "--atlas", "atlas"]
    volume, registration = ["--volume", "volume"], ["--registration", "registration"]
    for name, text, args in (
        ("atlas", settings.atlas(study.config, study.manifest), [*READ, "--out", "atlas"]),
        ("volume", settings.volume(study.config, study.manifest, "anna"), [*scan, *READ, "--out", "volume"]),
        (
            "register",
            settings.register(study.config),
            [*scan, *volume, "--out", "registration", "--picture", "anna.png"],
        ),
        ("store", settings.store(study.config), [*scan, *volume, *registration, "--out", "store"]),
    ):
        done = stage(folder, name, text, *args)
        assert done.returncode == 0, done.stderr + (folder / f"{name}.log").read_text()[-3000:]
    return study


def test_patches_have_the_size_and_axes_of_the_atlas(finished):
    atlas = read_atlas(finished.folder / "atlas")
    store = open_store(finished.folder / "store", atlas=atlas.id)
    assert (atlas.axes, store.card["axes"], atlas.patch_voxels) == ("LAS", "LAS", 16)
    patches = store.patches()
    assert patches.shape == (len(atlas.landmarks_mm), 16, 16, 16)
    offset = (np.arange(16) - 7.5) * atlas.spacing_mm
    z, y, x = np.meshgrid(offset, -offset, offset, indexing="ij")  # A: y grows to the front
    agreement = []
    for patch, centre in zip(patches[store.valid], store.landmarks_mm[store.valid], strict=True):
        inside = lungs(centre + np.stack([x, y, z], -1), **SHAPE) > 0
        lung = (patch > -930) & (patch < -790)
        turns = (lung, lung[::-1], lung[:, ::-1], lung[..., ::-1])
        agreement.append([(inside == turn).mean() for turn in turns])
    right, *wrong = np.mean(agreement, 0)
    assert np.min(agreement, 0)[0] > 0.88  # voxels on the rim are neither
    assert right > 0.93
    assert max(wrong) < 0.85


def test_landmarks_lie_where_the_known_shape_puts_them(finished):
    atlas = read_atlas(finished.folder / "atlas")
    table = pd.read_csv(finished.folder / "registration/landmarks.csv")
    truth = atlas.landmarks_mm * SHAPE["scale"] + SHAPE["shift"]
    found = table[["x_mm", "y_mm", "z_mm"]].to_numpy()
    inside = lungs(atlas.landmarks_mm) > 0
    assert inside.sum() > 10
    assert np.linalg.norm(found - truth, axis=1)[inside].mean() < 5.0


def test_topology_edges_are_those_of_the_atlas(finished):
    atlas = read_atlas(finished.folder / "atlas")
    store = open_store(finished.folder / "store")
    np.testing.assert_array_equal(store.edges, atlas.neighbours[store.valid[atlas.neighbours].all(1)])
    assert len(store.edges) > 20


def test_a_store_made_with_another_atlas_is_refused_by_id(finished, tmp_path):
    other = config.check(
        finished.config.model_dump() | {"atlas": finished.config.atlas.model_dump() | {"pitch_mm": 64.0}}
    )
    done = stage(
        finished.folder,
        "atlas",
        settings.atlas(other, finished.manifest),
        *READ,
        "--out",
        str(tmp_path / "a"),
    )
    assert done.returncode == 0, done.stderr
    ours, theirs = read_atlas(finished.folder / "atlas").id, read_atlas(tmp_path / "a").id
    with pytest.raises(StoreError, match=f"was made with atlas {ours}, but this needs atlas {theirs}"):
        open_store(finished.folder / "store", atlas=theirs)


def test_an_atlas_that_cannot_be_made_is_told_on_the_terminal(study):
    text = settings.atlas(study.config, study.manifest)
    (study.folder / "broken.nii.gz").write_bytes((study.folder / "mask.nii.gz").read_bytes()[:900])
    done = stage(
        study.folder, "atlas", text.replace("mask.nii.gz", "broken.nii.gz"), *READ, "--out", "nothing"
    )
    assert done.returncode != 0
    assert "atlas.mask" in done.stderr
    assert "cannot be used" in done.stderr
    assert not (study.folder / "nothing/atlas.json").exists()
