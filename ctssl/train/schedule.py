"""The order of training: rounds of each phase in a cycle, and the learning rate."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ctssl.methods import Phase
from ctssl.train.batches import Cohort, Sample
from ctssl.train.rounds import Cut, Unit, rounds_per_epoch, samples_of_round, steps_of_round


@dataclass(frozen=True)
class Step:
    """One optimiser step.

    Attributes:
        number: over all phases, from 0.
        phase: which of the method's phases.
        of_phase: number within that phase, from 0.
        epoch: of that phase, from 0; in an epoch a pair (scan, landmark) comes at most once.
        sample: what the batch holds.
    """

    number: int
    phase: int
    of_phase: int
    epoch: int
    sample: Sample


@dataclass(frozen=True)
class Plan:
    """What a training does, as a pure function of its fields.

    The phases take turns, each with its rounds, until the first has done its epochs.

    Attributes:
        phases: the method's cycle.
        cohort: the scans.
        epochs: passes of the first phase over the scans.
        seed: of the order of scans and landmarks.
    """

    phases: Sequence[Phase]
    cohort: Cohort
    epochs: int
    seed: int

    def totals(self) -> list[int]:
        """Steps of each phase over the whole training: the horizons of their learning rates."""
        totals = [0] * len(self.phases)
        for phase, number in self._rounds():
            totals[phase] += steps_of_round(*self._round(phase, number))
        return totals

    def steps(self, first: int = 0) -> Iterator[Step]:
        """All steps from number `first` on; rounds before it are counted, not made."""
        done, of_phase = 0, [0] * len(self.phases)
        for phase, number in self._rounds():
            if done < first:
                steps = steps_of_round(*self._round(phase, number))
                if done + steps <= first:
                    done += steps
                    of_phase[phase] += steps
                    continue
            epoch = number // rounds_per_epoch(self.cohort, self.phases[phase].batch)
            for sample in samples_of_round(*self._round(phase, number)):
                if done >= first:
                    yield Step(done, phase, of_phase[phase], epoch, sample)
                done += 1
                of_phase[phase] += 1

    def _rounds(self) -> Iterator[tuple[int, int]]:
        """Phase and number of each round."""
        lead = self.phases[0]
        end = self.epochs * rounds_per_epoch(self.cohort, lead.batch)
        for cycle in range(-(-end // lead.rounds)):
            for i, phase in enumerate(self.phases):
                numbers = range(cycle * phase.rounds, (cycle + 1) * phase.rounds)
                yield from ((i, n) for n in numbers if i > 0 or n < end)

    def _round(self, phase: int, number: int) -> tuple[Cohort, Unit | Cut, int, int, int]:
        """What describes a round: cohort, unit, batch, seed of the phase, number."""
        how = self.phases[phase]
        if how.cut is not None:
            return self.cohort, how.cut, how.batch, self._seeds[phase], number
        assert how.unit in ("landmark", "patch", "scan"), "other units have a cut"
        return self.cohort, how.unit, how.batch, self._seeds[phase], number

    @cached_property
    def _seeds(self) -> list[int]:
        """Of each phase."""
        numbers = range(len(self.phases))
        return [int(np.random.SeedSequence([self.seed, i]).generate_state(1)[0]) for i in numbers]


def cosine(start: float, step: int, total: int) -> float:
    """The learning rate of one step: from `start` along half a cosine toward 0, never up again.

    Source: paper supplement and batmanlab/Context_Aware_SSL@6fa7acb, which let the graph's rate rise
    again; ours ends with the phase.
    """
    return start * (1 + math.cos(math.pi * min(step, total) / total)) / 2
