import itertools
import json
import os
import signal
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from train import synthetic
from train.files import assert_same

from ctssl.errors import CohortError, CtsslError, WeightsError
from ctssl.methods.context_aware import ContextAware
from ctssl.train import __main__, checkpoint, host, jobfile, loop
from ctssl.train.loop import pretrain
from ctssl.train.parts import share
from ctssl.train.team import Team


@pytest.fixture(scope="module")
def finished(people, tmp_path_factory):
    """An undisturbed training: two epochs of two rounds of six landmarks, two graph steps a round."""
    out = tmp_path_factory.mktemp("finished")
    torch.set_num_threads(1)
    pretrain(synthetic.job(people, out))
    return out


@pytest.fixture
def interrupt(monkeypatch):
    """Make the method send SIGTERM, or raise, once, after so many steps."""
    real = ContextAware.after_step

    def after_steps(after, signal_or_error):
        count = itertools.count(1)

        def after_step(self, phase, made):
            real(self, phase, made)
            if next(count) != after:
                return
            if isinstance(signal_or_error, BaseException):
                raise signal_or_error
            os.kill(os.getpid(), signal_or_error)

        monkeypatch.setattr(ContextAware, "after_step", after_step)

    return after_steps


def test_history_and_card_tell_what_was_done(people, finished):
    history = pd.read_csv(finished / "history.csv")
    terms = ["top1", "alignment", "queue_age", "embedding_std", "uniformity", "gradient_norm"]
    assert history.columns.tolist() == ["step", "phase", "learning_rate", "loss", *terms]
    assert history.step.tolist() == list(range(len(history)))
    assert history.notna().all(axis=None)
    assert history.top1.between(0, 1).all()
    card = json.loads((finished / "model.json").read_text())
    assert card["steps"] == history.phase.value_counts()[["patch", "graph"]].tolist()
    assert card["steps"][1] == 8
    assert (card["scans"], card["subjects"], card["landmarks"]) == (5, 4, 6)
    assert card["window_hu"] == [-1024, 240]
    assert {p.name for p in (finished / "checkpoints").iterdir()} == {"finished.pt", "history.jsonl"}


def test_sigterm_writes_a_checkpoint_and_the_resumed_run_is_bit_identical(
    people, finished, tmp_path, interrupt
):
    before = signal.getsignal(signal.SIGTERM)
    interrupt(9, signal.SIGTERM)
    with pytest.raises(SystemExit) as stop:
        pretrain(synthetic.job(people, tmp_path))
    assert stop.value.code == 143
    assert signal.getsignal(signal.SIGTERM) is before
    assert [p.name for p in tmp_path.glob("checkpoints/*.pt")] == ["step-000000009.pt"]
    assert not (tmp_path / "model.safetensors").exists()
    pretrain(synthetic.job(people, tmp_path))
    assert_same(tmp_path, finished)


def test_a_crash_costs_the_steps_since_the_last_checkpoint_only(people, finished, tmp_path, interrupt):
    """Rows of lost steps do not stay in the history; two checkpoints are kept."""
    job = synthetic.job(people, tmp_path, checkpoint_steps=4)
    interrupt(15, RuntimeError("power cut"))
    with pytest.raises(RuntimeError, match="power cut"):
        pretrain(job)
    kept = sorted(p.name for p in tmp_path.glob("checkpoints/*.pt"))
    assert kept == ["step-000000008.pt", "step-000000012.pt"]
    pretrain(job)
    assert_same(tmp_path, finished)


def test_checkpoints_of_another_training_are_not_used(people, finished, tmp_path, interrupt):
    interrupt(2, signal.SIGTERM)
    with pytest.raises(SystemExit):
        pretrain(synthetic.job(people, tmp_path, seed=1))
    pretrain(synthetic.job(people, tmp_path))
    assert_same(tmp_path, finished)


