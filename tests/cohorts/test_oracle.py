"""Stores cut at the known landmarks, against images of the same scans and against the workflow."""

import csv
import json
import os
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from scipy.ndimage import map_coordinates
from workflow.study import Study

from ctssl import config
from ctssl.cli import cli
from ctssl.cohorts.phantom import oracle
from ctssl.cohorts.phantom.cohort import CohortPlan, write_cohort
from ctssl.cohorts.phantom.deform import Deformation
from ctssl.cohorts.phantom.oracle import OraclePlan, write_oracle
from ctssl.cohorts.phantom.scanner import Scanner
from ctssl.errors import StoreError
from ctssl.jobs.status import Status
from ctssl.prepare.atlas import read_atlas
from ctssl.prepare.densitometry import MEASURES, densitometry
from ctssl.store.reader import open_store, verify

SPACING_MM, PITCH_MM = 4.0, 80.0
ARGUMENTS = {"seed": 5, "spacing_mm": SPACING_MM, "pitch_mm": PITCH_MM, "sites": ("A", "C")}
BARE = """
import sys

class Refuse:
    known = {*sys.stdlib_module_names, "numpy", "scipy", "tensorstore", "ml_dtypes", "ctssl"}

    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in self.known and not top.startswith("_sysconfigdata"):
            raise ModuleNotFoundError(f"this machine has no {name}")

sys.meta_path.insert(0, Refuse())
"""
"""sitecustomize.py of a machine with numpy, scipy and tensorstore; worker processes read it, too."""


