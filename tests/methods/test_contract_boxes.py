"""What every method that learns from boxes of whole lungs keeps, whatever it is."""

import json
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from methods.narrow import FEATURES, narrow  # noqa: F401
from safetensors.torch import load_file
from train import lungs, synthetic

from ctssl.config.methods import OPTIONS
from ctssl.config.runs import Pretraining, Run
from ctssl.errors import ConfigError, StoreError
from ctssl.evaluate.features import embed_scan
from ctssl.methods import load_method
from ctssl.train import weights
from ctssl.train.batches import Cohort
from ctssl.train.cuts import embedded_cuts
from ctssl.train.job import PretrainJob
from ctssl.train.loop import pretrain
from ctssl.train.schedule import Plan
from ctssl.train.step import Loader, Stepper
from ctssl.train.team import Team

STILL = {
    **dict.fromkeys(("gamma_probability", "noise_probability", "rotation_deg"), 0),
    **dict.fromkeys(("translation_voxels", "scale", "elastic_magnitude", "blur_probability"), 0),
}
"""An augmentation that does nothing."""

SMALL = {
    "moco-v2": {
        **{"volume_voxels": 32, "field_mm": 60, "feature_size": 16, "projection_size": 12},
        **{"volume_batch": 8, "bn_groups": 2, "queue_size": 16, "momentum": 0.9, "random_negatives": True},
    },
    "models-genesis": {
        "crop_voxels": (16, 16, 16),
        "crop_batch": 4,
        "tries": 2,
        "corrupt": {"steps": ["paint"]},
    },
    "pcrl": {
        **{"crop_voxels": (16, 16, 16), "crop_sizes": ((8, 8, 8), (12, 16, 16)), "width": 1, "tries": 2},
        **{"crop_batch": 4, "projection_size": 12, "queue_size": 16, "momentum": 0.9, "bn_groups": 1},
    },
    "voco": {
        **{"crop_voxels": (16, 16, 16), "grid": (2, 3), "width": 2, "projection_size": 12, "crop_batch": 4},
        **{"optimiser": "sgd", "momentum": 0.5},
    },
}
"""Options that a laptop trains in seconds."""

WIDTH = {"moco-v2": 16, "models-genesis": FEATURES, "pcrl": 16, "voco": 30}

OVERFIT = {
    "moco-v2": {
        "bn_groups": 1,
        "momentum": 0.5,
        "queue_size": 4,
        "random_negatives": False,
        "augment": STILL,
        "volume_batch": 4,
    },
    "models-genesis": {},
    "pcrl": {"width": 2, "queue_size": 12, "move": {"steps": []}, "corrupt": {"steps": []}},
    "voco": {"random_crops": 6, "augment": {"steps": []}, "projection_size": 64},
}
CPU = torch.device("cpu")
quick = pytest.mark.usefixtures("narrow")
every = pytest.mark.parametrize("name", SMALL)


@pytest.fixture(scope="module")
def boxed(people, tmp_path_factory):
    return lungs.with_boxes(people, tmp_path_factory.mktemp("boxes"))


@pytest.fixture(scope="module")
def boxed_crowd(crowd, tmp_path_factory):
    return lungs.with_boxes(crowd, tmp_path_factory.mktemp("boxes"))


@pytest.fixture(scope="module")
def boxed_strangers(strangers, boxed_crowd):
    return SimpleNamespace(**vars(strangers), boxes=boxed_crowd.boxes)


def options(name, **changes):
    return OPTIONS[name].model_validate({"epochs": 1, **SMALL[name], **changes})


