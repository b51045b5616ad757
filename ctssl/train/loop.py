"""The training loop of every method; it names none of them."""

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from math import prod
from types import FrameType
from typing import Any

import torch

from ctssl.config.methods import MethodOptions
from ctssl.errors import ConfigError, WeightsError
from ctssl.log import Progress
from ctssl.methods import Phase
from ctssl.networks.batchnorm import settle
from ctssl.train import checkpoint, weights
from ctssl.train.batches import patch_bytes, prefetched
from ctssl.train.board import EVENTS, board
from ctssl.train.collapse import CollapseWatch
from ctssl.train.device import claim, exact_float32
from ctssl.train.history import LINES, History, write_csv
from ctssl.train.job import PretrainJob
from ctssl.train.meter import Meter
from ctssl.train.schedule import Plan, Step, cosine
from ctssl.train.step import Load, Loader, Stepper
from ctssl.train.team import Team, gather_team

__all__ = ["PretrainJob", "pretrain"]

CHECKPOINTS = "checkpoints"


def pretrain(job: PretrainJob) -> None:
    """Train, or go on where an interrupted training stopped; model.safetensors is written last.

    A training that was finished before is not done again: its weights are written anew. Under torchrun every
    process calls this with the same job, and the first one writes. After SIGTERM the step is finished, a
    checkpoint written, and SystemExit raised.

    Raises:
        CohortError: there are fewer than two subjects with at least two valid landmarks.
        ConfigError: there are more devices than batch norm groups.
        CtsslError: the loss is no longer a number.
    """
    torch.set_num_threads(job.pretraining.threads)
    if job.pretraining.precision == "fp32":
        exact_float32()
    with claim(job.pretraining.device) as device, gather_team(device) as team:
        training = _Training(job, device, team)
        training.run()
        if team.leads:
            training.write()