def test_a_damaged_checkpoint_is_an_error_that_names_it(tmp_path):
    (tmp_path / "step-000000004.pt").write_bytes(b"half")
    with pytest.raises(WeightsError, match=r"step-000000004\.pt cannot be read"):
        checkpoint.load(tmp_path, "mine")


def test_what_killed_jobs_were_writing_is_removed_by_the_process_that_leads(people, tmp_path):
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    left = [folder / name for name in ("step-000000004.pt.123.part", "finished.pt.9.part")]
    others = [folder / "step-000000004.pt", folder / "my.part"]
    for file in left + others:
        file.write_bytes(b"half")
    checkpoint.sweep(folder)
    assert sorted(folder.iterdir()) == sorted(others)
    others[0].unlink()
    for file in left:
        file.write_bytes(b"half")
    training = loop._Training(synthetic.job(people, tmp_path), torch.device("cpu"), Team())
    training.team = SimpleNamespace(leads=False, say=print, first=lambda words, **_: words, wait=lambda: None)
    training._resume()
    assert all(file.exists() for file in left)
    training.team = Team()
    training._resume()
    assert not any(file.exists() for file in left)


@pytest.mark.parametrize(("passes", "groups", "devices", "done"), [(3, 2, 1, 2), (2, 4, 4, 1), (9, 5, 2, 3)])
def test_passes_that_do_nothing_are_told_of(passes, groups, devices, done):
    phases = [SimpleNamespace(name="patch", groups=groups), SimpleNamespace(name="wide", groups=64)]
    (remark,) = loop._idle_passes(phases, passes, devices)
    assert f"phase patch is done in {done} of the {passes} passes" in remark
    assert not list(loop._idle_passes(phases, done, devices))
    shares = share(groups * 4, groups, np.arange(groups * 4), devices, passes)
    assert max(map(len, shares.queries)) == done


def test_a_training_with_idle_passes_says_so(people, tmp_path, capfd):
    loop._Training(synthetic.job(people, tmp_path, passes=3), torch.device("cpu"), Team())
    assert "pretrain small: phase graph is done in 2 of the 3 passes asked for" in capfd.readouterr().err


def test_a_callers_process_keeps_its_memory_habits(people, tmp_path, monkeypatch):
    """Those of the C library are for processes of our own: `python -m ctssl.train` and the commands."""
    called = []
    monkeypatch.setattr(host, "keep_memory", lambda: called.append("kept"))
    pretrain(synthetic.job(people, tmp_path, epochs=1, graph=False))
    assert not called
    monkeypatch.setattr(loop, "pretrain", lambda job: called.append("trained"))
    monkeypatch.setattr(jobfile, "read_job", lambda path: None)
    monkeypatch.setattr(sys, "argv", ["ctssl.train", "job.json"])
    __main__.main()
    assert called == ["kept", "trained"]


def test_seeds_differ(people, finished, tmp_path):
    job = synthetic.job(people, tmp_path, seed=1, epochs=1)
    pretrain(job)
    name = "encoder.conv1.weight"
    assert not torch.equal(
        load_file(tmp_path / "model.safetensors")[name], load_file(finished / "model.safetensors")[name]
    )


def test_trap_10_the_optimiser_is_sgd(people, tmp_path):
    training = loop._Training(synthetic.job(people, tmp_path), torch.device("cpu"), Team())
    assert all(type(o) is torch.optim.SGD for o in training.optimisers)
    group = training.optimisers[0].param_groups[0]
    assert (group["momentum"], group["weight_decay"], group["nesterov"]) == (0.9, 1e-4, False)
    of_encoder = {id(p) for p in training.optimisers[0].param_groups[0]["params"]}
    of_graph = {id(p) for p in training.optimisers[1].param_groups[0]["params"]}
    assert not of_encoder & of_graph


def test_trap_10_the_optimisers_get_the_cosine(people, finished):
    """The history holds the rate that the optimiser itself had."""
    history = pd.read_csv(finished / "history.csv")
    for _, rows in history.groupby("phase"):
        of_phase = np.arange(len(rows))
        expected = 0.03 * (1 + np.cos(np.pi * of_phase / len(rows))) / 2
        np.testing.assert_allclose(rows.learning_rate, expected, rtol=1e-9)


