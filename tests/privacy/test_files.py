"""Names of files and folders, which are often names of people: reports go by the scan's id."""

import ast
import csv
import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from prepare.balls import body, straight
from prepare.dicom import write_slices
from privacy.planted import BORN, GIVEN, NAME, NUMBER, ROOT, found

from ctssl import config, settings
from ctssl.cli import cli
from ctssl.cohorts.folder import write_study
from ctssl.errors import DamagedError
from ctssl.jobs import cohort, summary
from ctssl.jobs.status import Status
from ctssl.manifest import read_manifest
from ctssl.prepare import headers

CTSSL = Path(headers.__file__).parents[1]
_PATHS = {"path", "folder", "file", "here", "name", "error", "image", "header", "uid", "series_uid", "known"}


def _quoted(call: ast.Call) -> set[str]:
    """Names of what stands in braces in the texts of a call, without numbers counted of it."""
    found = set()
    for text in (node for node in ast.walk(call) if isinstance(node, ast.FormattedValue)):
        value = text.value
        while isinstance(value, ast.Attribute | ast.Subscript):
            if isinstance(value, ast.Attribute) and value.attr in ("message", "advice"):
                return found
            value = value.value
        if isinstance(value, ast.Name):
            found.add(value.id)
    return found


@pytest.mark.parametrize("module", sorted(CTSSL.glob("prepare/*.py")), ids=lambda path: path.stem)
def test_the_errors_of_scans_quote_no_path_no_header_and_no_library(module):
    """They go into reports: whatever they say is in our own words, or a number."""
    for call in (node for node in ast.walk(ast.parse(module.read_text())) if isinstance(node, ast.Call)):
        if isinstance(call.func, ast.Name) and call.func.id in ("ScanError", "DamagedError"):
            assert not _quoted(call) & _PATHS, f"{module.name}:{call.lineno}"


@pytest.fixture
def study(tmp_path):
    """A manifest whose paths hold a name; one scan is lost, one is used."""
    folder = tmp_path / "study"
    inside = Path(f"{NAME} {GIVEN}") / f"{BORN}"
    (folder / inside).mkdir(parents=True)
    results = folder / "results"
    (results / "quality").mkdir(parents=True)
    with (folder / "scans.csv").open("w", newline="") as file:
        rows = [[scan, inside / f"{NUMBER}.nii"] for scan in ("lost", "used")]
        csv.writer(file).writerows([["scan", "image"], *rows, ["away", f"/srv/{NAME}/b.nii"]])
    for stage in summary.STAGES:
        for scan in ("lost", "used", "away"):
            (results / stage / scan).mkdir(parents=True)
            numbers = {"digest": "0"}
            Status(scan, scan == "used", "volume", "no", "look", numbers).write(results / stage / scan)
    return folder


def make_tables(folder: Path, own: str = "") -> None:
    (folder / "study.yaml").write_text(f"manifest: {folder}/scans.csv\nresults: {folder}/results\n{own}")
    chosen = config.read(folder / "study.yaml")
    text = settings.cohort(chosen, read_manifest(chosen.manifest))
    results = folder / "results"
    paths = (results / name for name in ("failures.csv", "quality/quality.csv", "scans.csv"))
    cohort.cohort(text, cohort.CohortTables(*paths, sheet=results / "quality/index.html"))


def test_reports_go_by_the_scans_id(study):
    make_tables(study)
    assert found(study / "results", [NAME, GIVEN, BORN, NUMBER]) == []
    assert found(study / "results", [str(study)]) == []


def test_a_switch_shows_the_files_as_the_manifest_has_them(study):
    make_tables(study, "reports: {file_names: true}\n")
    results, name = study / "results", f"{NAME} {GIVEN}/{BORN}/{NUMBER}.nii"
    for table, there in (
        ("failures.csv", ["lost", "away"]),
        ("quality/quality.csv", ["lost", "used", "away"]),
    ):
        with (results / table).open(newline="") as file:
            images = {row["scan"]: row["image"] for row in csv.DictReader(file)}
        assert list(images) == there
        assert images["lost"] == name
        assert images["away"] == f"/srv/{NAME}/b.nii"
    assert name in (results / "quality/index.html").read_text()
    assert NAME not in (results / "scans.csv").read_text()


def test_the_switch_concerns_the_job_cohort_alone(study):
    on, off = (config.read(), config.read(_overlay(study, "reports: {file_names: true}")))
    manifest = read_manifest(study / "scans.csv")
    stages = {
        "volume": lambda c: settings.volume(c, manifest, "used"),
        "register": settings.register,
        "store": settings.store,
        "enough": settings.enough,
        "features": settings.features,
        "cohort": lambda c: settings.cohort(c, manifest),
    }
    assert [name for name, of in stages.items() if of(on) != of(off)] == ["cohort"]


