"""What every method that learns from patches of landmarks keeps, whatever it is."""

import json
import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from train import synthetic

from ctssl.config.methods import OPTIONS
from ctssl.config.runs import Pretraining, Run
from ctssl.evaluate.features import embed_scan
from ctssl.methods import load_method
from ctssl.store.reader import open_store
from ctssl.train import weights
from ctssl.train.batches import Cohort, read_batch, scan_sample
from ctssl.train.job import PretrainJob
from ctssl.train.loop import pretrain
from ctssl.train.schedule import Plan
from ctssl.train.step import Loader, Stepper
from ctssl.train.team import Team

STILL = {
    **dict.fromkeys(("gamma_probability", "noise_probability", "rotation_deg"), 0),
    **dict.fromkeys(("translation_voxels", "scale", "elastic_magnitude"), 0),
}
"""An augmentation that does nothing."""

CONTRAST = {"queue_size": 16, "momentum": 0.9, "bn_groups": 2, "random_negatives": True}
ONE = {"bn_groups": 1, "queue_size": 4, "random_negatives": False, "augment": STILL}
"""The queue holds the keys of the batch's four subjects, so guessing costs log(4)."""

SMALL = {
    "autoencoder": {"feature_size": 16, "optimiser": "sgd"},
    "context-aware": {"feature_size": 16, "graph_batch": 8, "graph_steps": 1, **CONTRAST},
    "drasclr": {"feature_size": 16, "experts": 3, **CONTRAST},
    "untrained": {"feature_size": 16, "graph_batch": 8},
}
"""Options that a laptop trains in seconds."""

OVERFIT = {"autoencoder": {}, "context-aware": {**ONE, "graph": False}, "drasclr": ONE}
"""What else is needed to learn one batch by heart; other methods learn nothing."""


def options(name, **changes):
    return OPTIONS[name].model_validate({"patch_batch": 8, "epochs": 1, **SMALL[name], **changes})


def prepared(name, people, passes=1, **changes):
    """A stepper, its loader, and of each phase the step with most scans."""
    torch.manual_seed(3)
    chosen = options(name, **changes)
    method = load_method(name).build(chosen, people.atlas)
    method.to(memory_format=torch.channels_last_3d)
    phases, cohort = method.phases(), Cohort.of(people.stores, people.subjects)
    optimisers = [torch.optim.SGD(p.parameters, lr=0.1, momentum=0.9) for p in phases]
    stepper = Stepper(method, optimisers, chosen, team=Team(), bf16=False)
    loader = Loader(people.stores, cohort, phases, 0, Team(), passes, pinned=False)
    steps = list(Plan(phases, cohort, 1, 0).steps())
    found = [[s for s in steps if s.phase == i] for i in range(len(phases))]
    return stepper, loader, [max(some, key=lambda step: len(step.sample.members)) for some in found]


def job(name, people, out, **changes) -> PretrainJob:
    machine = synthetic.MACHINE | {n: changes.pop(n) for n in Pretraining.model_fields if n in changes}
    run = Run(name="small", method=name, options=options(name, **changes).model_dump())
    machine = Pretraining(**machine)
    return PretrainJob(run, machine, people.atlas, people.stores, people.subjects, 0, out)


every = pytest.mark.parametrize("name", SMALL)


