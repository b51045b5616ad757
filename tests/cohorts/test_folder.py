import csv
import re

import pytest
import yaml
from prepare.chest import grid_of, scan
from prepare.dicom import write_series

from ctssl import config
from ctssl.cohorts.folder import find_images, ids, write_study
from ctssl.errors import ManifestError
from ctssl.manifest import ID, read_manifest


@pytest.fixture
def folder(tmp_path):
    """Two visits with the same file name, a DICOM folder, a mask, and what is no scan at all."""
    here = tmp_path / "my scans, 2021"
    for name in ("anna/CT.nii.gz", "berta/ct.nii.gz", "carla.mha", "dora.mhd", "dora.raw"):
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_bytes(b"image")
    for name in ("anna/lung_mask.nii.gz", "carla-seg.mha", "notes.txt", ".cache/x.nii", "anna/._CT.nii.gz"):
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_bytes(b"no scan")
    made = scan()
    for visit in ("erna/series 1", "erna/series 2"):
        write_series(here / visit, made.hu[:8, :8, :8], grid_of(made), slope=1, intercept=0)
    return here


def test_files_and_dicom_folders_are_scans_and_masks_are_not(folder, tmp_path):
    write_study(folder, tmp_path / "study")
    manifest = read_manifest(tmp_path / "study/scans.csv")
    found = {str(row.image.relative_to(folder)) for row in manifest.rows}
    assert found == {
        *("anna/CT.nii.gz", "berta/ct.nii.gz", "carla.mha", "dora.mhd"),
        *("erna/series 1", "erna/series 2"),
    }
    assert all(row.image.is_absolute() for row in manifest.rows)


def test_twin_names_get_the_name_of_their_folder(folder, tmp_path):
    write_study(folder, tmp_path / "study")
    scans = read_manifest(tmp_path / "study/scans.csv").scans
    assert scans == ["anna_CT", "berta_ct", "carla", "dora", "erna_series_1", "erna_series_2"]


def test_the_table_has_the_columns_that_a_person_may_fill(folder, tmp_path):
    write_study(folder, tmp_path / "study")
    with (tmp_path / "study/scans.csv").open(newline="") as file:
        reader = csv.DictReader(file)
        assert reader.fieldnames == ["scan", "subject", "image", "mask", "exclude", "exclude_reason"]
        assert all(row["subject"] == row["scan"] for row in reader)


def test_the_config_is_valid_and_knows_manifest_and_results(folder, tmp_path):
    write_study(folder, tmp_path / "my study")
    read = config.read(tmp_path / "my study/config.yaml")
    assert read.manifest == tmp_path / "my study/scans.csv"
    assert read.results == tmp_path / "my study/results"
    assert [run.title for run in read.runs] == ["Ours"]


def test_the_targets_that_the_config_proposes_are_valid(folder, tmp_path):
    write_study(folder, tmp_path / "study")
    lines = re.findall(r"^  # (- \{.*\})$", (tmp_path / "study/config.yaml").read_text(), re.MULTILINE)
    assert len(lines) == 2
    overlay = tmp_path / "targets.yaml"
    targets = [yaml.safe_load(line)[0] for line in lines]
    overlay.write_text(yaml.safe_dump({"evaluation": {"targets": targets}}))
    assert len(config.read(tmp_path / "study/config.yaml", overlay).evaluation.targets) == 2


def test_the_last_words_are_the_next_command(folder, tmp_path):
    said = write_study(folder, tmp_path / "study")
    assert "6 scans" in said
    assert f"--configfile {tmp_path / 'study/config.yaml'}" in said


@pytest.mark.parametrize("name", ["config.yaml", "scans.csv"])
def test_nothing_is_overwritten(folder, tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(ManifestError, match="exist already") as fault:
        write_study(folder, tmp_path)
    assert "--to" in fault.value.advice
    assert (tmp_path / name).read_text() == "mine"
    assert not (tmp_path / ({"config.yaml", "scans.csv"} - {name}).pop()).exists()


def test_a_folder_without_scans_is_an_error(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/notes.txt").write_text("no scan")
    with pytest.raises(ManifestError, match="holds no scans"):
        write_study(tmp_path / "in", tmp_path / "study")
    assert not (tmp_path / "study").exists()


def test_a_folder_of_slices_is_one_scan(folder):
    assert find_images(folder / "erna/series 1") == [folder / "erna/series 1"]


def told(folder):
    """Reason -> what is passed over for it, below the folder."""
    skipped = {}
    found = find_images(folder, skipped)
    names = {why: [str(path.relative_to(folder)) for path in paths] for why, paths in skipped.items()}
    return [str(path.relative_to(folder)) for path in found], names


MASKS = (
    "Lung_Mask/1.nii",
    "a/Lung_and_Infection_Mask/1.nii",
    "masks_R231/1.nii",
    "labelsTr/1.nii",
    "seg/1.nii",
)
SCANS = (
    "COVID-19-CT-Seg_20cases/1.nii",
    "imagesTr/1.nii",
    "unmasked/1.nii",
    "labelled/1.nii",
    "CT-Seg/1.nii",
)


def test_masks_are_known_by_the_names_of_their_folders_too(tmp_path):
    for name in (*MASKS, *SCANS, "imagesTr/1_seg.nii"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"image")
    found, skipped = told(tmp_path)
    assert found == sorted(SCANS)
    assert skipped == {"as masks, by the names of files or folders": sorted((*MASKS, "imagesTr/1_seg.nii"))}
    assert told(tmp_path / "seg") == (["1.nii"], {})


def test_links_to_folders_elsewhere_are_told_of(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "in/there").mkdir(parents=True)
    for name in ("elsewhere/2.nii", "in/there/1.nii"):
        (tmp_path / name).write_bytes(b"image")
    (tmp_path / "in/CT-4").symlink_to("../elsewhere")
    (tmp_path / "in/again").symlink_to("there")
    found, skipped = told(tmp_path / "in")
    assert found == ["there/1.nii"]
    assert skipped == {
        "as links to folders elsewhere, which are not followed (name the folder itself)": ["CT-4"]
    }


def test_ids_are_always_safe_and_unique(tmp_path):
    names = [
        "../$(x).nii",
        "a b.nii",
        "a_b.nii.gz",
        "ä.mha",
        "-.nrrd",
        "x" * 150 + ".nii",
        "x" * 160 + ".nii",
    ]
    images = [tmp_path / str(number) / name.replace("/", "_") for number, name in enumerate(names)]
    made = ids(images, tmp_path)
    assert all(ID.fullmatch(name) for name in made)
    assert len({name.lower() for name in made}) == len(images)


def test_a_cased_twin_is_a_twin(tmp_path):
    assert ids([tmp_path / "1/A.nii", tmp_path / "2/a.nii"], tmp_path) == ["1_A", "2_a"]