def _overlay(folder: Path, text: str) -> Path:
    (folder / "own.yaml").write_text(text)
    return folder / "own.yaml"


def test_ids_of_a_first_manifest_can_tell_nothing_of_the_files(tmp_path):
    folder = tmp_path / "scans"
    (folder / NAME).mkdir(parents=True)
    for name in ("b.nii", f"{NUMBER}.nii"):
        (folder / NAME / name).touch()
    said = write_study(folder, tmp_path / "named")
    assert "--numbered" in said
    assert NUMBER in "".join(read_manifest(tmp_path / "named/scans.csv").scans)
    said = write_study(folder, tmp_path / "numbered", numbered=True)
    assert "--numbered" not in said
    assert read_manifest(tmp_path / "numbered/scans.csv").scans == ["scan0001", "scan0002"]
    assert CliRunner().invoke(cli, ["init", "--help"]).output.count("--numbered") == 1


def test_ctssl_series_lists_uids_on_the_terminal_and_writes_nothing(tmp_path):
    hu, place = body(straight()), straight()
    first = write_slices(tmp_path / "scan", hu, place, ConvolutionKernel="B30f", PatientName=NAME)
    second = write_slices(tmp_path / "scan", hu[:9], place, prefix="s", SeriesDescription=NAME)
    with warnings.catch_warnings():  # pydicom warns of what it is told to write
        warnings.simplefilter("ignore")
        write_slices(tmp_path / "scan", hu[:5], place, prefix="t", SeriesInstanceUID="\x1b[31m")
    before = sorted(tmp_path.rglob("*"))
    said = CliRunner().invoke(cli, ["series", str(tmp_path / "scan")])
    assert said.exit_code == 0, said.output
    assert said.output.splitlines() == [
        f"{first}  {len(hu)} images, CT, 6 mm, kernel B30f",
        f"{second}  9 images, CT, 6 mm",
        "no valid uid  5 images, CT, 6 mm",
    ]
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("B30f", "B30f"),
        (["I50f", "3"], "I50f 3"),
        ("  LUNG ", "LUNG"),
        ("Discovery CT750 HD", "Discovery CT750 HD"),
        ("SOMATOM Definition AS+", "SOMATOM Definition AS+"),
        ("NeuViz 16 (Essence)", "NeuViz 16 (Essence)"),
        (f"{NAME}^{GIVEN}", None),
        ("<b>B30f</b>", None),
        ("=1+1", None),
        ("B30f\nB40f", None),
        ("B" * 33, None),
        ("Ä30", None),
        ("", None),
        (None, None),
        (5.0, None),
        (b"B30f", None),
        ([{"a": NAME}], None),
    ],
)
def test_kernel_and_model_are_told_when_they_are_short_and_plain(value, told):
    header = {"ConvolutionKernel": value, "ManufacturerModelName": value}
    facts = headers.facts_of(header)
    assert (facts.get("kernel"), facts.get("scanner")) == (told, told)


@pytest.mark.parametrize("value", [NAME, "0", "-1", "nan", "inf", None, "", [1, 2], {"a": NAME}])
def test_a_thickness_is_a_length(value):
    assert headers.facts_of({"SliceThickness": value}) == {}


def test_a_described_series_has_no_free_text():
    words = headers.described(
        {"Modality": NAME, "ConvolutionKernel": f"<{NAME}>", "SeriesInstanceUID": ROOT}, 3
    )
    assert words == "3 images, of no known modality"


@pytest.mark.parametrize(
    ("tag", "value", "fits"),
    [
        ("Rows", 512, True),
        ("Rows", "512", True),
        ("Rows", NAME, False),
        ("Rows", [512, 512], False),
        ("Rows", -5, False),
        ("Rows", 1e9, False),
        ("Rows", float("nan"), False),
        ("BitsAllocated", 10**12, False),
        ("PixelSpacing", ["0.7", "0.7"], True),
        ("PixelSpacing", [0.7, NAME], False),
        ("PixelSpacing", None, True),
        ("RescaleSlope", np.float32(1), True),
        ("RescaleSlope", b"1", True),
        ("RescaleSlope", [1, 1], False),
        ("PixelPaddingValue", [-2000, -2000], False),
        ("ImagePositionPatient", [{"a": 1}], False),
    ],
)
def test_numbers_of_a_header_are_numbers(tag, value, fits):
    if fits:
        headers.check_numbers({tag: value})
        return
    with pytest.raises(DamagedError, match=f"its {tag} is no ") as fault:
        headers.check_numbers({tag: value})
    assert NAME not in str(fault.value)


def test_a_status_that_is_not_there_names_no_folder_of_the_machine(tmp_path):
    status = Status.outcome(tmp_path / NAME / "volumes" / "scan", "scan", "volume")
    assert not status.ok
    assert NAME not in json.dumps([status.reason, status.advice])
