import pytest
from click.testing import CliRunner
from cohorts import downloads
from cohorts.downloads import cells, image

from ctssl import config
from ctssl.cli import cli
from ctssl.manifest import read_manifest


def write(folder, to, code=0):
    """What `ctssl cohort mosmed` says."""
    done = CliRunner().invoke(cli, ["cohort", "mosmed", str(folder), "--to", str(to)])
    assert done.exit_code == code, (done.output, done.exception)
    return done.output if code == 0 else str(done.exception)


@pytest.mark.parametrize(
    ("inside", "masks"), [("COVID19_1110/studies", "COVID19_1110/masks"), ("studies", "masks"), ("", "masks")]
)
def test_severity_is_the_folder_and_masks_are_of_infection(tmp_path, inside, masks):
    downloads.mosmed(tmp_path / "in", inside, masks)
    write(tmp_path / "in", tmp_path / "study")
    rows = cells(tmp_path / "study")
    assert list(rows) == [f"study_{n:04}" for n in range(1, 13)]
    expected = ["CT-0"] * 2 + ["CT-1"] * 4 + ["CT-2"] * 2 + ["CT-3"] * 2 + ["CT-4"] * 2
    assert [row["severity"] for row in rows.values()] == expected
    assert [row["severity4"] for row in rows.values()] == expected[:8] + ["CT-3-4"] * 4
    assert {scan for scan, row in rows.items() if row["infection_mask"]} == {"study_0003", "study_0004"}
    assert rows["study_0003"]["infection_mask"].endswith("masks/study_0003_mask.nii.gz")
    read = read_manifest(tmp_path / "study/scans.csv")
    assert all(row.mask is None and row.subject == row.scan for row in read.rows)
    assert all(row.image is not None and row.image.is_file() for row in read.rows)


def test_the_config_runs_the_protocol_of_five_classes(tmp_path):
    downloads.mosmed(tmp_path / "in")
    said = write(tmp_path / "in", tmp_path / "study")
    read = config.read(tmp_path / "study/config.yaml")
    assert [(t.column, t.task, t.ordered) for t in read.evaluation.targets] == [
        ("severity", "classify", True)
    ]
    assert (read.evaluation.folds, read.evaluation.stratify) == (5, "severity")
    assert read.manifest == tmp_path / "study/scans.csv"
    assert read.atlas.mask is not None
    assert read.atlas.mask.is_file()
    assert read.quality.warn_slice_mm == 10
    assert read.mask.model == "R231CovidWeb"
    assert [c.column for c in read.evaluation.confounders] == ["slice_mm"]
    assert (read.evaluation.published, read.evaluation.reference) == ("mosmed", "context-aware")
    assert [baseline.name for baseline in read.baselines] == ["majority"]
    assert "severity: CT-0 2, CT-1 4, CT-2 2, CT-3 2, CT-4 2" in said
    assert "published: CT-0 254, CT-1 684, CT-2 125, CT-3 45, CT-4 2" in said
    assert "infection_mask: of 2 scans" in said


def test_what_has_another_name_is_passed_over_and_said(tmp_path):
    downloads.mosmed(tmp_path / "in")
    image(tmp_path / "in/COVID19_1110/studies/CT-1/copy of study.nii.gz")
    image(tmp_path / "in/COVID19_1110/masks/study_0999_mask.nii")
    said = write(tmp_path / "in", tmp_path / "study")
    assert "not named study_0001.nii.gz: 1, as " in said
    assert "masks without a study: 1, as study_0999" in said
    assert len(cells(tmp_path / "study")) == 12


def test_links_and_capitals(tmp_path):
    downloads.mosmed(tmp_path / "in", "studies", "masks")
    image(tmp_path / "elsewhere/study_0900.nii.gz")
    for path in (tmp_path / "in/studies/CT-4").iterdir():
        path.unlink()
    (tmp_path / "in/studies/CT-4").rmdir()
    (tmp_path / "in/studies/CT-4").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in/studies/CT-0/study_0700.nii.gz").symlink_to(tmp_path / "nowhere")
    (tmp_path / "in/masks/study_0004_mask.nii.gz").unlink()
    (tmp_path / "in/masks/study_0004_mask.nii.gz").symlink_to(tmp_path / "nowhere")
    image(tmp_path / "in/studies/CT-0/STUDY_0800.NII.GZ")
    image(tmp_path / "in/masks/study_0800_MASK.NII")
    said = write(tmp_path / "in", tmp_path / "study")
    rows = cells(tmp_path / "study")
    assert [scan for scan in rows if scan > "study_0010"] == ["study_0800"]
    assert rows["study_0800"]["infection_mask"].endswith("study_0800_MASK.NII")
    assert rows["study_0004"]["infection_mask"] == ""
    assert (
        f"links to folders elsewhere, which are not followed (name the folder itself): 1, as {tmp_path}"
        in said
    )
    assert "links that lead nowhere (to fetch: datalad get, dvc pull): 2, as " in said


@pytest.mark.parametrize(
    ("extra", "fault"),
    [
        ("studies/CT-5/study_0999.nii.gz", "classes are CT-0, CT-1, CT-2, CT-3, CT-4"),
        ("studies/ct-1/study_0999.nii.gz", "classes are CT-0, CT-1, CT-2, CT-3, CT-4"),
        ("studies/study_0999.nii.gz", "study_0999.nii.gz has no class"),
        ("studies/CT-2/study_0001.nii.gz", "study_0001 is there twice"),
        ("studies/CT-0/study_0001.nii", "study_0001 is there twice"),
        ("masks/study_0003_mask.nii", "study_0003 is there twice"),
    ],
)
def test_faults_are_named(tmp_path, extra, fault):
    downloads.mosmed(tmp_path / "in", "studies", "masks")
    image(tmp_path / "in" / extra)
    assert fault in write(tmp_path / "in", tmp_path / "study", code=1)
    assert not (tmp_path / "study").exists()


def test_an_empty_folder_and_a_study_that_is_there(tmp_path):
    (tmp_path / "in").mkdir()
    assert "holds no studies of MosMedData" in write(tmp_path / "in", tmp_path / "study", code=1)
    downloads.mosmed(tmp_path / "in")
    write(tmp_path / "in", tmp_path / "study")
    before = (tmp_path / "study/scans.csv").read_bytes()
    assert "exist already" in write(tmp_path / "in", tmp_path / "study", code=1)
    assert (tmp_path / "study/scans.csv").read_bytes() == before