def bare(folder: Path, *args: str) -> subprocess.CompletedProcess:
    (folder / "sitecustomize.py").write_text(BARE)
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONWARNINGS": ""}
    return subprocess.run(
        [sys.executable, *args], env=environment, text=True, capture_output=True, check=False
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three scans, made on a bare machine. Never change it: copy it."""
    folder = Path(tmp_path_factory.mktemp("oracle"))
    options = ["--seed", "5", "--spacing-mm", "4", "--pitch-mm", "80", "--sites", "A,C"]
    done = bare(folder, "-m", "ctssl.cohorts.phantom.oracle", str(folder / "made"), "--scans", "3", *options)
    assert done.returncode == 0, done.stderr
    assert "stores of 3 scans are in" in done.stderr
    return folder / "made"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first two of these scans as images."""
    folder = Path(tmp_path_factory.mktemp("images"))
    scanner = Scanner(spacing_mm=SPACING_MM, slice_mm=SPACING_MM)
    write_cohort(folder, CohortPlan(2, 5, scanner, ("A", "C")))
    return folder


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def times(folder: Path) -> dict[str, int]:
    return {path.parent.name: path.stat().st_mtime_ns for path in folder.glob("stores/*/store.json")}


def test_the_bare_machine_is_bare(tmp_path):
    for name in ("pydantic", "click", "pandas", "SimpleITK", "zarr", "torch"):
        assert f"no {name}" in bare(tmp_path, "-c", f"import {name}").stderr


@pytest.mark.parametrize("number", [0, 1])
def test_patches_are_those_of_the_image_at_the_true_landmarks(made, images, number):
    store = open_store(made / f"stores/phantom{number:03}")
    image = nibabel.load(images / f"images/phantom{number:03}.nii.gz")
    values = np.asarray(image.dataobj).clip(-1024, 3071).astype(float)  # x, y, z in RAS
    to_index = np.linalg.inv(image.affine)
    atlas = read_atlas(made / "atlas")
    truth = json.loads((made / f"truth/phantom{number:03}.json").read_text())
    points = Deformation.from_json(truth["deformation"])(atlas.landmarks_mm)
    np.testing.assert_allclose(store.landmarks_mm, points, atol=1e-9)
    offset = (np.arange(32) - 15.5) * SPACING_MM
    for landmark in np.flatnonzero(store.valid)[::3]:
        z, y, x = np.meshgrid(*(points[landmark, d] + offset for d in (2, 1, 0)), indexing="ij")
        ras = np.stack([-x, -y, z, np.ones_like(z)])
        index = np.tensordot(to_index, ras, 1)[:3]
        expected = map_coordinates(values, index, order=1, mode="grid-constant", cval=-1024)
        found = store.patches(np.array([landmark]))[0]
        assert np.abs(found - expected).max() < 0.51  # rounded to whole HU


@pytest.mark.parametrize("number", [0, 1])
def test_densities_are_what_the_workflow_would_measure(made, images, number):
    name = f"phantom{number:03}"
    hu, lobes = (
        np.asarray(nibabel.load(path).dataobj)
        for path in (images / f"images/{name}.nii.gz", images / f"truth/{name}/lobes.nii.gz")
    )
    status = Status.read(made / "stores" / name)
    measured = densitometry(np.clip(hu, oracle.MIN_HU, oracle.MAX_HU), lobes, SPACING_MM)
    assert {name: status.numbers[name] for name in MEASURES} == pytest.approx(measured, rel=1e-4, abs=1e-3)
    assert status.numbers["digest"] == open_store(made / "stores" / name).card["digest"]


def test_constants_are_the_defaults_of_the_config():
    defaults = config.read()
    assert defaults.atlas.min_lung_fraction == oracle.MIN_LUNG_FRACTION
    assert defaults.store.min_inside_fraction == oracle.MIN_INSIDE_FRACTION
    assert defaults.graph.rho_mm / defaults.atlas.pitch_mm == pytest.approx(oracle.RHO_PITCHES)
    assert (defaults.graph.edges, defaults.graph.scale_normalised) == ("distance", True)
    assert (defaults.volume.hu_min, defaults.volume.hu_max) == (oracle.MIN_HU, oracle.MAX_HU)


def test_labels_are_those_of_the_images(made, images):
    theirs = [{k: v for k, v in row.items() if k != "image"} for row in rows(images / "scans.csv")]
    assert rows(made / "scans.csv")[:2] == theirs
    assert len(rows(made / "scans.csv")) == 3


def test_the_reader_takes_the_stores_with_their_atlas_and_no_other(made):
    atlas = read_atlas(made / "atlas")
    for path in sorted((made / "stores").iterdir()):
        store = open_store(path, atlas=atlas.id)
        verify(path)
        assert (store.scan, store.card["source"]) == (path.name, "oracle")
        assert len(store.valid) == len(atlas.landmarks_mm) > 8
        assert store.valid.mean() > 0.9
        assert 0 < store.card["measures"]["laa_950_percent"] < 60
        assert (store.lung_fraction[store.valid] > 0).all()
        with pytest.raises(StoreError, match=f"atlas {atlas.id}, but this needs atlas other"):
            open_store(path, atlas="other")


def test_edges_are_distances_below_the_threshold_in_the_scans_own_size(made):
    atlas, store = read_atlas(made / "atlas"), open_store(made / "stores/phantom000")
    valid = set(np.flatnonzero(store.valid))

    def length(points: np.ndarray, i: int, j: int) -> float:
        return float(np.sqrt(((points[i] - points[j]) ** 2).sum()))

    ratios = [
        length(store.landmarks_mm, i, j) / length(atlas.landmarks_mm, i, j)
        for i, j in atlas.neighbours
        if {i, j} <= valid
    ]
    limit = 1.2 * PITCH_MM * np.median(ratios)
    expected = [p for p in combinations(sorted(valid), 2) if length(store.landmarks_mm, *p) < limit]
    assert [tuple(pair) for pair in store.edges] == expected
    assert len(expected) > 8


def test_one_flipped_bit_is_an_error(made, tmp_path):
    study = Study(made).copy(tmp_path / "copy").folder
    [shard] = [p for p in (study / "stores/phantom001/store.zarr/patches/c").rglob("*") if p.is_file()]
    content = bytearray(shard.read_bytes())
    content[len(content) // 3] ^= 4
    shard.write_bytes(content)
    with pytest.raises(StoreError):
        verify(study / "stores/phantom001")


def test_only_what_is_missing_or_other_is_made(made, tmp_path, capfd):
    folder = Study(made).copy(tmp_path / "copy").folder
    before = times(folder)
    write_oracle(folder, OraclePlan(3, **ARGUMENTS))
    assert "already in" in capfd.readouterr().err
    assert times(folder) == before

    (folder / "stores/phantom000/store.json").unlink()  # interrupted while it was written
    (folder / "truth/phantom001.json").write_text('{"made_with": ')
    write_oracle(folder, OraclePlan(4, **ARGUMENTS))
    after = times(folder)
    assert {name for name in before if before[name] == after[name]} == {"phantom002"}
    assert sorted(after) == [f"phantom00{n}" for n in range(4)]
    for name in ("phantom000", "phantom001"):
        again, first = open_store(folder / "stores" / name), open_store(made / "stores" / name)
        assert again.card == first.card, "made anew it is the same"
    assert rows(folder / "scans.csv")[:3] == rows(made / "scans.csv")

    write_oracle(folder, OraclePlan(2, **{**ARGUMENTS, "seed": 6}))
    assert times(folder)["phantom000"] != after["phantom000"]
    assert len(rows(folder / "scans.csv")) == 2


def test_the_command_makes_the_same(made):
    before = times(made)
    options = ["--scans", "3", "--seed", "5", "--spacing-mm", "4", "--pitch-mm", "80", "--sites", "A,C"]
    done = CliRunner().invoke(cli, ["phantom", str(made), "--oracle", *options])
    assert done.exit_code == 0, done.output
    assert "already in" in done.stderr
    assert times(made) == before


@pytest.mark.parametrize("options", [["--oracle", "--slice-mm", "3"], ["--pitch-mm", "52"]])
def test_options_that_do_not_go_together_are_refused(tmp_path, options):
    done = CliRunner().invoke(cli, ["phantom", str(tmp_path / "new"), *options])
    assert done.exit_code == 2
    assert options[-2] in done.stderr
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [(["--sites", "A,Z"], "site is one of"), (["--scans", "0"], "one scan or more")],
)
def test_a_wrong_plan_is_one_message_before_anything_is_written(tmp_path, options, words):
    new = tmp_path / "new"
    done = bare(tmp_path, "-m", "ctssl.cohorts.phantom.oracle", str(new), "--scans", "2", *options)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not new.exists()


@pytest.mark.xdist_group("workflow")
def test_the_workflow_takes_the_folder_as_prepared(made, tmp_path):
    study = Study(tmp_path)
    Study(made).copy(tmp_path / "made")
    options = "{epochs: 1, patch_batch: 3, graph_batch: 3, graph_steps: 1, bn_groups: 1, queue_size: 8}"
    (tmp_path / "study.yaml").write_text(
        "manifest: made/scans.csv\nprepared: made\npretraining: {device: cpu, threads: 1}\n"
        f"runs: [{{name: tiny, method: context-aware, options: {options}}}]\n"
    )
    study.snakemake("results/features/tiny_seed0_all.parquet")
    assert study.failures() == []
    features = pd.read_parquet(study.results / "features/tiny_seed0_all.parquet")
    assert features["scan"].tolist() == ["phantom000", "phantom001", "phantom002"]
    assert np.isfinite(features.filter(like="f0")).all(axis=None)
