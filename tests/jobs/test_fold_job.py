"""Supervised networks inside the folds: who is trained on, what that depends on, and what is said of it."""

import csv
import itertools
import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr
from train import lungs, synthetic

from ctssl import config, settings
from ctssl.config.runs import Pretraining
from ctssl.errors import CohortError, ManifestError, StoreError
from ctssl.evaluate.probes import read_probe
from ctssl.jobs import folds
from ctssl.jobs.status import Status
from ctssl.manifest import read_manifest
from ctssl.methods.supervised import Supervised
from ctssl.prepare.atlas import write_card
from ctssl.store.packed import CARD as PACKED
from ctssl.store.packed import pack
from ctssl.store.reader import open_store

CONFIG = """
manifest: scans.csv
prepared: theirs
results: results
pretraining: {device: cpu, threads: 1, precision: fp32}
runs:
  - name: cnn
    method: cnn-3d
    options:
      {volume_voxels: 16, field_mm: 60, feature_size: 8, volume_batch: 4, epochs: 2, validation_parts: 2}
evaluation:
  folds: 2
  targets:
    - {name: fev1pp, column: fev1pp, task: regress, log: true}
    - {name: severe, column: severe, task: classify}
"""
SCANS = 9
CLASSES = ("no", "=yes")
MACHINE = Pretraining(**synthetic.MACHINE).model_dump(exclude={"precision"})


class Study:
    """Nine scans of eight people in two folds, with stores, boxes and labels."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.results = folder, folder / "results"
        self.atlas, self.scans = folder / "theirs/atlas", self.results / "scans.csv"
        self.splits = self.results / "splits.csv"

    def make(self) -> "Study":
        people = synthetic.cohort(self.folder / "theirs/stores", scans=SCANS)
        write_card(self.atlas, people.atlas, {"source": "theirs"})
        self.digests = {store.scan: store.card["digest"] for store in people.stores}
        for number in range(SCANS):
            self.box(number)
        (self.folder / "study.yaml").write_text(CONFIG)
        self.label([self.row(number) for number in range(SCANS)])
        self.results.mkdir()
        self.know(range(SCANS))
        table(self.splits, [{"subject": r["subject"], "fold": i % 2} for i, r in enumerate(self.rows[1:])])
        return self

    def box(self, number: int, like: int | None = None) -> None:
        boxes = self.folder / "theirs/boxes"
        shutil.rmtree(boxes / f"scan{number}", ignore_errors=True)
        lungs.write(boxes, f"scan{number}", number if like is None else like, synthetic.atlas())
        Status(f"scan{number}", True, "box").write(boxes / f"scan{number}")

    def store(self, number: int, like: int | None = None, valid=None) -> None:
        """Another store of a scan, which the cohort's table names."""
        stores = self.folder / "theirs/stores"
        shutil.rmtree(stores / f"scan{number}")
        made = synthetic.write_scan(
            self.folder / "made", number if like is None else like, synthetic.atlas(), valid
        )
        self.digests = {**self.digests, f"scan{number}": made.card["digest"]}
        made.path.rename(stores / f"scan{number}")
        self.know(range(SCANS))

    def row(self, number: int, **labels: str) -> dict[str, str]:
        who = "anna" if number < 2 else f"person{number}"
        made = {"fev1pp": f"{90 - 5 * number}", "severe": CLASSES[number % 3 == 0]} | labels
        return {"scan": f"scan{number}", "subject": who, **made}

    def label(self, rows: list[dict[str, str]]) -> None:
        self.rows = rows
        table(self.folder / "scans.csv", rows)

    def know(self, numbers) -> None:
        """The cohort's table: these scans have a store."""
        names = [f"scan{n}" for n in numbers]
        who = {f"scan{n}": self.row(n)["subject"] for n in range(SCANS)}
        place = "../theirs/stores"
        table(
            self.scans,
            [{"scan": n, "subject": who[n], "path": f"{place}/{n}", "store": self.digests[n]} for n in names],
        )

    def text(self, stage: str, target: str) -> str:
        chosen = config.read(self.folder / "study.yaml")
        places = {"manifest": self.folder / "scans.csv", "prepared": self.folder / "theirs"}
        chosen = chosen.model_copy(update=places)
        manifest = read_manifest(chosen.manifest, images=False)
        return getattr(settings, stage)(chosen, manifest, "cnn", target)

    def out(self, fold: int, target: str) -> Path:
        return self.results / f"runs/cnn/seed0/split0-fold{fold}/{target}/fold.json"

    def change(self, old: str, new: str) -> None:
        text = (self.folder / "study.yaml").read_text()
        assert old in text
        (self.folder / "study.yaml").write_text(text.replace(old, new))

    def fold(self, fold: int, target: str, seed: int = 0, packed: Path | None = None) -> pd.DataFrame:
        out = self.out(fold, target)
        out.parent.mkdir(parents=True, exist_ok=True)
        text = self.text("fold", target)
        folds.fold(text, seed, fold, self.atlas, self.scans, self.splits, MACHINE, out, packed)
        return pd.read_csv(out.with_name("predictions.csv"))

    def members(self, fold: int, target: str) -> pd.Series:
        """scan -> part."""
        return pd.read_csv(self.out(fold, target).with_name("scans.csv")).set_index("scan").part

    def join(self, target: str) -> tuple[dict, pd.DataFrame]:
        out = self.results / f"probes/cnn_seed0_folds/{target}.json"
        records = [self.out(fold, target) for fold in (0, 1)]
        folds.join(self.text("join", target), records, self.scans, self.splits, out)
        return read_probe(out), pd.read_csv(out.with_suffix(".csv"))

    def copy(self, to: Path) -> "Study":
        shutil.copytree(self.folder, to)
        other = Study(to)
        other.rows, other.digests = [dict(row) for row in self.rows], self.digests
        return other