@every
def test_losses_are_finite_and_passes_change_nothing_but_rounding(strangers, name):
    found = []
    for passes in (1, 2):
        stepper, loader, steps = prepared(name, strangers, passes)
        loads = [loader(step) for step in steps]
        for load in loads:
            assert [part.groups for part in load.shares.queries[0]] == [(4,) * (2 // passes)] * passes
        found.append([stepper(step, load, 0.01) for step, load in zip(steps * 2, loads * 2, strict=True)])
    for whole, halves in zip(*found, strict=True):
        assert np.isfinite(list(whole.values())).all()
        assert whole.keys() == halves.keys()
        for term, value in whole.items():
            assert halves[term] == pytest.approx(value, rel=1e-3, abs=1e-3), term


@pytest.mark.parametrize("name", OVERFIT)
def test_one_batch_is_learnt_by_heart(people, name):
    stepper, loader, (step, *_) = prepared(name, people, **OVERFIT[name])
    load = loader(step)
    warm = [stepper(step, load, 0.0)["total"] for _ in range(2)][-1]  # the queue fills with this batch's keys
    losses = [stepper(step, load, 0.03)["total"] for _ in range(15)]
    assert warm > 0.2
    assert np.mean(losses[-3:]) < 0.5 * warm


@every
def test_features_have_a_row_a_scan_that_depends_on_no_other(people, name):
    stepper, loader, steps = prepared(name, people)
    for step in steps:
        stepper(step, loader(step), 0.01)
    cohort = Cohort.of(people.stores, people.subjects)
    batch = read_batch(people.stores, cohort, scan_sample(cohort, np.array([1, 4, 2])))
    features = stepper.method.embed(batch)
    assert features.shape == (3, 16)
    assert features.dtype == torch.float32
    assert not features.requires_grad
    assert torch.equal(features, stepper.method.embed(batch))
    assert (features.std(0) > 0).any()
    alone = [embed_scan(stepper.method.query, people.stores[i], torch.device("cpu")) for i in (1, 4, 2)]
    np.testing.assert_allclose(features.numpy(), alone, rtol=1e-4, atol=1e-5)


@every
def test_a_state_that_was_saved_gives_the_same_next_loss(people, name):
    stepper, loader, steps = prepared(name, people)
    for step in steps:
        stepper(step, loader(step), 0.01)
    torch.manual_seed(99)
    other, _, _ = prepared(name, people)
    other.method.load_state_dict(stepper.method.state_dict())
    for mine, theirs in zip(stepper.optimisers, other.optimisers, strict=True):
        theirs.load_state_dict(deepcopy(mine.state_dict()))
    for step in steps:
        load = loader(step)
        assert stepper(step, load, 0.01) == other(step, load, 0.01)


@every
def test_weights_that_were_kept_give_the_same_features(people, tmp_path, name):
    stepper, loader, steps = prepared(name, people)
    for step in steps:
        stepper(step, loader(step), 0.01)
    cohort = Cohort.of(people.stores, people.subjects)
    weights.save(tmp_path, stepper.method.query, job(name, people, tmp_path).card(cohort, [1]))
    kept = weights.load(tmp_path / weights.TENSORS, people.atlas).embedder
    device = torch.device("cpu")
    before, after = (embed_scan(e, people.stores[0], device) for e in (stepper.method.query, kept))
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-5)


@every
def test_features_of_patches_are_those_before_pooling(people, name):
    """Their mean is the scan's, where no graph network follows."""
    stepper, _, _ = prepared(
        name, people, **({"graph": False} if "graph" in OPTIONS[name].model_fields else {})
    )
    store = people.stores[1]
    shown = torch.from_numpy(store.patches()[store.valid])
    coordinates = torch.tensor(people.atlas.coordinates()[store.valid], dtype=torch.float32)
    features = stepper.method.query.embed_patches(shown, coordinates)
    assert features.shape == (len(shown), 16)
    whole = embed_scan(stepper.method.query, store, torch.device("cpu"))
    np.testing.assert_allclose(features.mean(0).numpy(), whole, rtol=1e-4, atol=1e-5)


WORKER = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import torch
from methods.test_contract import nine_in, job
from ctssl.train.loop import pretrain
torch.set_num_threads(1)
people = nine_in(Path(sys.argv[2]))
pretrain(job(sys.argv[4], people, Path(sys.argv[3]), **json.loads(sys.argv[5])))
"""

SHAPE = {"patch_batch": 9, "epochs": 2}
CONTRASTED = {"queue_size": 21, "learning_rate": 3e-4}
"""Nine scans in groups of five and four; a queue that no batch divides; at this rate rounding stays small."""


def nine_in(folder):
    """Nine people's stores in this folder, made where there are none."""
    if not folder.exists():
        synthetic.cohort(folder, scans=9, hidden=[(3, 2), (4, 2)])
    atlas, paths = synthetic.atlas(), sorted(folder.glob("scan*"))
    stores = [open_store(path, atlas=atlas.id) for path in paths]
    return type("People", (), {"atlas": atlas, "stores": stores, "subjects": [path.name for path in paths]})


@pytest.mark.slow
@every
def test_two_processes_train_what_one_trains(tmp_path, name):
    changes = {**SHAPE, **(CONTRASTED if "queue_size" in OPTIONS[name].model_fields else {})}
    pretrain(job(name, nine_in(tmp_path / "nine"), tmp_path / "one", **changes))
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    tests = Path(__file__).parents[1]
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    asked = [str(tests), str(tmp_path / "nine"), str(tmp_path / "two"), name, json.dumps(changes)]
    done = subprocess.run([*run, *asked], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (pd.read_csv(tmp_path / out / "history.csv") for out in ("one", "two"))
    assert first.phase.tolist() == second.phase.tolist()
    for column in first.columns.drop("phase"):
        np.testing.assert_allclose(first[column], second[column], rtol=1e-3, atol=1e-3, err_msg=column)
    ours, theirs = (load_file(tmp_path / out / weights.TENSORS) for out in ("one", "two"))
    for tensor, value in ours.items():
        torch.testing.assert_close(
            theirs[tensor], value, rtol=1e-3, atol=1e-4, msg=lambda text, tensor=tensor: f"{tensor}: {text}"
        )
