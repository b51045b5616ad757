"""Folders and images whose names are commands, wildcards and quotes: taken letter for letter."""

import json
import shutil

import pytest
from workflow.study import Study

pytestmark = pytest.mark.xdist_group("workflow")

FOLDER = 'it\'s $(touch pwned) {scan} "q" ; `touch pwned` ü *[x]'
IMAGE = "images/$(touch pwned) {scan} {input} {{x}} ' \" ; % \\ ü*[a].nii.gz"
REASON = "{scan} {wildcards.scan} $(touch pwned) `touch pwned` ' \" \\ ü"


@pytest.fixture
def hostile(untouched, tmp_path) -> Study:
    """The micro study in a hostile folder, one image with a hostile name, one reason."""
    study = untouched.copy(tmp_path / FOLDER)
    first, second, *_ = (row | {"exclude": "", "exclude_reason": ""} for row in study.rows())
    shutil.move(study.folder / first["image"], study.folder / IMAGE)
    study.write_rows(
        [
            first | {"image": IMAGE, "mask": ""},
            second | {"image": "images/{scan}.nii.gz", "mask": "$(touch pwned) {scan}.nii"},
            second | {"scan": "x.y-z", "exclude": "yes", "exclude_reason": REASON},
        ]
    )
    return study


def test_names_that_are_commands_and_wildcards_are_only_names(hostile, tmp_path):
    scans = ["phantom000", "phantom001", "x.y-z"]
    assert hostile.plan()["volume"] == 3
    hostile.snakemake(*(f"results/volumes/{scan}" for scan in scans))
    told = [json.loads((hostile.results / "volumes" / scan / "status.json").read_text()) for scan in scans]
    assert [status["ok"] for status in told] == [True, False, False]
    assert "does not exist" in told[1]["reason"]
    assert REASON in told[2]["reason"]
    assert not list(tmp_path.rglob("pwned"))
    assert hostile.plan()["volume"] == 0, "what was made is known again"


def test_results_may_have_a_hostile_name_but_no_braces(hostile, tmp_path):
    hostile.change("results: results", 'results: "r $(touch pwned) \' ; `touch pwned` ü *[x]"')
    name = "r $(touch pwned) ' ; `touch pwned` ü *[x]"
    hostile.snakemake(f"{name}/volumes/phantom000")
    assert json.loads((hostile.folder / name / "volumes/phantom000/status.json").read_text())["ok"]
    assert not list(tmp_path.rglob("pwned"))
    hostile.change('results: "r ', 'results: "{scan} ')
    assert "may not hold { or }" in hostile.snakemake("--dry-run", ok=False)


@pytest.mark.slow
def test_a_whole_study_in_a_hostile_folder_has_the_results_of_any_other(untouched, finished, tmp_path):
    study = untouched.copy(tmp_path / FOLDER)
    study.snakemake()
    assert study.values() == finished.values()
    assert study.plan() == {}
    assert study.ctssl("status").returncode == 0
    assert not list(tmp_path.rglob("pwned"))