def table(path: Path, rows: list[dict]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """Both targets in both folds. Never change it: copy it."""
    study = Study(tmp_path_factory.mktemp("folds") / "study")
    study.folder.mkdir()
    study.make()
    for fold, target in itertools.product((0, 1), ("fev1pp", "severe")):
        study.fold(fold, target)
    return study


@pytest.fixture
def study(done, tmp_path):
    return done.copy(tmp_path / "study")


def weights(study: Study, fold: int, target: str = "fev1pp") -> bytes:
    return study.out(fold, target).with_name("model.safetensors").read_bytes()


def test_the_join_is_the_predictions_of_the_folds(done):
    for target in ("fev1pp", "severe"):
        result, found = done.join(target)
        parts = [pd.read_csv(done.out(fold, target).with_name("predictions.csv")) for fold in (0, 1)]
        assert found.scan.value_counts().to_dict() == {f"scan{n}": 1 for n in range(SCANS)}
        whole = pd.concat(parts).set_index("scan").loc[found.scan].reset_index()
        pd.testing.assert_frame_equal(found, whole.assign(repeat=0)[found.columns])
        assert (result["n"], result["subjects"]) == (SCANS, 8)
        assert result["note"].startswith("no frozen features: a network was trained on the labels")
        for record in result["folds"]:
            assert record["train"] + record["test"] == SCANS
            assert record["held_out"] >= 2
            assert 1 <= record["kept_epoch"] <= record["epochs"] == 2
    assert result["metrics"]["accuracy"]["value"] == pytest.approx((found.prediction == found.truth).mean())
    assert found[["score_no", "score_=yes"]].sum(axis=1).to_numpy() == pytest.approx(1)
    result, found = done.join("fev1pp")
    truth = np.log([90 - 5 * int(scan[4:]) for scan in found.scan])
    np.testing.assert_allclose(found.truth, truth)
    for fold, rows in found.groupby("fold"):
        assert rows.null.to_numpy() == pytest.approx(found.truth[found.fold != fold].mean())
    error = ((found.prediction - truth) ** 2).sum() / ((found.null - truth) ** 2).sum()
    assert result["metrics"]["r2"]["value"] == pytest.approx(1 - error)
    assert result["metrics"]["spearman"]["value"] == pytest.approx(spearmanr(found.prediction, truth)[0])


def test_a_subject_is_trained_on_held_out_or_tested_and_never_two_of_them(done):
    fold_of = pd.read_csv(done.splits).set_index("subject").fold
    for fold, target in itertools.product((0, 1), ("fev1pp", "severe")):
        out = done.out(fold, target)
        members = pd.read_csv(out.with_name("scans.csv"))
        assert len(members) == SCANS
        parts = members.groupby("part").subject.agg(set)
        assert set(parts.index) == {"train", "held out", "test"}
        assert parts["test"] == set(fold_of[fold_of == fold].index)
        assert not parts["train"] & parts["held out"]
        card = json.loads(out.with_name("model.json").read_text())
        counts = members.part.value_counts()
        assert (card["scans"], card["held_out_scans"]) == (counts["train"], counts["held out"])
        assert not out.with_name("job.json").exists()


def test_labels_and_voxels_of_test_scans_change_no_bit_of_the_weights(study):
    before = [weights(study, fold) for fold in (0, 1)]
    tested = study.fold(0, "fev1pp").scan.tolist()
    for scan in tested:
        number = int(scan[4:])
        study.box(number, like=number + 30)
        study.rows[number]["fev1pp"] = str(12 + number)
    study.label(study.rows)
    for fold in (0, 1):  # nothing is taken from what was trained before
        shutil.rmtree(study.out(fold, "fev1pp").parent)
    found = study.fold(0, "fev1pp")
    np.testing.assert_allclose(np.exp(found.truth), [12 + int(scan[4:]) for scan in tested])
    study.fold(1, "fev1pp")
    assert weights(study, 0) == before[0]
    assert weights(study, 1) != before[1]


def test_what_was_trained_is_not_trained_again_for_other_test_labels(study, monkeypatch):
    tested = study.fold(0, "severe").scan.tolist()
    study.rows[int(tested[0][4:])]["severe"] = "perhaps"
    study.label(study.rows)
    monkeypatch.setattr(Supervised, "label_loss", None)
    found = study.fold(0, "severe")
    assert found.truth[0] == "perhaps"
    result, _ = study.join("severe")
    assert "fold 0: not in training, so always wrong: class perhaps" in result["note"]


def test_after_sigterm_the_job_goes_on_and_ends_alike(study, monkeypatch):
    before = weights(study, 0), study.out(0, "fev1pp").read_text()
    shutil.rmtree(study.out(0, "fev1pp").parent)
    real, count = Supervised.after_step, itertools.count(1)

    def after_step(self, phase, made):
        real(self, phase, made)
        if next(count) == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Supervised, "after_step", after_step)
    with pytest.raises(SystemExit):
        study.fold(0, "fev1pp")
    assert not study.out(0, "fev1pp").exists()
    study.fold(0, "fev1pp")
    assert (weights(study, 0), study.out(0, "fev1pp").read_text()) == before


