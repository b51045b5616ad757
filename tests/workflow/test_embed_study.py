"""A model that left its study, on scans as strangers have them: the vectors are those of the workflow."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from workflow.study import Study

pytestmark = pytest.mark.xdist_group("workflow")

SAME = 1e-6
"""Of features near 0.1: the store is the same to the last bit, sums in another process order may differ."""


@pytest.fixture(scope="module")
def shared(finished: Study, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A folder of nothing but the exported model, scans, and strange files."""
    stranger = Study(Path(tmp_path_factory.mktemp("stranger")))
    weights = finished.results / "runs/tiny/seed0/all/model.safetensors"
    done = stranger.ctssl("export", str(weights), "--out", "model")
    assert done.returncode == 0, done.stderr
    shutil.copy(finished.folder / "images/phantom000.nii.gz", stranger.folder / "a.nii.gz")
    image = sitk.ReadImage(str(finished.folder / "images/phantom001.nii.gz"))
    sitk.WriteImage(image, str(stranger.folder / "b c.nrrd"))
    (stranger.folder / "d.nii.gz").write_bytes(b"no image")
    (stranger.folder / "scratch").mkdir()
    return stranger


def test_vectors_are_those_of_the_workflow_and_bad_scans_are_listed(finished, shared, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(shared.folder / "scratch"))
    scans = ["a.nii.gz", "d.nii.gz", "b c.nrrd"]
    done = shared.ctssl("embed", *scans, "--model", "model/model.safetensors", "--out", "f.parquet")
    assert done.returncode == 3, done.stderr
    assert "d.nii.gz is lost at volume: " in done.stderr
    assert "What to do: " in done.stderr
    assert "a.nii.gz: registering it to the atlas" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert list((shared.folder / "scratch").iterdir()) == []

    ours = pd.read_parquet(shared.folder / "f.parquet")
    theirs = pd.read_parquet(finished.results / "features/tiny_seed0_all.parquet")
    assert list(ours["scan"]) == ["a.nii.gz", "b c.nrrd"]
    wanted = theirs.set_index("scan").loc[["phantom000", "phantom001"]].iloc[:, 1:].to_numpy()
    np.testing.assert_allclose(ours.iloc[:, 2:].to_numpy(), wanted, rtol=0, atol=SAME)
    assert np.abs(wanted[0] - wanted[1]).max() > 20 * SAME, "scans differ by more"
    assert ours.attrs["made_by"] == theirs.attrs["made_by"]


def test_the_folder_names_no_scan_and_no_place(finished, shared):
    from privacy.planted import found

    words = ("phantom00", "subject00", str(finished.folder), finished.folder.parent.name)
    assert found(finished.results, words[:2]), "the search works"
    assert found(shared.folder / "model", words) == []


def test_another_licence_retrains_nothing_and_another_mask_does(study):
    study.change("results: results", "results: results\ndata_licence: CC-BY-4.0")
    assert study.plan() == {}
    study.change("method: threshold", "method: threshold, min_lung_l: 0.2")
    assert study.plan()["pretrain"] == 1