def prepared(name, people, passes=1, **changes):
    """A stepper, its loader, and the step with most scans."""
    torch.manual_seed(3)
    chosen = options(name, **changes)
    method = load_method(name).build(chosen, people.atlas)
    method.to(memory_format=torch.channels_last_3d)
    phases, cohort = method.phases(), Cohort.of(people.stores, people.subjects)
    optimisers = [torch.optim.SGD(p.parameters, lr=0.1, momentum=0.9) for p in phases]
    stepper = Stepper(method, optimisers, chosen, team=Team(), bf16=False)
    boxes = [people.boxes[store.scan] for store in people.stores]
    loader = Loader(people.stores, cohort, phases, 0, Team(), passes, pinned=False, boxes=boxes)
    steps = Plan(phases, cohort, 1, 0).steps()
    return stepper, loader, max(steps, key=lambda step: len(step.sample.members))


def job(name, people, out, **changes) -> PretrainJob:
    machine = synthetic.MACHINE | {n: changes.pop(n) for n in Pretraining.model_fields if n in changes}
    run = Run(name="small", method=name, options=options(name, **changes).model_dump())
    made = Pretraining(**machine), people.atlas, people.stores, people.subjects
    return PretrainJob(run, *made, 0, out, people.boxes, out / "volumes")


