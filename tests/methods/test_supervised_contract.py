"""What every supervised network keeps, from its stores or boxes to its weights."""

import itertools
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from golden import fill_supervised
from safetensors.torch import load_file
from train import synthetic
from train.files import assert_same

from ctssl.config.methods import OPTIONS
from ctssl.config.runs import Pretraining, Run
from ctssl.errors import CohortError, CtsslError
from ctssl.methods import load_method
from ctssl.methods.supervised import Supervised
from ctssl.train import weights
from ctssl.train.fold import FoldJob
from ctssl.train.held import whole_scan
from ctssl.train.labels import Labels, Task
from ctssl.train.loop import pretrain
from ctssl.train.schedule import Plan
from ctssl.train.step import Loader, Stepper
from ctssl.train.team import Team

SMALL = {
    "cnn-3d": {"volume_voxels": 24, "field_mm": 60, "feature_size": 16, "volume_batch": 4, "epochs": 3},
    "slice-cnn": {
        **{"plane_voxels": 32, "field_mm": 60, "feature_size": 16, "scan_batch": 4, "epochs": 3},
        "widths": [4, 8, 8],
    },
    "subject2vec": {"feature_size": 16, "scan_batch": 4, "epochs": 3},
}
"""Options that a laptop trains in seconds."""

ALL = {
    "cnn-3d": {"volume_batch": 8},
    "slice-cnn": {"scan_batch": 8},
    "subject2vec": {"scan_batch": 8},
}
"""All eight in a step."""

STILL = {
    "cnn-3d": {"dropout": 0, "augment": {"steps": []}},
    "slice-cnn": {"dropout": 0, "augment": {"steps": []}},
    "subject2vec": {"dropout": 0, "scan_batch": 3},
}
"""Nothing is drawn."""

every = pytest.mark.parametrize("name", SMALL)
NUMBERS = [3.0, 3.5, 9.0, 1.0, 7.0, 6.5, 2.0, 8.0]
HELD = [False, False, True, False, False, False, True, False]


@pytest.fixture(scope="module")
def eight(tmp_path_factory):
    return fill_supervised.eight(tmp_path_factory.mktemp("eight"))


def job(name, people, out, labels=None, seed=0, **changes) -> FoldJob:
    machine = synthetic.MACHINE | {n: changes.pop(n) for n in Pretraining.model_fields if n in changes}
    run = Run(name="small", method=name, options={**SMALL[name], **changes})
    made = Pretraining(**machine), people.atlas, people.stores, people.subjects
    labels = labels or Labels("fev1", (), NUMBERS, HELD)
    return FoldJob(run, *made, seed, out, people.boxes, out / "volumes", labels=labels)


def of_scan(network, people, scan):
    """What a network is given of one scan."""
    [store] = [s for s in people.stores if s.scan == scan]
    return whole_scan(network, store, people.boxes[scan], None)


def prepared(made: FoldJob):
    """A stepper, its loader and the step with most scans."""
    torch.manual_seed(3)
    method = made.build().to(memory_format=torch.channels_last_3d)
    stores, cohort = made.usable()
    phases, options = method.phases(), made.run.options
    optimisers = [torch.optim.Adam(p.parameters, lr=0.01) for p in phases]
    stepper = Stepper(method, optimisers, options, team=Team(), bf16=False)
    loader = Loader(stores, cohort, phases, 0, Team(), 1, pinned=False, boxes=made.boxes_of(stores))
    return stepper, loader, max(Plan(phases, cohort, 1, 0).steps(), key=lambda s: len(s.sample.members))


@every
def test_targets_travel_with_their_scans(eight, tmp_path, name):
    made = job(name, eight, tmp_path)
    _, loader, _ = prepared(made)
    stores, cohort = made.usable()
    wanted = dict(zip([s.scan for s in eight.stores], made.labels.targets(), strict=True))
    for step in Plan(loader.phases, cohort, 2, 0).steps():
        load = loader(step)
        scans = [stores[m].scan for m in step.sample.members]
        assert load.batch.targets.tolist() == [wanted[scan] for scan in scans]
        last = load.batch.take([1, 0], (2,))
        assert last.targets.tolist() == [wanted[scans[1]], wanted[scans[0]]]
    assert not {s.scan for s in stores} & {"scan2", "scan6"}, "who is held out is not trained on"