@pytest.fixture
def losses_see(monkeypatch):
    """A list that gets (where random numbers begin, whether bfloat16 autocast is on) of every loss."""
    seen = []

    def spy(real):
        def loss(self, batch, keys):
            half = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
            seen.append((batch.random.tolist(), half))
            return real(self, batch, keys)

        return loss

    for name in ("patch_loss", "graph_loss"):
        monkeypatch.setattr(ContextAware, name, spy(getattr(ContextAware, name)))
    return seen


def test_trap_12_no_step_replays_the_random_numbers_of_another(people, tmp_path, losses_see):
    for seed in (0, 1):
        pretrain(synthetic.job(people, tmp_path / str(seed), seed=seed, epochs=1))
    assert len(losses_see) > 20
    begun = [number for numbers, _ in losses_see for number in numbers]
    assert len(set(begun)) == len(begun)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_losses_are_computed_in_the_precision_asked_for(people, tmp_path, losses_see, precision):
    pretrain(synthetic.job(people, tmp_path, precision=precision, epochs=1, graph_steps=1))
    assert {half for _, half in losses_see} == {precision == "bf16"}


@pytest.fixture
def tf32():
    """The two switches of TF32, put back afterwards."""
    backends = torch.backends.cudnn, torch.backends.cuda.matmul
    before = [b.allow_tf32 for b in backends]
    yield backends
    for backend, value in zip(backends, before, strict=True):
        backend.allow_tf32 = value


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_fp32_is_no_tf32(people, tmp_path, tf32, precision):
    for backend in tf32:
        backend.allow_tf32 = True
    pretrain(synthetic.job(people, tmp_path, precision=precision, epochs=1, graph=False))
    assert [b.allow_tf32 for b in tf32] == [precision == "bf16"] * 2


def test_random_keys_that_stay_in_the_queues_are_told(people, tmp_path, capfd):
    for queue_size, told in ((11, True), (10, False)):
        loop._Training(synthetic.job(people, tmp_path, queue_size=queue_size), torch.device("cpu"), Team())
        assert ("2 epochs of 5 scans make at most 10 keys" in capfd.readouterr().err) is told


def test_a_loss_that_is_no_number_stops_before_the_weights_change(people, tmp_path, monkeypatch):
    real = ContextAware.patch_loss

    def broken(self, batch, keys):
        losses = real(self, batch, keys)
        return {**losses, "total": losses["total"] * float("nan")}

    monkeypatch.setattr(ContextAware, "patch_loss", broken)
    with pytest.raises(CtsslError, match="patch loss is nan at step 0"):
        pretrain(synthetic.job(people, tmp_path))


def test_one_subject_is_too_few(people, tmp_path):
    alone = SimpleNamespace(atlas=people.atlas, stores=people.stores[:2], subjects=people.subjects[:2])
    with pytest.raises(CohortError, match="at least 2, but 2 usable scans of 1 came"):
        pretrain(synthetic.job(alone, tmp_path))
    nobody = replace(people.stores[2], valid=people.stores[2].valid & False)
    stores, subjects = [people.stores[0], nobody], ["a", "b"]
    pair = SimpleNamespace(atlas=people.atlas, stores=stores, subjects=subjects)
    with pytest.raises(CohortError, match="1 usable scans of 1 came"):
        pretrain(synthetic.job(pair, tmp_path))


@pytest.mark.parametrize("changes", [{"conditional": False}, {"graph": False}, {"head_layers": 3}])
def test_run_variants_train_in_bf16(people, tmp_path, changes):
    pretrain(synthetic.job(people, tmp_path, precision="bf16", epochs=1, graph_steps=1, **changes))
    history = pd.read_csv(tmp_path / "history.csv")
    assert set(history.phase) == ({"patch"} if changes == {"graph": False} else {"patch", "graph"})
    assert history.loss.between(0, 10).all()