def test_scans_that_came_late_or_went_are_told_of(study):
    study.know(range(SCANS - 1))
    result, found = study.join("fev1pp")
    assert "1 scan(s) of the training are excluded by now" in result["note"]
    assert len(found) == result["n"] == SCANS - 1
    for fold in (0, 1):
        study.fold(fold, "fev1pp")
    study.know(range(SCANS))
    result, found = study.join("fev1pp")
    assert "1 labelled scan(s) came after the training, which `ctssl refresh RUN` repeats" in result["note"]
    assert len(found) == SCANS - 1


def test_folds_that_were_dealt_anew_are_not_mixed(study):
    dealt = pd.read_csv(study.splits)
    dealt.assign(fold=1 - dealt.fold).to_csv(study.splits, index=False)
    with pytest.raises(CohortError, match="predicted in another fold than they are in now"):
        study.join("fev1pp")


def test_labels_that_changed_since_the_workflow_was_planned_are_refused(study, monkeypatch):
    text = study.text("fold", "fev1pp")
    study.rows[0]["fev1pp"] = "33"
    study.label(study.rows)
    monkeypatch.setattr(study, "text", lambda stage, target: text)
    with pytest.raises(ManifestError, match="changed since the workflow was started"):
        study.fold(0, "fev1pp")


def test_the_settings_know_the_labels_that_there_are_and_no_others(study):
    before = study.text("fold", "severe")
    last = study.rows[-1]
    study.label([*study.rows, study.row(SCANS, severe="na"), study.row(SCANS + 1, severe=" ")])
    assert study.text("fold", "severe") == before
    study.label([*study.rows[: SCANS - 1], last, study.row(SCANS)])
    assert study.text("fold", "severe") != before
    study.label([*study.rows[: SCANS - 1], last | {"subject": "other"}])
    assert study.text("fold", "severe") != before


def test_what_cannot_be_trained_is_predicted_as_probes_do_or_left_out(study):
    fold_of = pd.read_csv(study.splits).set_index("subject").fold
    study.label([r | {"severe": CLASSES[fold_of[r["subject"]]]} for r in study.rows])
    found = study.fold(0, "severe")
    assert not study.out(0, "severe").with_name("model.safetensors").exists(), "that of other labels is gone"
    assert set(found.prediction) == {"'=yes"}, "no formula for a spreadsheet"
    study.fold(1, "severe")
    result, found = study.join("severe")
    assert "fold 0: one class in training, so =yes is predicted" in result["note"]
    assert "fold 0: not in training, so always wrong: class no" in result["note"]
    assert result["metrics"]["accuracy"]["value"] == 0
    assert (found[["score_no", "score_=yes"]].max(axis=1) == 1).all()

    study.label([r | {"fev1pp": r["fev1pp"] if fold_of[r["subject"]] else ""} for r in study.rows])
    assert study.fold(0, "fev1pp").empty
    assert study.fold(1, "fev1pp").empty
    result, found = study.join("fev1pp")
    assert "fewer than 2 folds with labelled scans, so nothing is measured" in result["note"]
    assert result["metrics"] is None
    assert found.empty