@quick
@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("moco-v2", {}),
        ("models-genesis", {"bn_groups": 2, "crops": 2}),
        ("pcrl", {"bn_groups": 2}),
        ("voco", {"bn_groups": 2}),
    ],
)
def test_passes_change_nothing_but_rounding(boxed_strangers, name, changes):
    found = []
    for passes in (1, 2):
        batch = "volume_batch" if name == "moco-v2" else "crop_batch"
        stepper, loader, step = prepared(name, boxed_strangers, passes, **{batch: 8}, **changes)
        load = loader(step)
        assert [part.groups for part in load.shares.queries[0]] == [(4,) * (2 // passes)] * passes
        found.append(stepper(step, load, 0.01))
    whole, halves = found
    assert np.isfinite(list(whole.values())).all()
    assert halves == pytest.approx(whole, rel=1e-3, abs=1e-3)


@quick
@every
def test_one_batch_is_learnt_by_heart(boxed_crowd, name):
    stepper, loader, step = prepared(name, boxed_crowd, **OVERFIT[name])
    load = loader(step)
    warm = [stepper(step, load, 0.0)["total"] for _ in range(2)][-1]  # a queue fills with this batch's keys
    losses = [stepper(step, load, 0.03)["total"] for _ in range(20)]
    assert np.mean(losses[-3:]) < 0.6 * warm


@quick
@every
def test_features_have_a_row_a_scan_that_depends_on_no_other(boxed, name):
    stepper, loader, step = prepared(name, boxed)
    stepper(step, loader(step), 0.01)
    method, found = stepper.method, []
    for store in boxed.stores[:3]:
        box = boxed.boxes[store.scan]
        found.append(embed_scan(method.query, store, CPU, box))
        again = method.embed(embedded_cuts(box, method.query.cut))
        assert again.shape == (1, WIDTH[name])
        assert again.dtype == torch.float32
        assert not again.requires_grad
        np.testing.assert_allclose(again[0].numpy(), found[-1], rtol=1e-4, atol=1e-6)
    assert (np.std(found, 0) > 0).any()
    with pytest.raises(StoreError, match="scan scan0 has none"):
        embed_scan(method.query, boxed.stores[0], CPU)


@quick
@every
def test_a_state_that_was_saved_gives_the_same_next_loss_and_features(boxed, tmp_path, name):
    stepper, loader, step = prepared(name, boxed)
    stepper(step, loader(step), 0.01)
    other, _, _ = prepared(name, boxed)
    other.method.load_state_dict(stepper.method.state_dict())
    other.optimisers[0].load_state_dict(deepcopy(stepper.optimisers[0].state_dict()))
    load = loader(step)
    assert stepper(step, load, 0.01) == other(step, load, 0.01)
    query, cohort = stepper.method.query, Cohort.of(boxed.stores, boxed.subjects)
    weights.save(tmp_path, query, job(name, boxed, tmp_path).card(cohort, [1]))
    kept = weights.load(tmp_path / weights.TENSORS, boxed.atlas).embedder
    store = boxed.stores[0]
    before, after = (embed_scan(e, store, CPU, boxed.boxes[store.scan]) for e in (query, kept))
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-5)


@quick
@every
def test_samples_follow_from_seed_and_epoch_whatever_the_batch(boxed, name):
    """The same scan in another epoch is cut and drawn otherwise; in the same one alike, in any company."""
    _, loader, _ = prepared(name, boxed)
    chosen, found = loader.phases, {}
    cohort = Cohort.of(boxed.stores, boxed.subjects)
    for batch in (4, 3):
        phases = [type(p)(**{**vars(p), "batch": batch}) for p in chosen]
        for step in Plan(phases, cohort, 2, 0).steps():
            load = loader(step)
            counts = list(load.batch.counts)
            for scan, random, values in zip(
                step.sample.members,
                load.batch.random.split(counts),
                load.batch.patches.split(counts),
                strict=True,
            ):
                pair = tuple(random.tolist()), values.numpy().tobytes()
                found.setdefault((step.epoch, int(scan)), []).append(pair)
    twice = [pair for pair in found.values() if len(pair) == 2]
    assert len(twice) > 5
    assert all(first == second for first, second in twice)
    assert len({random for pair in found.values() for random, _ in pair}) == len(found)


@quick
@every
def test_a_method_without_its_boxes_says_so(boxed, tmp_path, name):
    made = job(name, boxed, tmp_path)
    bare = PretrainJob(**{**vars(made), "boxes": {}})
    with pytest.raises(ConfigError, match="these scans have none: scan0"):
        pretrain(bare)


WORKER = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import torch
from methods.test_contract_boxes import eight_in, job
from ctssl.train.loop import pretrain
torch.set_num_threads(1)
people = eight_in(Path(sys.argv[2]))
pretrain(job(sys.argv[4], people, Path(sys.argv[3]), **json.loads(sys.argv[5])))
"""

SHAPES = {
    "moco-v2": {"volume_batch": 8, "queue_size": 21, "learning_rate": 0.003, "epochs": 2},
    "models-genesis": {"crop_batch": 8, "bn_groups": 2, "learning_rate": 0.01, "epochs": 2},
    "pcrl": {"crop_batch": 8, "bn_groups": 2, "learning_rate": 0.003, "epochs": 2},
    "voco": {"crop_batch": 8, "bn_groups": 2, "learning_rate": 0.01, "epochs": 2},
}


def eight_in(folder):
    """Eight people with boxes in this folder, made where there are none."""
    from ctssl.store.boxes import open_box
    from ctssl.store.reader import open_store

    if not folder.exists():
        lungs.with_boxes(synthetic.cohort(folder / "stores", scans=8), folder / "boxes")
    atlas, paths = synthetic.atlas(), sorted((folder / "stores").glob("scan*"))
    stores = [open_store(path, atlas=atlas.id) for path in paths]
    boxes = {s.scan: open_box(folder / "boxes" / s.scan, scan=s.scan, atlas=atlas.id) for s in stores}
    return SimpleNamespace(atlas=atlas, stores=stores, subjects=[p.name for p in paths], boxes=boxes)


@pytest.mark.slow
@every
def test_two_processes_train_what_one_trains(tmp_path, name):
    pretrain(job(name, eight_in(tmp_path / "eight"), tmp_path / "one", **SHAPES[name]))
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    tests = Path(__file__).parents[1]
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    asked = [str(tests), str(tmp_path / "eight"), str(tmp_path / "two"), name, json.dumps(SHAPES[name])]
    done = subprocess.run([*run, *asked], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (pd.read_csv(tmp_path / out / "history.csv") for out in ("one", "two"))
    for column in first.columns.drop("phase"):
        np.testing.assert_allclose(first[column], second[column], rtol=1e-3, atol=1e-3, err_msg=column)
    ours, theirs = (load_file(tmp_path / out / weights.TENSORS) for out in ("one", "two"))
    for tensor, value in ours.items():
        torch.testing.assert_close(theirs[tensor], value, rtol=1e-3, atol=1e-4)
