"""One call for a user, with a stand-in for the preparation; tests/workflow/test_embed_study.py has it all."""

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from share import models
from train import synthetic

import ctssl
from ctssl.cli import cli
from ctssl.errors import ConfigError, MachineFault, ScanError, StoreError, WeightsError
from ctssl.evaluate.features import embed_scan
from ctssl.jobs.status import Status
from ctssl.share import embed, scan

SCANS = "1.nii 1.nii.gz 1.mha 2.nii 2.nrrd 3.nii.gz 9.nii full.nii gone.nii gone.nii.gz bad"
GOOD = {"dice_right": 0.9, "dice_left": 0.9, "landmarks": 6, "valid": 6, "edges": 5}


@pytest.fixture
def shared(tmp_path):
    """An exported folder, or what looks like it."""
    models.save_atlas(tmp_path / "model/atlas")
    models.save(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """The requests made; scans are numbers, others are lost, and `full` meets a full disk."""
    requests = []
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)

    def stand_in(request, folder: Path):
        requests.append(request)
        name = Path(request.image).name.split(".")[0]
        if name == "full":
            raise MachineFault(f"{request.scan}: the disk is full", "make room on it")
        if not name.isdigit():
            raise ScanError(f"{request.scan} is lost at volume: it does not exist", "correct the path")
        made = synthetic.write_scan(folder / "made", int(name), synthetic.atlas())
        shutil.move(made.path, folder / scan.STORE)
        return GOOD | ({"dice_left": 0.5} if name == "9" else {})

    monkeypatch.setattr(embed, "prepare", stand_in)
    monkeypatch.chdir(tmp_path)
    for name in SCANS.split():
        (tmp_path / name).touch()
    return requests


def expected(number: int, shared: Path, tmp_path: Path) -> np.ndarray:
    model = ctssl.load_model(shared)
    store = synthetic.write_scan(tmp_path / "truth", number, synthetic.atlas())
    return embed_scan(model.embedder, store, model.device)


def run(shared, *args, code=0):
    done = CliRunner().invoke(cli, ["embed", *map(str, args), "--model", str(shared)])
    assert done.exit_code == code, (done.output, done.exception)
    return done


def test_a_vector_is_that_of_the_stores_scan_and_nothing_is_left_behind(shared, asked, tmp_path):
    before = set(tmp_path.iterdir())
    vector = ctssl.embed(tmp_path / "3.nii.gz", ctssl.load_model(shared))
    assert set(tmp_path.iterdir()) == before
    assert vector.dtype == np.float32
    np.testing.assert_array_equal(vector, expected(3, shared, tmp_path))
    [request] = asked
    assert request.preparation == models.preparation()
    assert request.atlas == str(shared / "atlas")
    assert (request.image, request.mask, request.series_uid) == (str(tmp_path / "3.nii.gz"), None, None)
    assert not request.box


def test_a_path_will_do_for_the_model(shared, asked):
    np.testing.assert_array_equal(ctssl.embed("1.mha", shared), ctssl.embed("1.mha", str(shared)))


def test_bad_scans_are_listed_good_ones_written(shared, asked, tmp_path):
    out = tmp_path / "deep/er/features.parquet"
    done = run(shared, "1.nii.gz", "gone.nii.gz", "2.nrrd", "bad", "--out", out, code=3)
    table = pd.read_parquet(out)
    assert list(table["scan"]) == list(table["subject"]) == ["1.nii.gz", "2.nrrd"]
    assert list(table.columns[2:]) == [f"f{i:03}" for i in range(16)]
    assert set(table.dtypes[2:]) == {np.dtype(np.float32)}
    for number, row in zip((1, 2), table.iloc[:, 2:].to_numpy(), strict=True):
        np.testing.assert_array_equal(row, expected(number, shared, tmp_path / str(number)))
    assert "2 of 4 scans could not be used" in done.stderr
    assert "gone.nii.gz is lost at volume: it does not exist\n  What to do: correct the path" in done.stderr
    assert "scan 3 of 4" in done.stderr
    assert done.stdout == ""
    assert [p.name for p in out.parent.iterdir()] == ["features.parquet"]


