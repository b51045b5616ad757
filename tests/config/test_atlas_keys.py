"""Which keys of the section atlas go together."""

import pytest
import yaml

from ctssl import config
from ctssl.errors import ConfigError

FILE = {"source": "file", "mask": "m.nii.gz"}
LISTED = FILE | {"landmarks": "p.npy", "landmark_points": "corners", "min_lung_fraction": None}


def read(folder, choice):
    (folder / "mine.yaml").write_text(yaml.safe_dump({"atlas": choice}))
    return config.read(folder / "mine.yaml").atlas


@pytest.mark.parametrize(
    "choice",
    [
        {},
        FILE,
        FILE | {"ct": "c.nii.gz"},
        LISTED,
        LISTED | {"landmark_points": "centres"},
        {"source": "scan", "scans": ["anna"]},
        {"source": "template", "scans": ["anna", "ben"]},
    ],
)
def test_what_goes_together_is_taken(tmp_path, choice):
    assert read(tmp_path, choice).source == choice.get("source", "builtin")


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ({"source": "file"}, "source: file needs mask"),
        ({"mask": "m.nii.gz"}, "mask goes with source: file only"),
        ({"source": "scan", "scans": ["a"], "ct": "c.nii"}, "ct goes with source: file only"),
        ({"landmarks": "p.npy", "landmark_points": "corners"}, "landmarks goes with source: file only"),
        (FILE | {"landmarks": "p.npy", "min_lung_fraction": None}, "landmark_points .* go together"),
        (FILE | {"landmark_points": "corners"}, "landmarks and landmark_points .* go together"),
        (LISTED | {"min_lung_fraction": 0.1}, "min_lung_fraction must be null"),
        ({"min_lung_fraction": None}, "a grid of landmarks needs min_lung_fraction"),
        ({"source": "scan"}, r"source: scan needs scans: \[ID\], .* there are 0"),
        ({"source": "scan", "scans": ["a", "b"]}, "there are 2"),
        ({"source": "template", "scans": ["a"]}, "two or more ids of the manifest in scans, .* there are 1"),
        ({"source": "template", "scans": ["a", "b", "a"]}, "scans come twice: a"),
        ({"scans": ["a"]}, "scans go with source: scan or template, not builtin"),
        (FILE | {"scans": ["a"]}, "not file"),
        ({"patch_voxels": 14}, "atlas.patch_voxels"),
        ({"patch_voxels": 33}, "atlas.patch_voxels"),
        ({"patch_voxels": 66}, "atlas.patch_voxels"),
        ({"source": "magic"}, "atlas.source"),
    ],
)
def test_what_is_missing_or_too_much_is_named(tmp_path, choice, said):
    with pytest.raises(ConfigError, match=said):
        read(tmp_path, choice)


def test_all_of_it_is_named_at_once(tmp_path):
    with pytest.raises(ConfigError, match=r"ct goes with .*; source: scan needs scans"):
        read(tmp_path, {"source": "scan", "ct": "c.nii.gz"})
