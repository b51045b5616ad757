"""Outputs never leave the results folder: no job writes or deletes through a link that lies inside of it."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ctssl.errors import CohortError, ConfigError
from ctssl.jobs import outputs, summary
from ctssl.jobs.status import Status
from ctssl.recipes import RECIPES

PLANTED = [
    *("volumes/anna", "registration/anna", "stores/anna", "quality/anna.png", "quality/quality.csv"),
    *("logs/volume", "logs/volume/anna.log", "logs/cohort.log"),
    *("runs/tiny", "runs/tiny/seed0", "runs/tiny/seed0/all", "runs/tiny/seed0/all/checkpoints"),
    *(
        "runs/tiny/scans.txt",
        "features/a.parquet",
        "cache/features",
        "probes/row/age.json",
        "predictions/row/age.json",
        "figures/umap.png",
    ),
    *("splits/seed0-plain.csv", "tables/probes.md", "atlas/mask.nii.gz"),
]


@pytest.fixture
def elsewhere(tmp_path):
    """A folder that nothing may change, with its files."""
    folder = tmp_path / "elsewhere"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub/kept").write_text("kept")
    (folder / "status.json").write_text("kept")
    yield folder
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*")) == [
        "status.json",
        "sub",
        "sub/kept",
    ]
    assert {path.read_text() for path in folder.rglob("*") if path.is_file()} == {"kept"}


@pytest.fixture
def results(tmp_path):
    folder = tmp_path / "results"
    for scan in ("anna", "berta"):
        for stage in outputs.STAGES:
            (folder / stage / scan).mkdir(parents=True)
            Status(scan, False, "volume", "no lungs", "look").write(folder / stage / scan)
    return folder


def plant(link: Path, target: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    outputs.remove(link)
    link.symlink_to(target)


LINKS = [(place, target) for place in PLANTED for target in ("elsewhere", "elsewhere/status.json", "nowhere")]
LINKS += [("scans.csv", "elsewhere/status.json"), ("failures.csv", "elsewhere/status.json")]
LINKS += [("scans.csv", "nowhere"), ("failures.csv", "nowhere")]


@pytest.mark.parametrize(("place", "target"), LINKS)
def test_a_link_below_the_results_is_refused(results, elsewhere, place, target):
    plant(results / place, elsewhere.parent / target)
    with pytest.raises(ConfigError) as fault:
        outputs.check(results)
    assert str(results / place) in fault.value.message
    assert "remove" in fault.value.advice


def test_results_and_their_first_folders_may_be_links(results, tmp_path):
    outputs.check(results)
    (tmp_path / "disk").mkdir()
    for name in ("stores", "volumes"):
        (results / name).rename(tmp_path / "disk" / name)
        (results / name).symlink_to(tmp_path / "disk" / name)
    results.rename(tmp_path / "disk/results")
    results.symlink_to(tmp_path / "disk/results")
    outputs.check(results)
    outputs.check(tmp_path / "not there yet")


def test_links_inside_of_what_is_removed_anyway_do_not_matter(results, elsewhere):
    plant(results / "stores/anna/store.zarr", elsewhere)
    outputs.check(results)
    outputs.remove(results / "stores/anna")
    assert not (results / "stores/anna").exists()


def test_a_disk_that_is_not_mounted_is_told(results, tmp_path):
    plant(results / "stores", tmp_path / "mnt/stores")
    with pytest.raises(ConfigError, match=r"stores is a link to .*mnt/stores, which does not exist") as fault:
        outputs.check(results)
    assert "mount" in fault.value.advice


def test_many_links_make_a_short_message(results, elsewhere):
    for number in range(50):
        plant(results / f"logs/volume/{number}.log", elsewhere / "status.json")
    with pytest.raises(ConfigError) as fault:
        outputs.check(results)
    assert fault.value.message.count("\n") == 5


def test_links_that_stay_in_the_results_are_no_matter(results):
    (results / ".git/annex").mkdir(parents=True)
    (results / ".git/annex/content").write_text("x")
    for place in ("tables/probes.md", "scans.csv", "logs/volume/anna.log"):
        plant(results / place, results / ".git/annex/content")
    plant(results / "figures/umap.png", Path("../.git/annex/not fetched"))
    plant(results / "notes", Path("/"))  # no job writes there
    outputs.check(results)


def test_every_place_that_the_documentation_names_is_looked_at():
    text = (Path(__file__).parents[2] / "docs/files.md").read_text()
    section = text.split("\n## Results\n")[1].split("\n### ")[0]
    places = {path.split("/")[0] for path in re.findall(r"^\| `([^`]+)`", section, re.MULTILINE)}
    assert places == {*outputs.FOLDERS, *outputs.FILES}


@pytest.mark.parametrize("kind", ["nothing", "file", "folder", "link", "dangling link", "pipe"])
def test_what_is_removed_is_gone_and_nothing_else(tmp_path, elsewhere, kind):
    path = tmp_path / "path"
    makes = {
        "nothing": lambda: None,
        "file": lambda: path.write_text("x"),
        "folder": lambda: ((path / "a").mkdir(parents=True), (path / "a/b").symlink_to(elsewhere)),
        "link": lambda: path.symlink_to(elsewhere),
        "dangling link": lambda: path.symlink_to(tmp_path / "nowhere"),
        "pipe": lambda: os.mkfifo(path),
    }
    makes[kind]()
    outputs.remove(path)
    assert not os.path.lexists(path)


CHILD = """
import json, sys
from pathlib import Path
from ctssl.jobs import scan, supervise
out = Path(sys.argv[1])
job = scan.ScanJob("store", "anna", sys.argv[2], out, out, supervise.Limits(60, 2000), True)
print(job.run(lambda settings: (out / "data").write_text("new") and {}).ok)
"""


@pytest.mark.parametrize("kind", ["link", "dangling link", "folder"])
def test_the_job_of_a_scan_writes_into_a_folder_of_its_own(results, elsewhere, kind):
    out = results / "stores/anna"
    if kind != "folder":
        plant(out, elsewhere if kind == "link" else elsewhere.parent / "nowhere")
    settings = json.dumps({"stage": "store", "recipe": RECIPES["store"]})
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(out), settings], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "True", done.stderr
    assert not out.is_symlink()
    assert sorted(path.name for path in out.iterdir()) == ["data", "status.json"]
    assert not (elsewhere.parent / "nowhere").exists()


def test_a_log_is_not_written_through_a_link(results, elsewhere):
    log = results / "logs/volume/anna.log"
    plant(log, elsewhere / "status.json")
    code = "import sys; from pathlib import Path; from ctssl.log import redirect; redirect(Path(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", code, str(log)], capture_output=True, check=False)
    assert done.returncode == 1


def test_retry_removes_links_and_not_what_they_lead_to(results, elsewhere):
    plant(results / "volumes/anna", elsewhere)
    plant(results / "registration/anna", elsewhere.parent / "nowhere")
    assert summary.retry(results, ["anna"]) == ["anna"]
    assert not any((results / stage / "anna").is_symlink() for stage in outputs.STAGES)
    assert (results / "stores/berta").exists()


def test_refresh_removes_a_link_and_not_what_it_leads_to(results, elsewhere):
    plant(results / "runs/tiny", elsewhere)
    summary.refresh(results, "tiny")
    assert not (results / "runs/tiny").is_symlink()


@pytest.mark.parametrize("name", ["../elsewhere", "..", ".", "", "/", "anna/../../elsewhere", "*"])
def test_names_that_lead_elsewhere_are_no_scans_and_no_runs(results, elsewhere, name):
    with pytest.raises(CohortError, match="not excluded"):
        summary.retry(results, [name])
    with pytest.raises(CohortError, match="does not exist"):
        summary.refresh(results, name)


@pytest.mark.parametrize("given", [[], ["../../elsewhere"], ["anna"]])
def test_a_status_that_names_another_place_makes_retry_delete_nothing_there(results, elsewhere, given):
    for stage in outputs.STAGES:
        Status("../../elsewhere", False, "volume", "no", "").write(results / stage / "anna")
    if given == ["../../elsewhere"]:
        with pytest.raises(CohortError, match="not excluded"):
            summary.retry(results, given)
    else:
        assert "anna" in summary.retry(results, given)
        assert not (results / "stores/anna").exists()


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "[" * 10**5, '{"scan": "anna", "ok": true, "stage": 3}', '{"scan": "berta", "ok": true}'],
)
def test_a_damaged_status_is_an_exclusion_that_retry_clears(results, text):
    (results / "stores/anna/status.json").write_text(text)
    said, any_lost = summary.describe(results)
    assert any_lost
    assert "anna: excluded at store: stores/anna/status.json cannot be used" in said
    assert summary.retry(results, ["anna"]) == ["anna"]


def test_pages_that_are_no_longer_asked_for_go_and_those_of_others_stay(tmp_path, elsewhere):
    results = tmp_path / "study"
    ours = [file for files in outputs.PAGES.values() for file in files]
    ours += ["tables/by-site.csv", "tables/by-site.md", "tables/by-a.b.csv", "tables/by-a.b.md"]
    others = ["tables/by-hand.csv", "tables/notes.md", "figures/umap.png", "tables/probes.csv"]
    others += ["splits/by-site.csv", "splits/by-a.b.csv", "splits/seed0-plain.csv"]
    for name in (*ours, *others):
        (results / name).parent.mkdir(parents=True, exist_ok=True)
        (results / name).write_text(name)
    asked = [*outputs.PAGES, "probes", "by-site", "by-a.b"]
    assert outputs.remove_unasked(results, asked) == []
    gone = outputs.remove_unasked(results, ["probes", "pairs", "by-a.b"])
    left = {"tables/pairs.csv", "tables/pairs.md", "tables/by-a.b.csv", "tables/by-a.b.md"}
    assert {str(path.relative_to(results)) for path in gone} == set(ours) - left
    assert all((results / name).exists() for name in (*left, *others))
    assert not any(path.exists() for path in gone)
    plant(results / "tables/paper.md", elsewhere / "sub/kept")
    assert outputs.remove_unasked(results, [*outputs.PAGES.keys() - {"paper"}, "by-site", "by-a.b"])
