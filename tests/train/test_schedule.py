import itertools
import math

import numpy as np
import pytest

from ctssl.methods import Phase
from ctssl.train import schedule
from ctssl.train.batches import Cohort
from ctssl.train.rounds import samples_of_round
from ctssl.train.schedule import Plan, cosine


def plan(epochs=3, rounds=(1, 2), scans=7):
    valid = np.random.default_rng(0).random((scans, 5)) < 0.6
    phases = [
        Phase(
            "patch",
            "landmark",
            3,
            rounds[0],
            [],
            groups=1,
            keys=None,
            key_features=0,
            loss=lambda batch, keys: {},
        ),
        Phase(
            "graph",
            "scan",
            2,
            rounds[1],
            [],
            groups=1,
            keys=None,
            key_features=0,
            loss=lambda batch, keys: {},
        ),
    ]
    return Plan(phases, Cohort(valid, np.arange(scans)), epochs, seed=4)


def key(step):
    return step.number, step.phase, step.of_phase, step.sample.scans.tolist(), step.sample.landmarks.tolist()


@pytest.mark.parametrize("rounds", [(1, 2), (2, 1), (4, 3)])
def test_phases_take_turns_until_the_epochs_are_done(rounds):
    it = plan(rounds=rounds)
    steps = list(it.steps())
    assert [s.number for s in steps] == list(range(len(steps)))
    for phase, total in enumerate(it.totals()):
        assert [s.of_phase for s in steps if s.phase == phase] == list(range(total))
    assert it.totals()[1] == math.ceil(9 / rounds[0]) * rounds[1]  # 7 scans by 3 are 3 rounds, 3 epochs
    seen = [s.sample for s in steps if s.phase == 0]
    pairs = [(a, b) for sample in seen for a, b in zip(sample.scans, sample.landmarks, strict=True)]
    assert max(pairs.count(p) for p in set(pairs)) == 3


def test_in_an_epoch_of_a_phase_a_pair_comes_at_most_once():
    """Random numbers hang on (phase, epoch, scan, landmark)."""
    met = [
        (step.phase, step.epoch, *pair)
        for step in plan(rounds=(2, 3)).steps()
        for pair in zip(step.sample.scans, step.sample.landmarks, strict=True)
    ]
    assert len(set(met)) == len(met)
    assert {epoch for phase, epoch, *_ in met if phase == 0} == {0, 1, 2}


def test_a_plan_goes_on_anywhere():
    it = plan()
    steps = [key(s) for s in it.steps()]
    for first in (0, 1, 5, len(steps) - 1, len(steps)):
        assert [key(s) for s in it.steps(first)] == steps[first:]


def test_skipped_rounds_are_counted_and_not_made(monkeypatch):
    it = plan(epochs=40)
    total, made = sum(it.totals()), []

    def noted(*round_):
        made.append(round_)
        return samples_of_round(*round_)

    monkeypatch.setattr(schedule, "samples_of_round", noted)
    steps = list(it.steps(total - 1))
    assert [s.number for s in steps] == [total - 1]
    assert len(made) == 1


def test_trap_10_the_learning_rate_ends_with_its_phase_and_never_rises():
    it = plan(epochs=20)
    for phase, total in enumerate(it.totals()):
        rates = [cosine(0.03, s.of_phase, total) for s in it.steps() if s.phase == phase]
        assert rates[0] == 0.03
        assert all(a > b for a, b in itertools.pairwise(rates))
        assert 0 < rates[-1] < 0.03 * 2.5 / total**2 * 1.01
    assert cosine(0.03, 500, 1000) == pytest.approx(0.015)
    assert cosine(0.03, 2000, 1000) == 0