@every
def test_one_batch_is_learnt_by_heart(eight, tmp_path, name):
    for classes, values in (((), NUMBERS), (("x", "y"), [0, 1, 0, 1, 1, 0, 0, 1])):
        labels = Labels("x", classes, values, [False] * 8)
        stepper, loader, step = prepared(job(name, eight, tmp_path, labels, **{**ALL[name], **STILL[name]}))
        load = loader(step)
        terms = [stepper(step, load, 0.003) for _ in range(20)]
        losses = [one.get("labels", one["total"]) for one in terms]
        assert np.mean(losses[-3:]) < 0.5 * losses[0]


@every
def test_features_and_predictions_depend_on_no_other_scan_and_are_kept(eight, tmp_path, name):
    labels = Labels("x", ("x", "y", "z"), [0, 1, 2, 1, 1, 0, 0, 1], HELD)
    made = job(name, eight, tmp_path, labels, epochs=1)
    pretrain(made)
    card = json.loads((tmp_path / "model.json").read_text())
    assert (card["target"], card["outputs"], card["scans"], card["held_out_scans"]) == ("x", 3, 6, 2)
    assert (
        Task(**{**card["task"], "classes": tuple(card["task"]["classes"])}).classes == labels.task().classes
    )
    network = weights.load(tmp_path / weights.TENSORS, eight.atlas).embedder
    batch = of_scan(network, eight, "scan3")
    once, again = network.predict(batch), network.train().predict(batch)
    assert once.shape == (1, 3)
    assert torch.equal(once, again)
    features = network.embed(batch)
    assert features.shape == (1, 16)
    assert features.dtype == torch.float32
    assert not features.requires_grad