def test_stores_and_boxes_that_were_replaced_are_told_of(study):
    said = "scan(s) have another store or box than in the training, which `ctssl refresh RUN` repeats"
    assert said not in study.join("fev1pp")[0]["note"]
    study.box(3, like=33)
    result, found = study.join("fev1pp")
    assert f"1 {said}" in result["note"]
    assert len(found) == SCANS
    for number in (3, 4):
        study.store(number, valid=np.arange(6) > 0)
    assert f"2 {said}" in study.join("fev1pp")[0]["note"]
    for fold in (0, 1):
        study.fold(fold, "fev1pp")
    assert said not in study.join("fev1pp")[0]["note"]


def test_another_seed_holds_out_others(study):
    study.change("epochs: 2", "epochs: 1")
    before = study.members(0, "fev1pp")
    study.fold(0, "fev1pp", seed=1)
    after = study.members(0, "fev1pp")
    assert after.value_counts().to_dict() == before.value_counts().to_dict()
    assert not after.equals(before)
    assert json.loads(study.out(0, "fev1pp").with_name("model.json").read_text())["seed"] == 1


def test_weights_of_classes_reach_the_training(study):
    """Four are trained on, one of whom has it."""
    study.change("epochs: 2, validation_parts: 2", "epochs: 1, class_weights: true")
    study.fold(0, "severe")
    task = json.loads(study.out(0, "severe").with_name("model.json").read_text())["task"]
    assert task["classes"] == ["=yes", "no"]
    assert task["weights"] == pytest.approx([4 / (2 * 1), 4 / (2 * 3)])


def test_a_scan_without_a_box_has_no_part(study):
    study.change("epochs: 2", "epochs: 1")
    folder = study.folder / "theirs/boxes/scan8"
    shutil.rmtree(folder)
    folder.mkdir()
    Status("scan8", False, "box", "no lungs", "look").write(folder)
    for fold in (0, 1):
        study.fold(fold, "fev1pp")
        assert set(study.members(fold, "fev1pp").index) == {f"scan{n}" for n in range(SCANS - 1)}
    result, found = study.join("fev1pp")
    assert "1 labelled scan(s) have no store or no box, or show no landmark" in result["note"]
    assert "scan8" not in set(found.scan)
    assert result["n"] == SCANS - 1


NETWORKS = {
    "slice-cnn": "plane_voxels: 32, field_mm: 60, feature_size: 8, widths: [4, 4, 4]",
    "subject2vec": "feature_size: 8",
}


def instead(study, name):
    """The study's run is of another method."""
    study.change("method: cnn-3d", f"method: {name}")
    before = "volume_voxels: 16, field_mm: 60, feature_size: 8, volume_batch: 4, epochs: 2"
    study.change(before, f"{NETWORKS[name]}, scan_batch: 4, epochs: 1")


@pytest.mark.parametrize("name", NETWORKS)
def test_scans_without_a_landmark_are_left_out_where_landmarks_are_needed(study, name, capsys):
    instead(study, name)
    for number in (5, 8):  # the one in either fold
        study.store(number, valid=np.zeros(6, bool))
    for fold in (0, 1):
        study.fold(fold, "fev1pp")
        assert set(study.members(fold, "fev1pp").index) == {f"scan{n}" for n in (0, 1, 2, 3, 4, 6, 7)}
    assert "scan5 shows no landmark and is left out" in capsys.readouterr().err
    result, found = study.join("fev1pp")
    assert "2 labelled scan(s) have no store or no box, or show no landmark where one" in result["note"]
    assert result["n"] == len(found) == SCANS - 2


def test_scans_without_a_landmark_have_a_part_where_none_is_needed(study):
    study.change("epochs: 2", "epochs: 1")
    study.store(8, valid=np.zeros(6, bool))
    study.fold(1, "fev1pp")
    assert study.members(1, "fev1pp")["scan8"] == "test"


def test_training_reads_the_packed_copy(study):
    """The patches of a scan that is trained on are damaged in its own store."""
    instead(study, "subject2vec")
    stores = [open_store(study.folder / f"theirs/stores/scan{n}") for n in range(SCANS)]
    pack(study.folder / "packed", stores)
    trained = study.members(0, "fev1pp")
    [scan] = trained.index[trained == "train"][:1]
    files = [path for path in (study.folder / f"theirs/stores/{scan}").rglob("*") if path.is_file()]
    shard = max(files, key=lambda path: path.stat().st_size)
    content = bytearray(shard.read_bytes())
    for at in range(100, len(content) - 200, 100):
        content[at] ^= 1
    shard.write_bytes(content)
    found = study.fold(0, "fev1pp", packed=study.folder / "packed" / PACKED)
    assert set(found.scan) == set(trained.index[trained == "test"])
    shutil.rmtree(study.out(0, "fev1pp").parent)
    with pytest.raises(StoreError, match=f"of scan {scan} is missing or damaged"):
        study.fold(0, "fev1pp")
