"""The training loop of every self-supervised method; it names none of them."""

import json
import math
import os
import signal
import threading
from types import FrameType
from typing import Any

import numpy as np
import torch

from ctssl.errors import CtsslError, WeightsError
from ctssl.log import Progress, say, tell
from ctssl.methods import load_method
from ctssl.train import checkpoint, weights
from ctssl.train.batches import prefetched, read_batch
from ctssl.train.device import claim, exact_float32
from ctssl.train.job import PretrainJob
from ctssl.train.schedule import Plan, Step, cosine

__all__ = ["PretrainJob", "pretrain"]

CHECKPOINTS = "checkpoints"
HISTORY = "history.jsonl"
"""Inside the folder of checkpoints, until the training ends and it becomes history.csv."""


def pretrain(job: PretrainJob) -> None:
    """Train, or go on where an interrupted training stopped; model.safetensors is written last.

    After SIGTERM the step is finished, a checkpoint written, and SystemExit raised.

    Raises:
        CohortError: there are fewer than two subjects with at least two valid landmarks.
        CtsslError: the loss is no longer a number.
    """
    torch.set_num_threads(job.pretraining.threads)
    if job.pretraining.precision == "fp32":
        exact_float32()
    with claim(job.pretraining.device) as device:
        training = _Training(job, device)
        training.run()
        training.write()


class _Training:
    """The state of one training: method, optimisers, number of finished steps, history."""

    def __init__(self, job: PretrainJob, device: torch.device) -> None:
        self.job, self.device = job, device
        self.folder = job.out / CHECKPOINTS
        self.fingerprint = job.fingerprint()
        self.stores, self.cohort = job.usable()
        options = job.run.options
        for remark in options.remarks(len(self.stores)):
            tell(f"pretrain {job.run.name}: {remark}")
        torch.manual_seed(job.seed)
        self.method = load_method(job.run.method).build(options, job.atlas)
        self.method.to(device, memory_format=torch.channels_last_3d)
        self.phases = self.method.phases()
        self.plan = Plan(self.phases, self.cohort, options.epochs, job.seed)
        self.totals = self.plan.totals()
        self.optimisers = [
            torch.optim.SGD(
                phase.parameters,
                lr=options.learning_rate,
                momentum=options.sgd_momentum,
                weight_decay=options.weight_decay,
            )
            for phase in self.phases
        ]
        self.done = 0

    def run(self) -> None:
        """All steps that are left, with checkpoints."""
        self._resume()
        total, every = sum(self.totals), self.job.pretraining.checkpoint_steps
        what = f"pretrain {self.job.run.name}"
        with (
            _Sigterm() as sigterm,
            Progress(what, total, "steps", done=self.done) as progress,
            (self.folder / HISTORY).open("a") as history,
        ):
            for step, batch in prefetched(self.plan.steps(self.done), self._read):
                row = self._step(step, batch.to(self.device))
                history.write(json.dumps(row) + "\n")
                self.done += 1
                progress.advance(note=f"{row['phase']} loss {row['loss']:.3f}")
                if self.done % every == 0 or sigterm.came:
                    history.flush()
                    os.fsync(history.fileno())  # a checkpoint counts on its lines
                    self._save()
                if sigterm.came:
                    tell(f"{what}: stopped by SIGTERM after step {self.done}; run it again to go on")
                    raise SystemExit(128 + signal.SIGTERM)

    def write(self) -> None:
        """history.csv, model.json, model.safetensors, in this order; checkpoints go."""
        import pandas as pd

        history = self.folder / HISTORY
        rows = [json.loads(line) for line in history.read_text().splitlines()]
        pd.DataFrame(rows).to_csv(self.job.out / "history.csv", index=False)
        weights.save(self.job.out, self.method.query, self.job.card(self.cohort, self.totals))
        checkpoint.clear(self.folder)
        history.unlink()

    def _read(self, step: Step) -> Any:
        graph = self.phases[step.phase].unit == "scan"
        return read_batch(self.stores, self.cohort, step.sample, graph=graph)

    def _step(self, step: Step, batch: Any) -> dict[str, Any]:
        """One optimiser step; returns its row of the history."""
        options, phase, optimiser = self.job.run.options, self.phases[step.phase], self.optimisers[step.phase]
        rate = cosine(options.learning_rate, step.of_phase, self.totals[step.phase])
        optimiser.param_groups[0]["lr"] = rate
        rng = np.random.default_rng([self.job.seed, step.number, 2])
        low = self.job.pretraining.precision == "bf16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=low):
            losses = phase.loss(batch, rng)
        terms = {name: float(value.detach()) for name, value in losses.items()}
        if not math.isfinite(terms["total"]):
            raise CtsslError(
                f"the {phase.name} loss is {terms['total']} at step {step.number} (learning rate {rate:.3g})",
                "use a smaller options.learning_rate for this run, or pretraining.precision: fp32",
            )
        optimiser.zero_grad(set_to_none=True)
        losses["total"].backward()
        optimiser.step()
        self.method.after_step(phase)
        loss = terms.pop("total")
        used = optimiser.param_groups[0]["lr"]
        return {"step": step.number, "phase": phase.name, "learning_rate": used, "loss": loss, **terms}

    def _save(self) -> None:
        state = {
            "fingerprint": self.fingerprint,
            "done": self.done,
            "method": self.method.state_dict(),
            "optimisers": [o.state_dict() for o in self.optimisers],
            "history_bytes": (self.folder / HISTORY).stat().st_size,
        }
        checkpoint.save(self.folder, self.done, state)

    def _resume(self) -> None:
        """Take up the latest checkpoint of this very training; all randomness follows from the step."""
        self.folder.mkdir(parents=True, exist_ok=True)
        state = checkpoint.load(self.folder, self.fingerprint)
        if state is None:
            checkpoint.clear(self.folder)
            (self.folder / HISTORY).write_text("")
            return
        self.method.load_state_dict(state["method"])
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        self.done = state["done"]
        history = self.folder / HISTORY
        if not history.is_file() or history.stat().st_size < state["history_bytes"]:
            raise WeightsError(
                f"{history} lacks lines of the steps before the checkpoint",
                f"put it back, or delete {self.folder} and train anew",
            )
        with history.open("r+") as file:
            file.truncate(state["history_bytes"])
        say(f"going on after step {self.done} of {sum(self.totals)}")


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
