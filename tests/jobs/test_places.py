"""Results never lie where something is read."""

from pathlib import Path

import pytest

from ctssl import config
from ctssl.errors import ConfigError
from ctssl.jobs.places import check
from ctssl.manifest import read_manifest


def study(folder: Path, results: str, image: str = "images/a.nii", mask: str = "", **changes):
    """Config and manifest of one scan; the results' path starts at the folder."""
    (folder / "images").mkdir(exist_ok=True)
    (folder / "scans.csv").write_text(f'scan,image,mask\na,"{image}","{mask}"\n')
    values = {"manifest": folder / "scans.csv", "results": folder / results, **changes}
    return config.read().model_copy(update=values), read_manifest(folder / "scans.csv")


@pytest.mark.parametrize("results", ["results", "images2", "images/../results", "image", "results/deeper"])
def test_results_in_a_folder_of_their_own_are_fine(tmp_path, results):
    check(*study(tmp_path, results))


@pytest.mark.parametrize(
    ("results", "image", "mask", "said"),
    [
        (".", "../elsewhere/a.nii", "", "would be written over"),
        ("images", "images/a.nii", "", "in one place with the image of a"),
        ("x/../images", "images/a.nii", "", "in one place with the image of a"),
        ("results", "results/volumes/a", "", "in one place with the image of a"),
        ("results", "images/a.nii", "results/volumes/a/mask.nii", "in one place with the mask of a"),
        ("images/a/results", "images/a", "", "in one place with the image of a"),
        ("scans.csv", "images/a.nii", "", "which is a file"),
    ],
)
def test_results_that_would_be_written_over_what_is_read_are_refused(tmp_path, results, image, mask, said):
    with pytest.raises(ConfigError, match=said) as fault:
        check(*study(tmp_path, results, image, mask))
    assert "folder" in fault.value.advice


def test_a_link_to_the_images_is_no_way_around(tmp_path):
    given = study(tmp_path, "results")
    (tmp_path / "results").symlink_to(tmp_path / "images")
    with pytest.raises(ConfigError, match="in one place with the image of a"):
        check(*given)


def test_a_link_to_itself_is_the_machines_to_refuse(tmp_path):
    given = study(tmp_path, "results")
    (tmp_path / "results").symlink_to(tmp_path / "results")
    check(*given)


def test_files_of_the_atlas_are_looked_at_too(tmp_path):
    atlas = config.read().atlas.model_copy(update={"mask": tmp_path / "results/atlas/mask.nii.gz"})
    with pytest.raises(ConfigError, match=r"in one place with atlas\.mask"):
        check(*study(tmp_path, "results", atlas=atlas))


def test_prepared_stores_need_no_images(tmp_path):
    check(*study(tmp_path, "results", "results/a.nii", prepared=tmp_path / "elsewhere"))