class _Training:
    """The state of one training: method, optimisers, number of finished steps, history."""

    def __init__(self, job: PretrainJob, device: torch.device, team: Team) -> None:
        self.job, self.device, self.team = job, device, team
        self.folder = job.out / CHECKPOINTS
        self.fingerprint = job.fingerprint()
        self.stores, self.cohort = job.usable(team.tell)
        options, machine = job.run.options, job.pretraining
        for remark in options.remarks(len(self.stores)):
            team.tell(f"pretrain {job.run.name}: {remark}")
        torch.manual_seed(job.seed)
        self.method = job.build()
        self.method.to(device, memory_format=torch.channels_last_3d)
        if machine.compile_networks:
            for network in self.method.networks():
                network.compile()
        self.phases: list[Phase] = self.method.phases()
        for phase in self.phases:
            if team.size > phase.groups:
                raise ConfigError(
                    f"{team.size} devices share {phase.groups} batch norm groups of phase {phase.name}",
                    "raise options.bn_groups, which changes results, or use fewer devices",
                )
        for remark in _idle_passes(self.phases, machine.passes, team.size):
            team.tell(f"pretrain {job.run.name}: {remark}")
        self.plan = Plan(self.phases, self.cohort, options.epochs, job.seed)
        self.totals = self.plan.totals()
        self.optimisers = [_optimiser(phase, options) for phase in self.phases]
        bf16 = machine.precision == "bf16"
        self.step = Stepper(self.method, self.optimisers, options, team=team, bf16=bf16)
        pinned = device.type == "cuda"
        self.load = Loader(
            self.stores,
            self.cohort,
            self.phases,
            job.seed,
            team,
            machine.passes,
            pinned=pinned,
            boxes=job.boxes_of(self.stores),
            cache=job.cache,
        )
        self.held = job.held(self.method, self.cohort, team)
        self.done = self.history_bytes = 0

    def run(self) -> None:
        """All steps that are left, with checkpoints."""
        if self._resume() or self._enough():
            return
        what, total = f"pretrain {self.job.run.name}", sum(self.totals)
        every, meter = self.job.pretraining.checkpoint_steps, Meter(self.device)
        collapse = CollapseWatch(lambda words: self.team.tell(f"{what}: {words}"), self.job.run.options)
        with (
            _Sigterm() as sigterm,
            Progress(what, total, "steps", done=self.done) as progress,
            self._record() as record,
        ):
            ahead = prefetched(self.plan.steps(self.done), self.load, self._bytes)
            for step, load in meter.timed(ahead):
                row = self._row(step, load)
                self.done += 1
                if self.held is not None:
                    row |= self.held.after(step, self._settle)
                stop = self.team.any(sigterm.came, self.device)
                if record is not None:
                    record.add(row)
                    collapse.saw(row)
                    meter.count(_patches(step))
                    progress.advance(note=f"{row['phase']} loss {row['loss']:.3f}, {meter}")
                    if stop or self.done % every == 0:
                        self._save(record.flushed())
                if stop:
                    self.team.wait()  # for the checkpoint: torchrun ends all soon after one has ended
                    self.team.tell(
                        f"{what}: stopped by SIGTERM after step {self.done}; run it again to go on"
                    )
                    raise SystemExit(128 + signal.SIGTERM)
                if self._enough():
                    self.team.tell(f"{what}: stopped after step {self.done}, as its scans held out get worse")
                    break
            if record is not None:
                self.history_bytes = record.flushed()

    def _settle(self, steps: int) -> None:
        """The running statistics of batch norm become those of so many last steps, with these weights."""
        last = islice(self.plan.steps(self.done - steps), steps)
        for step, load in prefetched(last, self.load, self._bytes):
            self.step.look(step, load)
        settle(self.method, self.team.summed, momentum=1.0)

    def _enough(self) -> bool:
        """Whether the scans that are held out say so."""
        return self.held is not None and self.held.enough()

    @contextmanager
    def _record(self) -> Iterator[History | None]:
        """Where the process that leads writes rows."""
        if not self.team.leads:
            yield None
            return
        with (
            board(self.job.out / EVENTS, self.done) as show,
            History(self.folder, self.history_bytes, show) as history,
        ):
            yield history

    def _bytes(self, step: Step) -> int:
        """Of a step's samples in memory."""
        cut = self.phases[step.phase].cut
        if cut is None:
            return patch_bytes(self.stores, step.sample)
        return _patches(step) * prod(cut.extent) * 2  # int16

    def _row(self, step: Step, load: Load) -> dict[str, Any]:
        """One optimiser step; returns its row of the history."""
        rate = cosine(self.job.run.options.learning_rate, step.of_phase, self.totals[step.phase])
        terms = self.step(step, load, rate)
        used = self.optimisers[step.phase].param_groups[0]["lr"]
        row = {"step": step.number, "phase": self.phases[step.phase].name, "learning_rate": used}
        return {**row, "loss": terms.pop("total"), **terms}

    def write(self) -> None:
        """history.csv, model.json, model.safetensors, in this order; checkpoints go before.

        What they are made from stays: a kill at any moment, this job's last included, costs no step.
        """
        state = {"fingerprint": self.fingerprint, "done": self.done}
        state["query"], state["history_bytes"] = self.method.query.state_dict(), self.history_bytes
        checkpoint.finish(self.folder, state)
        write_csv(self.folder, self.job.out / "history.csv")
        steps = self.totals if self.held is None else [self.done]  # it may have stopped early
        weights.save(self.job.out, self.method.query, self.job.card(self.cohort, steps))

    def _save(self, history_bytes: int) -> None:
        state = {
            "fingerprint": self.fingerprint,
            "done": self.done,
            "method": self.method.state_dict(),
            "optimisers": [o.state_dict() for o in self.optimisers],
            "history_bytes": history_bytes,
        }
        checkpoint.save(self.folder, self.done, state, keep=self.job.pretraining.checkpoints)

    def _resume(self) -> bool:
        """Whether this very training is finished; else its latest checkpoint is taken up.

        All randomness follows from the step.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.team.leads:
            checkpoint.sweep(self.folder)
        state = checkpoint.load(self.folder, self.fingerprint, self.team.say)
        self._agree(str(state["done"] if state else 0))
        if state is None:
            if self.team.leads:
                checkpoint.clear(self.folder)
            return False
        self.done, self.history_bytes = state["done"], state["history_bytes"]
        lines = self.folder / LINES
        if not lines.is_file() or lines.stat().st_size < self.history_bytes:
            raise WeightsError(
                f"{lines} lacks lines of the steps before the checkpoint",
                f"put it back, or delete {self.folder} and train anew",
            )
        if "query" in state:
            self.method.query.load_state_dict(state["query"])
            self.team.tell(f"this training is finished; its weights are written again, from {self.folder}")
            return True
        self.method.load_state_dict(state["method"])
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        self.team.say(f"going on after step {self.done} of {sum(self.totals)}")
        return False

    def _agree(self, here: str) -> None:
        """Nothing, when all processes found the checkpoint of the same step, and all have read it."""
        [leader] = self.team.first([here], everyone=False)
        self.team.wait()
        if here != leader:
            raise WeightsError(
                f"process {self.team.rank} finds the checkpoint of step {here} in {self.folder}, "
                f"the first process that of step {leader}",
                "let all nodes see one file system",
            )


def _patches(step: Step) -> int:
    return len(step.sample.scans)


def _idle_passes(phases: Sequence[Phase], passes: int, devices: int) -> Iterator[str]:
    """Says of which phases a device's share falls into fewer passes than asked for."""
    for phase in phases:
        groups = -(-phase.groups // devices)
        if passes > groups:
            yield (
                f"phase {phase.name} is done in {groups} of the {passes} passes asked for: a device has "
                f"{groups} whole batch norm groups of it; options.bn_groups, which changes results, sets them"
            )


def _optimiser(phase: Phase, options: MethodOptions) -> torch.optim.Optimizer:
    """What moves a phase's parameters."""
    if options.optimiser == "adam":
        return torch.optim.Adam(
            phase.parameters,
            lr=options.learning_rate,
            betas=(options.sgd_momentum, 0.999),
            weight_decay=options.weight_decay,
        )
    return torch.optim.SGD(
        phase.parameters,
        lr=options.learning_rate,
        momentum=options.sgd_momentum,
        weight_decay=options.weight_decay,
    )


class _Sigterm:
    """Whether SIGTERM came in this block; outside the main thread, where Python forbids it, never."""

    def __init__(self) -> None:
        self.came = False

    def __enter__(self) -> "_Sigterm":
        self._main = threading.current_thread() is threading.main_thread()
        if self._main:
            self._before = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(self, *error: object) -> None:
        if self._main:
            signal.signal(signal.SIGTERM, self._before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.came = True
