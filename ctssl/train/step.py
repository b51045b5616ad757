"""One optimiser step of any method, shared out over passes and devices."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ctssl.config.methods import MethodOptions
from ctssl.errors import CtsslError
from ctssl.methods import Made, Phase
from ctssl.methods.contrast import spread
from ctssl.networks.batchnorm import settle
from ctssl.store.boxes import Box
from ctssl.store.reader import Store
from ctssl.train.batches import Batch, Cohort, Pick, Sample, read_batch, with_tensors
from ctssl.train.cuts import read_cuts
from ctssl.train.neighbours import with_neighbours
from ctssl.train.parts import Part, Shares, needed, share
from ctssl.train.schedule import Step
from ctssl.train.team import Team


@dataclass(frozen=True)
class Load:
    """What one device needs for one step.

    Attributes:
        shares: who computes what.
        batch: the scans that this device's parts use.
        picks: what of it each of these parts uses.
        subjects: (B,) long, the subject of every member of the sample.
        order: (B,) long, members in the order of the keys' groups.
        landmark: that of the whole sample; 0 of whole scans.
    """

    shares: Shares
    batch: Batch
    picks: dict[tuple[bytes, tuple[int, ...]], Pick]
    subjects: Tensor
    order: Tensor
    landmark: int

    def of(self, part: Part) -> Batch:
        """The batch of a part."""
        return self.batch.picked(self.picks[_name(part)])

    def to(self, device: torch.device) -> "Load":
        """The same on a device."""
        return self._with(lambda tensor: tensor.to(device, non_blocking=True))

    def pinned(self) -> "Load":
        """The same in memory from which copies to a GPU overlap with its work."""
        return self._with(Tensor.pin_memory)

    def _with(self, change: Callable[[Tensor], Tensor]) -> "Load":
        return replace(
            self,
            batch=with_tensors(self.batch, change),
            picks={name: with_tensors(pick, change) for name, pick in self.picks.items()},
            subjects=change(self.subjects),
            order=change(self.order),
        )


def _name(part: Part) -> tuple[bytes, tuple[int, ...]]:
    return part.places.tobytes(), part.groups


@dataclass(frozen=True)
class Loader:
    """Reads what a step needs here; safe in several threads.

    Attributes:
        stores: of the cohort's scans.
        cohort: the scans.
        phases: the method's.
        seed: of the training.
        team: whose member this is.
        passes: parts that a device makes of its share.
        pinned: whether memory is made ready for a fast way to a GPU.
        boxes: of the cohort's scans, for phases whose samples are cut from them.
        cache: folder of whole volumes on other voxels.
    """

    stores: Sequence[Store]
    cohort: Cohort
    phases: Sequence[Phase]
    seed: int
    team: Team
    passes: int
    pinned: bool
    boxes: Sequence[Box] = ()
    cache: Path | None = None

    def __call__(self, step: Step) -> Load:
        """The load of a step, on the CPU."""
        phase, sample = self.phases[step.phase], step.sample
        members = len(sample.members)
        order = np.random.default_rng([self.seed, step.number, 2]).permutation(members)
        shares = share(members, phase.groups, order, self.team.size, self.passes)
        rank = self.team.rank
        parts = shares.queries[rank] + shares.keys[rank]
        landmark = int(sample.landmarks[0]) if phase.unit == "landmark" else None
        part = needed(sample, parts)
        if phase.neighbours is not None:
            part = with_neighbours(self.cohort, part, phase.neighbours[landmark])
        batch = self._read(part, step)
        batch = replace(batch.drawn(part, self.seed, step.phase, step.epoch), landmark=landmark)
        if self.cohort.targets is not None:
            batch = replace(batch, targets=torch.from_numpy(self.cohort.targets[part.members]))
        places = np.flatnonzero(np.isin(sample.members, part.members))
        picks = {_name(p): batch.pick(np.searchsorted(places, p.places).tolist(), p.groups) for p in parts}
        subjects = torch.from_numpy(self.cohort.subjects[sample.members])
        load = Load(shares, batch, picks, subjects, torch.from_numpy(order), landmark or 0)
        return load.pinned() if self.pinned else load

    def _read(self, part: Sample, step: Step) -> Batch:
        """What a part of a step's sample names, from the stores or from the boxes."""
        phase, draw = self.phases[step.phase], (self.seed, step.phase, step.epoch)
        if phase.cut is None:
            return read_batch(self.stores, self.cohort, part, graph=phase.unit == "scan")
        return read_cuts(self.boxes, self.cohort, part, phase.cut, draw, self.cache, self.stores)


