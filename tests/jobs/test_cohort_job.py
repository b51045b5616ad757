"""The cohort's tables from the statuses of its scans: who is used, who is not, and why."""

import csv
import json
from pathlib import Path

import pytest
import yaml

from ctssl import config, settings
from ctssl.errors import CohortError, ManifestError
from ctssl.jobs import cohort, summary
from ctssl.jobs.status import Status
from ctssl.manifest import read_manifest

VOLUME = {"right_l": 2.6, "left_l": 2.2, "native_spacing_mm": [0.7, 0.7, 1.5], "repairs": ["one", "two"]}
REGISTER = {"dice_right": 0.98, "dice_left": 0.97, "min_jacobian": 0.3, "inverse_mm_mean": 0.4}
REGISTER |= {"inverse_mm_p95": 0.9, "cut": "", "missing": "", "rung": "centre of mass", "rungs": 1}
REGISTER |= {"landmarks": 50, "valid": 49, "edges": 120}
STORE = {"laa_950_percent": 1.25}
UNFIT = {"dice_left": 0.41, "min_jacobian": 0.01}


def finish(results: Path, scan: str, **register) -> None:
    """A scan whose three stages went well, with these numbers of the registration."""
    numbers = (VOLUME, REGISTER | register, STORE | {"digest": f"digest-{scan}"})
    for stage, found in zip(summary.STAGES, numbers, strict=True):
        (results / stage / scan).mkdir(parents=True)
        Status(scan, True, stage, numbers=found).write(results / stage / scan)


def lose(results: Path, scan: str) -> None:
    """A scan lost at its registration."""
    for stage in summary.STAGES:
        (results / stage / scan).mkdir(parents=True)
        Status(scan, False, "register", "no way", "look at it").write(results / stage / scan)
    Status(scan, True, "volume", numbers=VOLUME).write(results / "volumes" / scan)