@every
def test_the_best_epoch_is_kept_and_training_stops(eight, tmp_path, name, monkeypatch):
    """Validation losses are made up: 3, 2, 2, 5, 1 (which is never reached)."""
    made_up, seen = iter([3.0, 2.0, 2.0, 5.0, 1.0]), []

    def loss(held):
        seen.append({n: t.clone() for n, t in held.method.network.state_dict().items()})
        return next(made_up)

    monkeypatch.setattr("ctssl.train.held.Held.loss", loss)
    pretrain(job(name, eight, tmp_path, epochs=9, patience=2))
    kept = load_file(tmp_path / weights.TENSORS)
    assert all(torch.equal(kept[n], seen[1][n]) for n in kept)
    assert any(not torch.equal(kept[n], seen[2][n]) for n in kept)
    history = pd.read_csv(tmp_path / "history.csv")
    steps = -(-6 // 4)
    assert history.validation_loss.dropna().tolist() == [3, 2, 2, 5]
    assert history.validation_loss.dropna().index.tolist() == [steps * e - 1 for e in (1, 2, 3, 4)]
    assert json.loads((tmp_path / "model.json").read_text())["steps"] == [4 * steps]


@every
def test_the_validation_loss_is_that_of_the_scans_held_out(eight, tmp_path, name):
    made = job(name, eight, tmp_path, epochs=1)
    pretrain(made)
    history = pd.read_csv(tmp_path / "history.csv")
    network = weights.load(tmp_path / weights.TENSORS, eight.atlas).embedder
    found = [float(network.predict(of_scan(network, eight, scan))) for scan in ("scan2", "scan6")]
    wanted = np.mean((np.array(found) - made.labels.targets()[[2, 6]]) ** 2)
    assert history.validation_loss.dropna().item() == pytest.approx(wanted, rel=1e-5)


def test_running_statistics_are_those_of_the_training_part_with_the_weights_as_they_are(eight, tmp_path):
    pretrain(job("cnn-3d", eight, tmp_path, **{**ALL["cnn-3d"], **STILL["cnn-3d"]}))
    network = weights.load(tmp_path / weights.TENSORS, eight.atlas).embedder
    scans = [f"scan{n}" for n, held in enumerate(HELD) if not held]
    hu = torch.cat([of_scan(network, eight, scan).patches for scan in scans]).clamp(-1024, 240)
    maps = network.encoder.conv1((hu[:, None] + 1024) / 632 - 1).detach()
    norm = network.encoder.bn1
    torch.testing.assert_close(norm.running_mean, maps.mean((0, 2, 3, 4)), rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(norm.running_var, maps.var((0, 2, 3, 4)), rtol=1e-3, atol=1e-5)


@every
def test_without_scans_held_out_all_epochs_are_done_and_the_last_is_kept(eight, tmp_path, name):
    made = job(name, eight, tmp_path, Labels("x", (), NUMBERS, [False] * 8), patience=1)
    pretrain(made)
    history = pd.read_csv(tmp_path / "history.csv")
    assert "validation_loss" not in history
    assert len(history) == 3 * 2
    [finished] = (tmp_path / "checkpoints").glob("*.pt")
    assert finished.name == "finished.pt"


def few(eight, scans):
    first = {"stores": eight.stores[:scans], "subjects": eight.subjects[:scans]}
    return SimpleNamespace(**{**vars(eight), **first})


def by_twos(name, **changes):
    """Options of two scans in a step: of three the last is alone."""
    [batch] = ALL[name]
    return {batch: 2, **changes}


@every
def test_each_epoch_ends_with_its_last_step_when_a_round_makes_none(eight, tmp_path, name):
    labels = Labels("fev1", (), NUMBERS[:5], [False, True, False, False, True])
    pretrain(job(name, few(eight, 5), tmp_path, labels, **by_twos(name)))
    found = pd.read_csv(tmp_path / "history.csv").validation_loss
    steps = 2 if name == "subject2vec" else 1  # many patches of one scan have a variance
    assert len(found) == 3 * steps
    assert np.flatnonzero(found.notna()).tolist() == [steps * e - 1 for e in (1, 2, 3)]


@every
def test_one_epoch_without_scans_held_out_keeps_what_was_trained(eight, tmp_path, name):
    labels = Labels("x", (), NUMBERS[:3], [False] * 3)
    made = job(name, few(eight, 3), tmp_path, labels, **by_twos(name, epochs=1))
    pretrain(made)
    torch.manual_seed(made.seed)
    fresh, kept = made.build().query.state_dict(), load_file(tmp_path / weights.TENSORS)
    assert any(not torch.equal(fresh[n], kept[n]) for n in kept if n.endswith("weight"))


@pytest.mark.parametrize("name", ["cnn-3d", "slice-cnn"])
def test_who_can_make_no_step_is_told_before_training(eight, tmp_path, name):
    people = SimpleNamespace(**{**vars(few(eight, 3)), "subjects": ["anna"] * 3})
    labels = Labels("x", ("a", "b"), [0, 1, 0], [False] * 3)
    with pytest.raises(CohortError, match=r"scans of two subjects in a step, but 3 .* of 1 subject"):
        pretrain(job(name, people, tmp_path, labels))
    assert not (tmp_path / weights.TENSORS).exists()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_validation_loss_that_is_no_number_ends_the_training(eight, tmp_path, monkeypatch, value):
    monkeypatch.setattr("ctssl.train.held.Held.loss", lambda held: value)
    with pytest.raises(CtsslError, match=f"validation loss is {value} after step 1"):
        pretrain(job("cnn-3d", eight, tmp_path))
    assert not (tmp_path / weights.TENSORS).exists()


def test_validation_losses_are_added_in_double_precision(eight, tmp_path, monkeypatch):
    """Of 32 bits 2**24 + 1 is 2**24."""
    made, one = job("cnn-3d", eight, tmp_path), iter([2.0**24, 1.0])
    method, (_, cohort) = made.build(), made.usable()
    monkeypatch.setattr("ctssl.train.held.errors", lambda *_: torch.tensor([next(one)]))
    assert made.held(method, cohort, Team()).loss() == (2**24 + 1) / 2


@pytest.mark.parametrize("after", [3, 4])  # in the second of two steps of an epoch lies its end
@every
def test_sigterm_and_going_on_change_no_bit(eight, tmp_path, name, monkeypatch, after):
    pretrain(job(name, eight, tmp_path / "whole"))
    real, count = Supervised.after_step, itertools.count(1)

    def after_step(self, phase, made):
        real(self, phase, made)
        if next(count) == after:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Supervised, "after_step", after_step)
    with pytest.raises(SystemExit):
        pretrain(job(name, eight, tmp_path / "halves"))
    assert [p.name for p in (tmp_path / "halves").glob("checkpoints/*.pt")] == [f"step-00000000{after}.pt"]
    pretrain(job(name, eight, tmp_path / "halves"))
    assert_same(tmp_path / "halves", tmp_path / "whole")


@every
def test_a_training_that_had_stopped_early_stops_again(eight, tmp_path, name, monkeypatch):
    """Killed between its last checkpoint and its weights: not one step more is done."""
    made = job(name, eight, tmp_path, epochs=9, patience=1, checkpoint_steps=1)
    losses = iter([1.0, 2.0])
    monkeypatch.setattr("ctssl.train.held.Held.loss", lambda held: next(losses))
    with monkeypatch.context() as killed:
        killed.setattr("ctssl.train.checkpoint.finish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            pretrain(made)
    pretrain(made)
    assert len(pd.read_csv(tmp_path / "history.csv")) == 4


@every
def test_the_fingerprint_knows_labels_and_who_is_held_out(eight, tmp_path, name):
    made = job(name, eight, tmp_path)
    others = [
        replace(made.labels, values=[*NUMBERS[:-1], 8.5]),
        replace(made.labels, held=[True, *HELD[1:]]),
        replace(made.labels, weighted=True),
    ]
    prints = [made.fingerprint(), *(replace(made, labels=labels).fingerprint() for labels in others)]
    assert len(set(prints)) == 4
    assert replace(made, out=tmp_path / "elsewhere").fingerprint() == prints[0]


def test_every_supervised_method_is_in_this_contract():
    assert {name for name, options in OPTIONS.items() if options.supervised} == set(SMALL)
    for name in SMALL:
        assert issubclass(load_method(name), Supervised)


def together(name, held):
    """Of a training in two groups. Adam would follow the sign of what rounding leaves of gradients."""
    labels = Labels("fev1", (), NUMBERS, HELD if held == "some" else [False] * 8)
    return {"labels": labels, "bn_groups": 2, "optimiser": "sgd", **ALL[name]}


WORKER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import torch
from methods.test_supervised_contract import job, together
from golden.fill_supervised import eight
from ctssl.train.loop import pretrain
torch.set_num_threads(1)
people, out, (name, held) = eight(Path(sys.argv[2])), Path(sys.argv[3]), sys.argv[4:]
pretrain(job(name, people, out, **together(name, held)))
"""


@pytest.mark.slow
@pytest.mark.parametrize("held", ["some", "none"])
@every
def test_two_processes_train_what_one_trains(tmp_path, name, held):
    """Of eight scans each trains a batch norm group; of six there is one, and each looks at one held out."""
    people = fill_supervised.eight(tmp_path / "eight")
    pretrain(job(name, people, tmp_path / "one", **together(name, held)))
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    asked = [str(Path(__file__).parents[1]), str(tmp_path / "eight"), str(tmp_path / "two"), name, held]
    done = subprocess.run([*run, *asked], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (pd.read_csv(tmp_path / out / "history.csv") for out in ("one", "two"))
    for column in first.columns.drop("phase"):
        np.testing.assert_allclose(first[column], second[column], rtol=2e-3, atol=1e-3, err_msg=column)
    ours, theirs = (load_file(tmp_path / out / weights.TENSORS) for out in ("one", "two"))
    for tensor, value in ours.items():
        torch.testing.assert_close(theirs[tensor], value, rtol=2e-3, atol=1e-3)