def test_when_none_is_good_there_is_no_table_and_an_old_one_stays(shared, asked, tmp_path):
    out = tmp_path / "features.parquet"
    out.write_text("old")
    run(shared, "gone.nii", "--out", out, code=3)
    assert out.read_text() == "old"


def test_a_fault_of_the_machine_ends_it_and_what_was_done_is_kept(shared, asked, tmp_path):
    out = tmp_path / "features.parquet"
    done = CliRunner().invoke(
        cli, ["embed", "1.nii", "full.nii", "2.nii", "--model", str(shared), "--out", str(out)]
    )
    assert isinstance(done.exception, MachineFault)
    assert "full.nii: the disk is full" in str(done.exception)
    assert list(pd.read_parquet(out)["scan"]) == ["1.nii"]


def test_limits_of_quality_leave_a_scan_out_unless_it_is_kept(shared, asked, capsys):
    with pytest.raises(ScanError, match="limits of quality: Dice of the left lung") as fault:
        ctssl.embed("9.nii", shared)
    assert "--keep" in fault.value.advice
    assert ctssl.embed("9.nii", shared, keep=True).shape == (16,)
    assert "9.nii: Dice of the left lung 0.5 is below 0.7" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("scans", "out", "words"),
    [
        (["1.nii"], "features.csv", "a table of features is a .parquet file, not features.csv"),
        (["1.nii", "2.nii", "1.nii"], "f.parquet", "named twice: 1.nii"),
        (["f.parquet"], "f.parquet", "is one of the scans"),
        (["1.nii"], "folder.parquet", "is a folder"),
        (["1.nii"], "file/f.parquet", "cannot be written: "),
    ],
)
def test_what_cannot_be_written_is_known_before_minutes_are_spent(
    shared, asked, tmp_path, monkeypatch, scans, out, words
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.parquet").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError) as fault:
        embed.embed_scans([Path(s) for s in scans], ctssl.load_model(shared), Path(out))
    assert words in str(fault.value)
    assert asked == []


def test_a_mask_goes_with_a_single_scan(shared, asked, tmp_path):
    out = tmp_path / "f.parquet"
    done = run(shared, "1.nii", "2.nii", "--mask", "m.nii", "--out", out, code=2)
    assert "--mask goes with a single scan" in done.output
    run(shared, "1.nii", "--mask", "m.nii", "--series-uid", "1.2.3", "--out", out)
    assert (asked[0].mask, asked[0].series_uid) == ("m.nii", "1.2.3")


def test_a_name_that_is_no_text_is_written_as_far_as_it_goes(shared, asked, tmp_path):
    out = tmp_path / "f.parquet"
    strange = Path("-- ä 'x'").joinpath(b"\xff\xfe".decode("utf-8", "surrogateescape"), "1.nii")
    strange.parent.mkdir(parents=True)
    strange.touch()
    assert embed.embed_scans([strange], ctssl.load_model(shared), out) == []
    assert list(pd.read_parquet(out)["scan"]) == [r"-- ä 'x'/\xff\xfe/1.nii"]


def test_scans_are_not_prepared_in_another_way_than_the_models_were(tmp_path):
    models.save_atlas(tmp_path / "atlas")
    known = models.preparation()
    path = models.save(tmp_path, preparation=known | {"recipes": known["recipes"] | {"register": 1}})
    with pytest.raises(WeightsError, match="recipe 1 of stage register, and this version") as fault:
        ctssl.embed("1.nii", path)
    assert "ctssl 0.1.0" in fault.value.advice
    path = models.save(tmp_path, preparation=known | {"wizardry": 1})
    with pytest.raises(WeightsError, match="in a way that this version does not know"):
        ctssl.embed("1.nii", path)


def test_masks_with_weights_of_the_studys_own_need_them_named(tmp_path, asked):
    models.save_atlas(tmp_path / "atlas")
    mask = {"method": "lungmask", "min_lung_l": 0.3, "model": "R231", "own_weights": True}
    path = models.save(tmp_path, preparation=models.preparation(mask=mask))
    with pytest.raises(ConfigError, match="weights of the study's own"):
        ctssl.embed("1.nii", path)
    ctssl.embed("1.nii", path, effort=scan.Effort(mask_weights="w.pth"))
    ctssl.embed("1.nii", path, mask="m.nii")
    assert [r.effort.mask_weights for r in asked] == ["w.pth", None]


def test_a_card_that_does_not_know_takes_a_config_and_one_that_knows_does_not(tmp_path, shared, asked):
    models.save_atlas(tmp_path / "atlas")
    path = models.save(tmp_path, preparation=None)
    with pytest.raises(ConfigError, match="does not say how its scans were prepared") as fault:
        ctssl.embed("1.nii", path)
    assert "--config" in fault.value.advice
    (tmp_path / "mine.yaml").write_text("mask: {method: threshold}\nregistration: {spacing_mm: 9}\n")
    ctssl.embed("1.nii", path, config=tmp_path / "mine.yaml")
    [request] = asked
    assert request.preparation["mask"]["method"] == "threshold"
    assert request.preparation["registering"]["registration"]["spacing_mm"] == 9
    with pytest.raises(ConfigError, match="and so does"):
        ctssl.embed("1.nii", shared, config=tmp_path / "mine.yaml")


def test_outcomes_of_the_process_become_errors_that_name_the_scan(monkeypatch, tmp_path):
    request = scan.Request("a.nii", "a.nii", None, None, {}, "atlas", False, scan.Effort())

    def outcome(code, *statuses, fault=None):
        def stand_in(path):
            for folder, status in zip((scan.VOLUME, scan.REGISTRATION, scan.STORE), statuses, strict=False):
                (path.parent / folder).mkdir(exist_ok=True)
                status.write(path.parent / folder)
            if fault:
                (path.parent / scan.FAULT).write_text(fault)
            return code

        monkeypatch.setattr(scan, "_in_a_process", stand_in)
        return scan.prepare(request, tmp_path)

    fine = [Status("a.nii", True, stage, numbers={stage: 1}) for stage in ("volume", "register", "store")]
    assert outcome(0, *fine) == {"volume": 1, "register": 1, "store": 1}
    lost = Status("a.nii", False, "volume", "no lungs were found", "give a mask")
    with pytest.raises(ScanError, match=r"a\.nii is lost at volume: no lungs were found") as fault:
        outcome(0, lost, lost, lost)
    assert fault.value.advice == "give a mask"
    with pytest.raises(MachineFault, match=r"a\.nii: .* ended with -9"):
        outcome(-9)
    with pytest.raises(MachineFault, match=r"a\.nii: no disk"):
        outcome(2, fault='["no disk", "make room"]')


@pytest.mark.parametrize("name", ["nobody.nii.gz", "nobody/a.nii", "x" * 300, "model/model.json/a.nii"])
def test_a_missing_scan_is_told_before_anything_starts(shared, asked, name):
    with pytest.raises(ScanError, match="does not exist, or may not be looked at"):
        ctssl.embed(shared.parent / name, shared)


def test_what_is_no_image_is_an_error_that_names_it_through_the_real_process(shared, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    before = set(tmp_path.iterdir())
    with pytest.raises(ScanError, match=r"model\.json is lost at volume: .* no known ending"):
        ctssl.embed(shared / "model.json", shared)
    assert set(tmp_path.iterdir()) == before


def test_an_atlas_without_its_mask_is_the_machines_fault_not_the_scans(shared, tmp_path):
    (shared / "atlas/atlas.json").write_text("{}")
    with pytest.raises(StoreError, match="neither in a folder atlas/ beside it"):
        ctssl.embed("1.nii", shared)


WAITS = """
import sys, time
from pathlib import Path
from ctssl.share import embed
embed.prepare = lambda request, folder: (print("ready", flush=True), time.sleep(60))
sys.argv = ["ctssl", "embed", "1.nii", "--model", sys.argv[1], "--out", "f.parquet"]
from ctssl.cli import main
main()
"""


def test_sigterm_takes_the_scratch_folder_away(shared, tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    (tmp_path / "1.nii").touch()
    command = [sys.executable, "-c", WAITS, str(shared)]
    environment = {"TMPDIR": str(scratch), "PATH": "/usr/bin"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path, env=environment
    ) as process:
        assert process.stdout.readline() == b"ready\n", process.stderr.read()
        assert len(list(scratch.iterdir())) == 1
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 128 + signal.SIGTERM
    assert list(scratch.iterdir()) == []
