import shutil
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from ctssl import __version__, cli
from ctssl.jobs.status import Status
from ctssl.manifest import read_manifest


def call(*args: object, code: int = 0) -> str:
    done = CliRunner().invoke(cli.cli, [str(arg) for arg in args])
    assert done.exit_code == code, (done.output, done.exception)
    return done.output


def fault(monkeypatch, capsys, *args: object) -> str:
    """What the real front door prints for a user's fault; it leaves with 2 and without a traceback."""
    monkeypatch.setattr(sys, "argv", ["ctssl", *map(str, args)])
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "Traceback" not in said.err
    return said.err


def commands(group: click.Group, path=()):
    for name, command in group.commands.items():
        yield (*path, name)
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


@pytest.mark.parametrize("path", list(commands(cli.cli)), ids=" ".join)
def test_every_command_has_help_that_is_a_sentence(path):
    said = call(*path, "--help")
    assert said.startswith("Usage: ")
    assert said.split("\n\n")[1].strip().endswith(".")


def test_version():
    assert __version__ in call("--version")


@pytest.fixture
def results(tmp_path):
    """Results of four scans: two ready, two excluded at unlike stages."""
    folder = tmp_path / "results"
    lost = {
        "berta": Status("berta", False, "volume", "no lungs were found", "give a mask"),
        "dora": Status("dora", False, "register", "the lungs do not fit", ""),
    }
    for scan in ("anna", "berta", "carla", "dora"):
        for stage in ("volumes", "registration", "stores"):
            (folder / stage / scan).mkdir(parents=True)
            lost.get(scan, Status(scan, True, "store")).write(folder / stage / scan)
    return folder


def test_status_lists_exclusions_and_leaves_with_3(results):
    said = call("status", "--results", results, code=cli.EXCLUDED_EXIT)
    assert cli.EXCLUDED_EXIT == 3
    assert "2 of 4 scans are ready" in said
    assert "berta: excluded at volume: no lungs were found\n  What to do: give a mask" in said
    assert "dora: excluded at register: the lungs do not fit" in said
    assert f"ctssl retry --results {results}" in said


def test_status_without_exclusions_leaves_with_0(results):
    for scan in ("berta", "dora"):
        shutil.rmtree(results / "stores" / scan)
    assert "2 of 2 scans are ready" in call("status", "--results", results)


def test_status_of_nothing_is_a_users_fault(monkeypatch, capsys, tmp_path):
    assert "What to do:" in fault(monkeypatch, capsys, "status", "--results", tmp_path)


def left(results: Path) -> set[str]:
    return {str(path.relative_to(results)) for path in results.glob("*/*")}


def test_retry_clears_every_stage_of_all_excluded_scans(results):
    before = left(results)
    said = call("retry", "--results", results)
    assert said.count("will be prepared anew") == 2
    cleared = {
        f"{stage}/{scan}" for stage in ("volumes", "registration", "stores") for scan in ("berta", "dora")
    }
    assert before - left(results) == cleared


def test_retry_of_named_scans_leaves_the_others(results):
    call("retry", "dora", "--results", results)
    assert {"stores/berta", "volumes/berta"} <= left(results)
    assert not any(path.endswith("/dora") for path in left(results))


def test_retry_of_a_scan_that_is_not_excluded_clears_nothing(monkeypatch, capsys, results):
    before = left(results)
    assert "not excluded: anna" in fault(monkeypatch, capsys, "retry", "anna", "dora", "--results", results)
    assert left(results) == before


def test_refresh_forgets_one_run(monkeypatch, capsys, results):
    for run in ("one", "two"):
        (results / "runs" / run / "seed0").mkdir(parents=True)
    call("refresh", "one", "--results", results)
    assert left(results / "runs") == {"two/seed0"}
    assert "does not exist" in fault(monkeypatch, capsys, "refresh", "one", "--results", results)
    assert "does not exist" in fault(monkeypatch, capsys, "refresh", "..", "--results", results)
    assert (results / "stores/anna").exists()


def test_show_names_what_is_there_and_prints_the_table(results):
    (results / "tables").mkdir()
    (results / "tables/probes.md").write_text("| row | fev1 |\n")
    (results / "failures.csv").write_text("scan\n")
    (results / "predictions").mkdir()
    said = call("show", "--results", results)
    assert str(results / "failures.csv") in said
    assert f"predictions {results / 'predictions'}\n" in said
    assert "umap.png" not in said
    assert said.endswith("| row | fev1 |\n\n")


def test_init_writes_a_study(tmp_path):
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans/a.nii.gz").write_bytes(b"image")
    said = call("init", tmp_path / "scans", "--to", tmp_path / "study")
    assert "snakemake" in said
    assert read_manifest(tmp_path / "study/scans.csv").scans == ["a"]


def test_init_refuses_to_overwrite(monkeypatch, capsys, tmp_path):
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans/a.nii.gz").write_bytes(b"image")
    call("init", tmp_path / "scans", "--to", tmp_path / "study")
    said = fault(monkeypatch, capsys, "init", tmp_path / "scans", "--to", tmp_path / "study")
    assert "exist already" in said
    assert "What to do:" in said


@pytest.mark.parametrize(
    "args",
    [
        ("init", "no such folder"),
        ("magic",),
        ("phantom",),
        ("phantom", "out", "--scans", "1"),
        ("stage", "atlas", "--out", "x"),
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_is_a_users_fault(monkeypatch, capsys, args):
    assert "Error: " in fault(monkeypatch, capsys, *args)


def test_a_stage_with_settings_of_another_version_is_a_users_fault(monkeypatch, capsys, tmp_path):
    settings = '{"stage": "splits", "recipe": -1}'
    args = ("stage", "splits", "--settings", settings, "--scans", tmp_path, "--out", tmp_path / "out")
    assert "pip install" in fault(monkeypatch, capsys, *args)
    assert not (tmp_path / "atlas").exists()
