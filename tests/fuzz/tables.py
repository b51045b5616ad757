"""Small valid tables, cards and configs, an atlas in files, a study prepared elsewhere."""

import json
from functools import partial
from pathlib import Path

import numpy as np
from fuzz.kind import MANY, Kind, Part
from prepare.ellipsoids import chest, write
from train import synthetic

from ctssl.errors import ConfigError, ManifestError, StoreError

_CHEST = synthetic.atlas(4)
_MANIFEST = """scan,subject,image,mask,series_uid,exclude,exclude_reason,keep,keep_reason,age
anna1,anna,scans/anna1.nii.gz,,,,,,,61
anna2,anna,"scans/anna, again.nii.gz",masks/anna2.nrrd,,yes,coughed,,,62
berta,,/data/berta,,1.2.840.113619.2.55,,,,,
carl,carl,scans/carl.mha,,,no,,yes,"seen by a person, 2024",48.5
"""

_CONFIG = """manifest: scans.csv
results: results/study
atlas: {source: builtin, spacing_mm: 2.0, pitch_mm: 26}
mask:
  method: threshold
registration:
  syn_iterations: [80, 25, 3]
quality: {warn_lung_range_l: [1.5, 10.0], exclude_slice_mm: null}
limits:
  max_voxels: 1000000
pretraining: {device: cpu, threads: 2}
runs:
  - {name: context-aware, label: Ours, method: context-aware, seeds: [0, 1], options: {epochs: 3}}
evaluation:
  folds: 5
  targets:
    - {name: fev1pp, column: fev1pp, task: regress, log: true}
"""


def _manifest(folder: Path) -> None:
    from ctssl.manifest import ID, read_manifest

    table = read_manifest(folder / "scans.csv")
    assert table.rows
    assert len({row.scan.lower() for row in table.rows}) == len(table.rows)
    for row in table.rows:
        assert ID.fullmatch(row.scan)
        assert ID.fullmatch(row.subject)
        assert row.image is not None


def _config(folder: Path) -> None:
    from ctssl.config import read

    read(folder / "config.yaml")


def _atlas_card(folder: Path) -> None:
    from ctssl.prepare.atlas import write_card

    write_card(folder, synthetic.atlas(), {"source": "builtin"})


def _read_card(folder: Path) -> None:
    from ctssl.prepare.atlas import read_atlas

    atlas = read_atlas(folder)
    count = len(atlas.landmarks_mm)
    assert isinstance(atlas.id, str)
    assert count >= 2
    assert np.isfinite(atlas.landmarks_mm).all()
    assert ((atlas.neighbours >= 0) & (atlas.neighbours < count)).all()
    assert atlas.lobes is None or len(atlas.lobes) == count
    assert 0 < atlas.spacing_mm < np.inf
    assert 0 < atlas.pitch_mm < np.inf
    assert atlas.patch_voxels > 0


_POINTS = np.array([[-60.0, 10, 5], [60, 10, 5], [-60, 40, 25], [60, 40, 25]])


def _points_csv(folder: Path) -> None:
    np.savetxt(folder / "p.csv", _POINTS, "%.2f", ",", header="x_mm,y_mm,z_mm", comments="")


def _points(folder: Path, name: str) -> None:
    from ctssl.prepare.atlas_file import read_points

    points = read_points(folder / name)
    assert points.shape == (len(points), 3)
    assert len(points) >= 2
    assert np.isfinite(points).all()


def _atlas_files(folder: Path) -> None:
    hu, lungs, grid = chest(8.0)
    write(folder / "mask.nrrd", lungs, grid)
    write(folder / "ct.nrrd", hu, grid)
    np.save(folder / "p.npy", _POINTS)


def _read_files(folder: Path) -> None:
    from ctssl.config.prepare import Atlas
    from ctssl.prepare.atlas import landmarked
    from ctssl.prepare.atlas_file import read_files

    values = {
        name: folder / f for name, f in {"mask": "mask.nrrd", "ct": "ct.nrrd", "landmarks": "p.npy"}.items()
    }
    values |= {"source": "file", "spacing_mm": 8.0, "patch_voxels": 16, "pitch_mm": 125.0, "scans": ()}
    values |= {"landmark_points": "centres", "min_lung_fraction": None}
    anatomy, given = read_files(Atlas(**values), MANY)
    assert set(np.unique(anatomy.lungs)) == {0, 1, 2}
    atlas = landmarked(anatomy, patch_voxels=16, pitch_mm=125.0, **given)
    assert np.isfinite(atlas.landmarks_mm).all()


def _status(folder: Path) -> None:
    from ctssl.jobs.status import Status

    for stage in ("volumes", "registration", "stores"):
        (folder / stage / "scan0").mkdir(parents=True, exist_ok=True)
        Status("scan0", True, stage, numbers={"right_l": 2.5, "repairs": []}).write(folder / stage / "scan0")


def _prepared(folder: Path) -> None:
    from ctssl.prepare.atlas import write_card

    write_card(folder / "atlas", _CHEST, {"source": "builtin"})
    (folder / "stores").mkdir()
    synthetic.write_scan(folder / "stores", 0, _CHEST)
    _status(folder)


def _outcomes(folder: Path) -> None:
    from ctssl.jobs.prepared import outcomes
    from ctssl.manifest import Row

    (status,) = outcomes(folder, [Row("scan0", "anna", None)])
    assert status.ok or status.reason
    assert status.scan == "scan0"
    json.dumps(status.numbers)


def _write(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text)


def table_kinds() -> dict[str, Kind]:
    """What is read before and beside images."""
    return {
        "manifest": Kind(
            partial(_write, name="scans.csv", text=_MANIFEST),
            (Part("scans.csv", text=True),),
            _manifest,
            (ManifestError,),
        ),
        "config": Kind(
            partial(_write, name="config.yaml", text=_CONFIG),
            (Part("config.yaml", text=True),),
            _config,
            (ConfigError,),
        ),
        "atlas card": Kind(_atlas_card, (Part("atlas.json", text=True),), _read_card, (StoreError,)),
        "landmarks npy": Kind(
            lambda folder: np.save(folder / "p.npy", _POINTS),
            (Part("p.npy", 128), Part("p.npy", 128, True)),
            partial(_points, name="p.npy"),
            (ConfigError,),
        ),
        "landmarks csv": Kind(
            _points_csv, (Part("p.csv", text=True),), partial(_points, name="p.csv"), (ConfigError,)
        ),
        "atlas files": Kind(
            _atlas_files,
            (
                Part("mask.nrrd", 500, text=True),
                Part("ct.nrrd", 500, text=True),
                Part("p.npy", 128),
            ),
            _read_files,
            (ConfigError,),
        ),
        "prepared study": Kind(
            _prepared,
            (
                Part("*/scan0/status.json", text=True),
                Part("atlas/atlas.json", text=True),
                Part("stores/scan0/store.json", text=True),
            ),
            _outcomes,
            (StoreError,),
        ),
    }
