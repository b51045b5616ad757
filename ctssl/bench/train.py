"""How many patches a second a training learns from, beside the published recipe on the same machine."""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ctssl.bench import recipe
from ctssl.bench.store import stores_of_phantoms
from ctssl.config.methods import ContextAware as Options
from ctssl.methods.context_aware import ContextAware
from ctssl.prepare.atlas import Atlas
from ctssl.store.reader import Store, open_stores
from ctssl.train.batches import Batch, Cohort, prefetched
from ctssl.train.device import pick_device
from ctssl.train.host import keep_memory
from ctssl.train.meter import Meter
from ctssl.train.schedule import Plan, Step
from ctssl.train.step import Load, Loader, Stepper
from ctssl.train.team import Team

RATE = 0.03
ROUNDS = 3
"""Of each kind; the best of each counts, since a shared machine only takes away."""


def bench_train(
    device: Literal["cpu", "cuda"], scans: int, steps: int, *, batch: int = 128, compiled: bool = False
) -> dict[str, Any]:
    """Patches a second of the patch phase: whole steps, steps without reading and augmentation, the recipe.

    A step reads a batch of one landmark across scans, makes two views of each patch, and trains the encoder
    by bfloat16. The recipe augments patch after patch on the CPU and steps in float32; both see each patch
    once. Warm-up steps are not counted. The recipe is timed in memory as the system gives it, and once more
    after freed memory is kept, as ours does.

    Args:
        device: of the steps; the recipe's transforms run on the CPU, as published.
        scans: phantoms' stores that are made in a temporary folder.
        steps: measured of each kind in a round; of the recipe a tenth.
        batch: patches of a step.
        compiled: whether networks are compiled.
    """
    where = pick_device(device)
    with tempfile.TemporaryDirectory() as folder:
        bench = _Bench(open_stores(stores_of_phantoms(Path(folder), scans)), where, batch, compiled)
        slow = bench.best_recipe(steps)  # in memory as the system gives it, as published
        keep_memory()
        kept = bench.best_recipe(steps)
        rounds = [(bench.whole(steps), bench.alone(steps)) for _ in range(ROUNDS)]
        whole, meter = max((of_whole for of_whole, _ in rounds), key=lambda found: found[0])
        alone = max(of_alone for _, of_alone in rounds)
        return {
            "patches_per_s": round(whole, 1),
            "step_only_patches_per_s": round(alone, 1),
            "recipe_patches_per_s": round(slow, 2),
            "recipe_with_kept_memory_patches_per_s": round(kept, 2),
            "times_recipe": round(whole / slow, 2),
            "loading_and_augmentation_fraction": round(1 - whole / alone, 3),
            "loader_wait_fraction": round(meter["loader_wait_fraction"], 4),
            "peak_memory_mb": round(meter["peak_memory_mb"]),
            "device": torch.cuda.get_device_name(where) if where.type == "cuda" else "cpu",
            "batch": batch,
            "steps": steps,
            "scans": scans,
            "torch_threads": torch.get_num_threads(),
            "cpus": os.cpu_count(),
            "load_average": round(os.getloadavg()[0], 1),
        }


class _Bench:
    """A training of the patch phase alone, whose steps are timed."""

    def __init__(self, stores: list[Store], device: torch.device, batch: int, compiled: bool) -> None:
        self.stores, self.device = stores, device
        self.options = Options(graph=False, patch_batch=min(batch, len(stores)), epochs=1000)
        self.compiled = compiled
        self.cohort = Cohort.of(stores, [store.scan for store in stores])

    def whole(self, steps: int) -> tuple[float, dict[str, float]]:
        """Patches a second of steps as a training does them, and what its meter says."""
        stepper, loader, plan = self._training(self.options)
        walk = prefetched(islice(plan.steps(), steps + 3), loader)
        for step, load in islice(walk, 3):
            stepper(step, load, RATE)
        meter = Meter(self.device)
        for step, load in meter.timed(walk):
            stepper(step, load, RATE)
            meter.count(len(step.sample.scans))
        self._wait()
        numbers = meter.numbers()
        return numbers["patches_per_s"], numbers

    def alone(self, steps: int) -> float:
        """Patches a second of steps on patches that are there, neither augmented nor clipped."""
        nothing = self.options.augment.model_copy(update={"steps": ()})
        still = self.options.model_copy(update={"augment": nothing})
        stepper, loader, plan = self._training(still)
        loads = [(step, loader(step).to(self.device)) for step in islice(plan.steps(), 8)]
        return self._rate(lambda step, load: stepper(step, load, RATE), cycle(loads), steps)

    def best_recipe(self, steps: int) -> float:
        """Patches a second of the recipe, the best of some rounds of a tenth of the steps, two at least."""
        return max(self.recipe(max(2, steps // 10)) for _ in range(ROUNDS))

    def recipe(self, steps: int) -> float:
        """Patches a second of the published recipe: view after view, float32, torch's own memory order."""
        o = self.options.model_copy(update={"bn_groups": 1})  # that of one device, without copies
        stepper, loader, plan = self._training(o, published=True)

        def view(batch: Batch, number: int) -> Tensor:
            views = [recipe.augmented(patch, o.hu_min, o.hu_max) for patch in batch.patches.cpu()]
            return torch.cat(views).to(batch.patches.device)

        stepper.method._view = view
        walk = ((step, loader(step)) for step in plan.steps())
        return self._rate(lambda step, load: stepper(step, load, RATE), walk, steps, warm=1)

    def _training(self, options: Options, *, published: bool = False) -> tuple[Stepper, Loader, Plan]:
        """A fresh training with these options."""
        torch.manual_seed(0)
        method = ContextAware.build(options, _atlas(self.stores[0]))
        order = torch.contiguous_format if published else torch.channels_last_3d
        method.to(device=self.device)
        method.to(memory_format=order)  # type: ignore[call-overload]
        if self.compiled and not published:
            for network in method.networks():
                network.compile()
        phases = method.phases()
        optimiser = torch.optim.SGD(phases[0].parameters, lr=RATE, momentum=0.9, weight_decay=1e-4)
        stepper = Stepper(method, [optimiser], options, team=Team(), bf16=not published)
        pinned = self.device.type == "cuda"
        loader = Loader(self.stores, self.cohort, phases, 0, Team(), 1, pinned=pinned)
        return stepper, loader, Plan(phases, self.cohort, options.epochs, 0)

    def _rate(
        self, do: Callable[[Step, Load], Any], walk: Iterator[tuple[Step, Load]], steps: int, *, warm: int = 3
    ) -> float:
        """Patches a second of so many steps, after some that do not count."""
        for step, load in islice(walk, warm):
            do(step, load)
        self._wait()
        start, patches = time.perf_counter(), 0
        for step, load in islice(walk, steps):
            do(step, load)
            patches += len(step.sample.scans)
        self._wait()
        return patches / (time.perf_counter() - start)

    def _wait(self) -> None:
        """Until the device has done what it was told."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def _atlas(store: Store) -> Atlas:
    """An atlas with the store's landmarks: nothing but their coordinates is asked for."""
    return Atlas("bench", "LPS", 1.0, 26.0, store.landmarks_mm, np.empty((0, 2), np.int64))
