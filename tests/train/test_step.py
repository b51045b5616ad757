"""A step's keys, gradients and refusals, beneath the loop."""

from dataclasses import replace

import pytest
import torch
from train import synthetic

from ctssl.errors import CtsslError
from ctssl.methods.context_aware import ContextAware
from ctssl.train.batches import Cohort
from ctssl.train.schedule import Plan
from ctssl.train.step import Loader, Stepper
from ctssl.train.team import Team

STILL = {
    **dict.fromkeys(("gamma_probability", "noise_probability", "rotation_deg"), 0),
    **dict.fromkeys(("translation_voxels", "scale", "elastic_magnitude"), 0),
}
"""An augmentation that does nothing."""


@pytest.fixture(scope="module")
def eight(tmp_path_factory):
    people = synthetic.cohort(tmp_path_factory.mktemp("eight"), scans=8)
    people.subjects = [f"person{i}" for i in range(8)]
    return people


def prepared(people, passes=1, **changes):
    """A stepper and its loader, and the first step of each phase that all scans are in."""
    options = synthetic.options(**{"patch_batch": 8, "graph_batch": 8, **changes})
    torch.manual_seed(3)
    method = ContextAware.build(options, people.atlas)
    cohort = Cohort.of(people.stores, people.subjects)
    phases = method.phases()
    optimisers = [torch.optim.SGD(p.parameters, lr=options.learning_rate) for p in phases]
    stepper = Stepper(method, optimisers, options, team=Team(), bf16=False)
    loader = Loader(people.stores, cohort, phases, 0, Team(), passes, pinned=False)
    steps = list(Plan(phases, cohort, 1, 0).steps())
    return (
        stepper,
        loader,
        [next(s for s in steps if s.phase == i and len(s.sample.members) == 8) for i in range(2)],
    )


@pytest.mark.parametrize("passes", [1, 2])
@pytest.mark.parametrize("phase", [0, 1])
def test_keys_come_back_in_the_order_of_their_scans(eight, phase, passes):
    """With one group, equal weights and equal views, each key is its query, whatever the shuffle."""
    stepper, loader, steps = prepared(eight, passes, augment=STILL, bn_groups=1)
    load, how = loader(steps[phase]), stepper.phases[phase]
    assert load.order[load.order].tolist() != list(range(len(load.order)))
    made = stepper._keys(how, load)
    whole = load.batch.take(range(len(load.subjects)), (len(load.subjects),))
    torch.testing.assert_close(made.vectors, how.keys(whole), atol=1e-3, rtol=1e-3)
    assert made.subjects.tolist() == loader.cohort.subjects[steps[phase].sample.members].tolist()
    assert made.landmark == (steps[0].sample.landmarks[0] if phase == 0 else 0)


@pytest.mark.parametrize("phase", [0, 1])
def test_keys_are_made_in_other_batch_norm_groups_than_queries(eight, phase):
    """So with two groups, equal weights and equal views, a key is not its query."""
    stepper, loader, steps = prepared(eight, augment=STILL, bn_groups=2)
    load, how = loader(steps[phase]), stepper.phases[phase]
    (queries,) = load.shares.queries[0]
    of_queries = how.keys(load.of(queries))
    assert queries.groups == (4, 4)
    made = stepper._keys(how, load).vectors
    assert ((made - of_queries).abs().amax(1) > 1e-4).all()


def test_the_two_views_of_a_patch_have_random_numbers_of_their_own(eight):
    _, loader, steps = prepared(eight)
    begun = loader(steps[0]).batch.random
    assert len(set(begun.tolist())) == 8
    later = loader(replace(steps[0], epoch=1)).batch.random
    assert not set(begun.tolist()) & set(later.tolist())
    assert torch.equal(loader(replace(steps[0], number=99)).batch.random, begun), "the epoch counts, no step"


def test_clipping_bounds_the_step(eight):
    """With plain SGD the weights move by the rate times the clipped gradient."""
    moved = {}
    for norm in (None, 1e-3):
        stepper, loader, steps = prepared(eight, clip_norm=norm, random_negatives=True, weight_decay=0)
        before = [p.detach().clone() for p in stepper.phases[0].parameters]
        stepper(steps[0], loader(steps[0]), 0.5)
        change = [
            (p.detach() - b).flatten() for p, b in zip(stepper.phases[0].parameters, before, strict=True)
        ]
        moved[norm] = float(torch.cat(change).norm())
    assert moved[1e-3] == pytest.approx(0.5e-3, rel=1e-3)
    assert moved[None] > 5e-3


def test_a_loss_that_is_no_number_names_the_batch(eight, monkeypatch):
    stepper, loader, steps = prepared(eight)
    with torch.no_grad():
        stepper.method.query.encoder.fc[2].weight[0, 0] = float("nan")
        stepper.method.patch_queue.subjects[:] = 99
    before = stepper.method.query.encoder.conv1.weight.clone()
    landmark, rows = steps[0].sample.landmarks[0], steps[0].sample.members.tolist()
    with pytest.raises(CtsslError, match=rf"loss is nan at step .*landmark {landmark} ") as error:
        stepper(steps[0], loader(steps[0]), 0.03)
    assert f"rows {rows} of scans.txt" in error.value.message
    assert torch.equal(stepper.method.query.encoder.conv1.weight, before)


def test_a_gradient_that_is_no_number_stops_before_the_weights_change(eight):
    """A finite loss may have one; a checkpoint of such weights would be lost."""
    stepper, loader, steps = prepared(eight, random_negatives=True)
    weight = stepper.method.query.encoder.conv1.weight
    before = weight.detach().clone()
    weight.register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(CtsslError, match=r"the patch gradient is (inf|nan) at step"):
        stepper(steps[0], loader(steps[0]), 0.03)
    assert torch.equal(weight, before)