class Cohort:
    """A results folder of three scans: good, unfit (its lungs lie badly on the atlas), lost."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.results = folder, folder / "results"
        self.tables = cohort.CohortTables(
            *(self.results / name for name in ("failures.csv", "quality/quality.csv", "scans.csv")),
            sheet=self.results / "quality/index.html",
        )
        self.tables.sheet.parent.mkdir(parents=True)
        finish(self.results, "good")
        finish(self.results, "unfit", **UNFIT)
        lose(self.results, "lost")
        (self.results / "quality/unfit.png").write_bytes(b"a picture")
        self.write_manifest()

    def write_manifest(self, **keep: str) -> None:
        """Scan -> why it is kept."""
        with (self.folder / "scans.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["scan", "subject", "image", "keep", "keep_reason"])
            for scan in ("good", "unfit", "lost"):
                writer.writerow(
                    [scan, f"p-{scan}", "a.nii", "yes" if scan in keep else "", keep.get(scan, "")]
                )

    def text(self, **quality) -> str:
        path = self.folder / "study.yaml"
        path.write_text(yaml.safe_dump({"manifest": str(self.folder / "scans.csv"), "quality": quality}))
        chosen = config.read(path)
        return settings.cohort(chosen, read_manifest(chosen.manifest))

    def run(self, **quality) -> dict[str, dict[str, str]]:
        """Scan -> row of the quality table."""
        cohort.cohort(self.text(**quality), self.tables)
        return {row["scan"]: row for row in read(self.tables.quality)}


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def made(tmp_path):
    return Cohort(tmp_path)


def test_every_scan_has_a_row_with_all_that_was_measured(made):
    rows = made.run()
    assert list(rows["good"]) == list(cohort.QUALITY)
    assert rows["good"]["verdict"] == "pass"
    assert {
        key: rows["good"][key] for key in ("dice_left", "inverse_mm_mean", "valid_fraction", "lung_l")
    } == {
        "dice_left": "0.97",
        "inverse_mm_mean": "0.4",
        "valid_fraction": "0.98",
        "lung_l": "4.8",
    }
    assert rows["good"]["native_spacing_mm"] == "0.7; 0.7; 1.5"
    assert rows["good"]["repairs"] == "one; two"
    assert (rows["good"]["left_right_ratio"], rows["good"]["slice_mm"]) == ("0.8462", "1.5")
    assert (rows["lost"]["verdict"], rows["lost"]["excluded_at"], rows["lost"]["right_l"]) == (
        *("exclude", "register", "2.6"),
    )
    assert rows["lost"]["dice_right"] == ""


def test_a_scan_that_quality_excludes_is_told_with_its_picture_and_not_used(made):
    row = made.run()["unfit"]
    assert (row["verdict"], row["excluded_at"]) == ("exclude", "quality")
    assert row["reasons"].split("; ") == [
        "Dice of the left lung 0.41 is below 0.7 (exclude_dice)",
        "minimum Jacobian 0.01 is below 0.05 (warn_min_jacobian)",
    ]
    lost = {line["scan"]: line for line in read(made.tables.failures)}
    assert list(lost) == ["unfit", "lost"]
    assert (lost["unfit"]["stage"], lost["unfit"]["reason"]) == ("quality", row["reasons"])
    for word in ("quality/unfit.png", "keep: yes", "keep_reason", "column mask"):
        assert word in lost["unfit"]["advice"]
    assert (lost["lost"]["stage"], lost["lost"]["reason"], lost["lost"]["advice"]) == (
        *("register", "no way", "look at it"),
    )
    assert read(made.tables.scans) == [
        {"scan": "good", "subject": "p-good", "store": "digest-good", "path": "stores/good"}
    ]


def test_the_manifest_overrules_quality_with_its_reason(made):
    made.write_manifest(unfit="old surgery; seen by AB", good="no need", lost="in vain")
    rows = made.run()
    assert (rows["unfit"]["verdict"], rows["unfit"]["excluded_at"]) == ("warn", "")
    assert rows["unfit"]["reasons"].startswith(
        "kept by the manifest: old surgery; seen by AB; Dice of the left"
    )
    assert [row["scan"] for row in read(made.tables.scans)] == ["good", "unfit"]
    assert (rows["good"]["verdict"], rows["good"]["reasons"]) == ("pass", "")
    assert rows["lost"]["excluded_at"] == "register", "there is nothing to keep of it"


def test_other_limits_decide_anew(made):
    assert made.run(exclude_dice=0.4)["unfit"]["verdict"] == "warn"
    assert made.run(exclude_dice=None, warn_dice=None, warn_min_jacobian=None)["unfit"]["verdict"] == "pass"
    assert made.run(exclude_dice=0.975)["good"]["excluded_at"] == "quality"


def test_the_sheet_lies_beside_the_pictures_and_shows_everybody(made):
    made.run()
    page = made.tables.sheet.read_text()
    places = [page.index(f'id="scan-{scan}"') for scan in ("unfit", "lost", "good")]
    assert places == sorted(places)
    assert page.count("<img") == 1
    assert 'src="unfit.png"' in page


def test_a_manifest_that_changed_meanwhile_is_not_used(made):
    text = made.text()
    (made.folder / "scans.csv").write_text("scan,image\ngood,a.nii\n")
    with pytest.raises(ManifestError, match="changed since"):
        cohort.cohort(text, made.tables)


def test_enough_counts_what_quality_excludes(made):
    made.run()
    out = made.results / "quality/enough.txt"

    def limit(fraction: float) -> str:
        values = {"stage": "enough", "recipe": json.loads(settings.enough(config.read()))["recipe"]}
        return json.dumps(values | {"max_excluded_fraction": fraction})

    cohort.enough(limit(0.7), made.tables.failures, made.tables.quality, out)
    assert out.read_text() == "2 of 3 scans excluded\n"
    with pytest.raises(CohortError, match="2 of 3 scans are excluded"):
        cohort.enough(limit(0.6), made.tables.failures, made.tables.quality, out)


def test_status_knows_what_quality_excludes_once_it_was_judged(made):
    assert [status.scan for status in summary.exclusions(made.results)[0]] == ["lost"]
    made.run()
    lost, scans = summary.exclusions(made.results)
    assert ([(status.scan, status.stage) for status in lost], scans) == (
        [("lost", "register"), ("unfit", "quality")],
        3,
    )
    text, any_lost = summary.describe(made.results)
    assert any_lost
    assert "unfit: excluded at quality: Dice of the left lung 0.41" in text
    assert "ctssl retry" in text
    made.write_manifest(unfit="fine")
    made.run()
    assert [status.scan for status in summary.exclusions(made.results)[0]] == ["lost"]


def test_a_scan_that_a_later_run_lost_is_told_as_lost(made):
    made.run()
    Status("unfit", False, "volume", "the image is gone").write(made.results / "stores/unfit")
    lost = {status.scan: status.stage for status in summary.exclusions(made.results)[0]}
    assert lost == {"lost": "register", "unfit": "volume"}


def test_retry_clears_what_a_stage_excluded_and_says_what_helps_against_quality(made):
    made.run()
    with pytest.raises(CohortError, match=r"excluded by quality, .* change: unfit\n") as fault:
        summary.retry(made.results, ["unfit", "lost"])
    assert "keep: yes" in fault.value.advice
    assert (made.results / "stores/lost").exists(), "nothing was cleared"
    assert summary.retry(made.results, []) == ["lost"]
    assert (made.results / "stores/unfit").exists()
    with pytest.raises(CohortError, match="excluded by quality"):
        summary.retry(made.results, [])
    text, _ = summary.describe(made.results)
    assert "ctssl retry" not in text
    assert "After mending: the same snakemake command." in text


def test_retry_of_a_cohort_without_exclusions_clears_nothing(made):
    for scan in ("unfit", "lost"):
        (made.results / "stores" / scan / "status.json").unlink()
    assert summary.retry(made.results, []) == []