class Stepper:
    """Does steps: keys, losses, gradients, optimiser, momentum.

    Args:
        method: on its device.
        optimisers: one a phase.
        options: of the method.
        team: whose member this is.
        bf16: whether networks compute in bfloat16.
    """

    def __init__(
        self,
        method: Any,
        optimisers: Sequence[torch.optim.Optimizer],
        options: MethodOptions,
        *,
        team: Team,
        bf16: bool,
    ) -> None:
        self.method, self.optimisers, self.options = method, optimisers, options
        self.phases = method.phases()
        self.team, self.bf16 = team, bf16
        self.device = next(method.parameters()).device

    def __call__(self, step: Step, load: Load, rate: float) -> dict[str, float]:
        """The terms of a step, means over its scans, equal on all devices; "total" is the loss.

        `gradient_norm` is that of all the phase's parameters together, before it is clipped.

        Raises:
            CtsslError: the loss, or its gradient, is no number; the weights are as they were.
        """
        phase, optimiser = self.phases[step.phase], self.optimisers[step.phase]
        optimiser.param_groups[0]["lr"] = rate
        optimiser.zero_grad(set_to_none=True)
        load = load.to(self.device)
        made = self._keys(phase, load)
        if made is not None:
            self.method.before_loss(phase, made)
        sums = self._backward(phase, load, made)
        self.team.sum_gradients(phase.parameters)
        limit = math.inf if self.options.clip_norm is None else self.options.clip_norm
        sums["gradient_norm"] = torch.nn.utils.clip_grad_norm_(phase.parameters, limit)
        values = torch.stack([value.float() for value in sums.values()]).tolist()  # a GPU is waited for once
        terms = dict(zip(sums, values, strict=True))
        for name, what in (("total", "loss"), ("gradient_norm", "gradient")):
            if not math.isfinite(terms[name]):
                raise _no_number(f"{phase.name} {what}", step, terms[name], rate)
        optimiser.step()
        settle(self.method, self.team.summed)
        self.method.after_step(phase, made)
        return terms

    @torch.no_grad()
    def look(self, step: Step, load: Load) -> None:
        """Nothing; batch norm notes what it sees in a step, whose phase has no keys, and nothing moves."""
        phase, load = self.phases[step.phase], load.to(self.device)
        for part in load.shares.queries[self.team.rank]:
            with self._precision():
                phase.loss(load.of(part), None)

    def _keys(self, phase: Phase, load: Load) -> Made | None:
        """The keys of all scans of a step, in the order of its sample."""
        if phase.keys is None:
            return None
        with self._precision():
            parts = [phase.keys(load.of(part)) for part in load.shares.keys[self.team.rank]]
        own = torch.cat([*parts, torch.empty(0, phase.key_features, device=self.device)])
        shuffled = self.team.gathered(own, load.shares.counts())
        vectors = torch.empty_like(shuffled)
        vectors[load.order] = shuffled
        return Made(vectors, load.subjects, load.landmark)

    def _backward(self, phase: Phase, load: Load, made: Made | None) -> dict[str, Tensor]:
        """The terms of a step; gradients of this device's parts are there afterwards."""
        total, sums = len(load.subjects), dict[str, Tensor]()
        for part in load.shares.queries[self.team.rank]:
            first, last = int(part.places[0]), int(part.places[-1])  # queries keep the sample's order
            keys = None if made is None else made.vectors[first : last + 1]
            with self._precision():
                terms = phase.loss(load.of(part), keys)
            share = len(part.places) / total
            (terms["total"] * share).backward()
            for name, value in terms.items():
                sums[name] = sums.get(name, 0) + value.detach().float() * share
        names = self.team.first(list(sums), everyone=all(load.shares.queries))
        values = self.team.summed(
            torch.stack([sums.get(n, torch.zeros((), device=self.device)) for n in names])
        )
        terms = dict(zip(names, values.unbind(), strict=True))
        return terms if made is None else terms | spread(made.vectors)

    def _precision(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)


def _no_number(what: str, step: Step, value: float, rate: float) -> CtsslError:
    landmarks = sorted(set(step.sample.landmarks.tolist()))
    where = f"landmark {landmarks[0]}" if len(landmarks) == 1 else f"{len(landmarks)} landmarks"
    return CtsslError(
        f"the {what} is {value} at step {step.number} (learning rate {rate:.3g}): {where} of the "
        f"scans in rows {step.sample.members.tolist()} of scans.txt",
        "use a smaller options.learning_rate or a clip_norm for this run, or pretraining.precision: fp32",
    )
