import csv

import pytest
from click.testing import CliRunner
from cohorts import downloads
from cohorts.downloads import cells, image

from ctssl import config
from ctssl.cli import cli
from ctssl.manifest import read_manifest


def write(folder, labels, to, *options, code=0):
    """What `ctssl cohort covid19-ct` says."""
    words = ["cohort", "covid19-ct", str(folder), "--labels", str(labels), "--to", str(to), *options]
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == code, (done.output, done.exception)
    return done.output if code == 0 else str(done.exception)


@pytest.fixture
def collection(tmp_path):
    downloads.covid(tmp_path / "in", tmp_path / "labels.csv")
    return tmp_path


def add(folder, *lines):
    with (folder / "labels.csv").open("a", newline="") as file:
        csv.writer(file).writerows(lines)


def test_sources_classes_and_subjects(collection):
    said = write(collection / "in", collection / "labels.csv", collection / "study")
    found = {
        scan: (row["source"], row["covid"], row["subject"])
        for scan, row in cells(collection / "study").items()
    }
    assert sorted(found.values()) == [
        ("LIDC", "negative", "LIDC-IDRI-0001"),
        ("LIDC", "negative", "LIDC-IDRI-0002"),
        ("LIDC", "negative", "LIDC-IDRI-0003"),
        ("bell", "positive", "bell-7"),
        ("coronacases", "positive", "coronacases_coronacases_001"),
        ("coronacases", "positive", "coronacases_coronacases_002"),
    ]
    read = read_manifest(collection / "study/scans.csv")
    assert read.label_columns == ("source", "covid")
    assert all(row.mask is None for row in read.rows)
    assert "LIDC: 3 negative" in said
    assert "every source has one class" in said


def test_the_longest_path_decides(collection):
    add(collection, ("LIDC/LIDC-IDRI-0002", "positive", ""))
    said = write(collection / "in", collection / "labels.csv", collection / "study")
    rows = {row["subject"]: row["covid"] for row in cells(collection / "study").values()}
    assert (rows["LIDC-IDRI-0001"], rows["LIDC-IDRI-0002"]) == ("negative", "positive")
    assert "every source has one class" not in said


def test_the_config_takes_weights_of_other_cohorts(collection):
    write(collection / "in", collection / "labels.csv", collection / "study")
    read = config.read(collection / "study/config.yaml")
    assert [(t.column, t.task) for t in read.evaluation.targets] == [("covid", "classify")]
    assert (read.evaluation.folds, read.evaluation.stratify) == (5, "covid")
    assert read.mask.model == "R231CovidWeb"
    assert [c.column for c in read.evaluation.confounders] == ["source", "slice_mm"]
    assert (read.evaluation.published, read.evaluation.reference) == ("covid19-ct", "context-aware-mosmed")
    assert [baseline.name for baseline in read.baselines] == ["majority"]
    assert all(run.weights is not None for run in read.runs if not run.options.supervised)
    atlases = [
        config.read(config.DEFAULTS.parent / f"config/{name}.yaml").atlas for name in ("copdgene", "mosmed")
    ]
    assert atlases[0] == atlases[1] == config.read(config.DEFAULTS.parent / "config/covid19-ct.yaml").atlas


def test_scans_without_a_label_and_lines_without_a_scan(collection):
    for number in range(12):
        image(collection / f"in/zhou/{number}.nii.gz")
    image(collection / "in/alone.nii.gz")
    add(collection, ("nowhere", "positive", ""))
    said = write(collection / "in", collection / "labels.csv", collection / "study", code=1)
    assert "alone.nii.gz: lies in no folder, so its source is not known" in said
    assert "zhou/0.nii.gz: has no label" in said
    assert "and 4 more" in said
    assert not (collection / "study").exists()
    for path in (collection / "in/zhou").iterdir():
        path.unlink()
    (collection / "in/alone.nii.gz").unlink()
    said = write(collection / "in", collection / "labels.csv", collection / "study", code=1)
    assert "nowhere: is in labels.csv, but there is no scan" in said


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (("zhou", "maybe", ""), "line 5: the class is negative or positive, not 'maybe'"),
        (("zhou", "-1024", ""), "line 5: the class is negative or positive, not '-1024'"),
        (("zhou", "", ""), "line 5: the class is negative or positive, not ''"),
        (("LIDC", "positive", ""), "line 5: 'LIDC' comes twice"),
        (("../LIDC", "positive", ""), "line 5: '../LIDC' is no path below the folder"),
        (("/LIDC", "positive", ""), "line 5: '/LIDC' is no path below the folder"),
        (("", "positive", ""), "line 5: '' is no path below the folder"),
        (("zhou", "positive", "Anna Müller"), "line 5: subject 'Anna Müller'"),
        (("zhou", "positive", "NA"), "line 5: subject 'NA' is nobody's id"),
    ],
)
def test_faults_of_the_table_are_named_with_their_line(collection, line, fault):
    add(collection, line)
    assert fault in write(collection / "in", collection / "labels.csv", collection / "study", code=1)


def test_a_missing_column_and_an_empty_folder(collection):
    (collection / "labels.csv").write_text("path,class\nLIDC,negative\n")
    said = write(collection / "in", collection / "labels.csv", collection / "study", code=1)
    assert "the column 'covid' is missing" in said
    (collection / "empty").mkdir()
    (collection / "labels.csv").write_text("path,covid\n")
    said = write(collection / "empty", collection / "labels.csv", collection / "study", code=1)
    assert "there are no scans" in said


def test_masks_in_folders_of_their_own_are_no_scans(collection):
    for name in ("Lung_Mask", "Infection_Mask"):
        image(collection / f"in/coronacases/{name}/coronacases_001.nii.gz")
    said = write(collection / "in", collection / "labels.csv", collection / "study")
    assert len(cells(collection / "study")) == 6
    assert "passed over, as masks, by the names of files or folders: 3, as " in said


def test_a_folder_whose_scans_all_have_lines_of_their_own(collection):
    add(collection, *((f"LIDC/LIDC-IDRI-000{n}", "negative", "") for n in (1, 2, 3)))
    said = write(collection / "in", collection / "labels.csv", collection / "study", code=1)
    assert "LIDC: every scan in it has a longer path in labels.csv, so this line says nothing" in said
    assert "no scan" not in said


def test_ids_from_names_of_files_are_said_to_be_so_and_may_be_numbers(collection):
    said = write(collection / "in", collection / "labels.csv", collection / "study")
    assert "Their ids come from the names of files" in said
    said = write(collection / "in", collection / "labels.csv", collection / "2", "--numbered")
    assert "names of files, and" not in said
    rows = cells(collection / "2")
    assert list(rows) == [f"scan000{n}" for n in range(1, 7)]
    assert rows["scan0005"]["subject"] == "scan0005"
