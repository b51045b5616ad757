"""What each method costs: seconds a step, a thousand samples and a scan, memory, parameters."""

import multiprocessing
import os
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from ctssl.cohorts.phantom.oracle import OraclePlan, write_oracle
from ctssl.config.methods import OPTIONS
from ctssl.evaluate.features import embed_scan
from ctssl.methods import load_method
from ctssl.prepare.atlas import read_atlas
from ctssl.store.boxes import Box, open_box
from ctssl.store.reader import Store, open_stores
from ctssl.train.batches import Cohort, prefetched
from ctssl.train.device import pick_device
from ctssl.train.host import keep_memory
from ctssl.train.labels import Task
from ctssl.train.meter import Meter
from ctssl.train.schedule import Plan
from ctssl.train.step import Loader, Stepper
from ctssl.train.team import Team

RATE = 1e-4
"""Nothing is to be learnt: weights stay where numbers are harmless."""

PHANTOMS = 8
"""Scans that are made; a larger cohort meets them again and again."""

Device = Literal["cpu", "cuda"]


def bench_methods(
    device: Device, names: Sequence[str], scans: int, steps: int, passes: int
) -> dict[str, Any]:
    """What each method costs with its default options, but for batches that are no larger than the cohort.

    Phases are timed one by one, in whole steps: reading, augmentation, networks in bfloat16, optimiser. A
    sample is what the phase's unit says: a patch, a scan with all its patches, a crop, a volume. Embedding is
    timed on one scan, in float32. Each method runs in a process of its own, whose memory is told; phantoms
    have an atlas of 2 mm.

    Args:
        device: of the networks.
        names: keys of OPTIONS.
        scans: of the cohort.
        steps: measured of each phase, after one that is not.
        passes: parts of a step, at most as many as it has batch norm groups; less memory.
    """
    # spawned: tensorstore must not be forked, and memory is told of a process that held nothing else
    fresh = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        write_oracle(Path(folder), OraclePlan(min(PHANTOMS, scans), seed=7, boxes=True))
        with ProcessPoolExecutor(1, mp_context=fresh, max_tasks_per_child=1) as processes:
            given = (folder, device, scans, steps, passes)
            found = {name: processes.submit(_method, name, *given).result() for name in names}
    return {
        "methods": found,
        "scans": scans,
        "steps": steps,
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "torch_threads": torch.get_num_threads(),
        "cpus": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 1),
    }


def _method(name: str, folder: str, device: Device, scans: int, steps: int, passes: int) -> dict[str, Any]:
    """The numbers of one method."""
    keep_memory()
    torch.manual_seed(0)
    bench = _Bench(Path(folder), pick_device(device), scans)
    options = OPTIONS[name]()
    embedder = load_method(name).embedder(options, len(bench.atlas.landmarks_mm))
    return {
        "parameters": sum(p.numel() for p in embedder.parameters()),
        **bench.embedding(embedder),
        "phases": {} if options.frozen else bench.training(name, options, steps, passes),
        "passes": passes,
        "peak_memory_mb": round(Meter(bench.device).numbers()["peak_memory_mb"]),
    }


class _Bench:
    """A cohort of phantoms, and what is timed on it."""

    def __init__(self, folder: Path, device: torch.device, scans: int) -> None:
        self.device, self.atlas = device, read_atlas(folder / "atlas")
        paths = sorted((folder / "stores").iterdir())
        made = open_stores(paths)
        boxes = [open_box(folder / "boxes" / s.scan, scan=s.scan, atlas=self.atlas.id) for s in made]
        again = [number % len(made) for number in range(scans)]
        self.stores: list[Store] = [made[number] for number in again]
        self.boxes: list[Box] = [boxes[number] for number in again]
        cohort = Cohort.of(self.stores, [str(number) for number in range(scans)])
        self.cohort = replace(cohort, targets=np.zeros(scans, np.float32))

    def embedding(self, embedder: Any) -> dict[str, Any]:
        """Features of one scan, and the seconds that they take."""
        embedder = embedder.to(self.device)
        box = self.boxes[0] if hasattr(embedder, "cut") else None
        start = time.perf_counter()
        features = embed_scan(embedder, self.stores[0], self.device, box)  # ends on the CPU
        took = time.perf_counter() - start
        return {"features": len(features), "embed_s_per_scan": round(took, 3)}

    def training(self, name: str, options: Any, steps: int, passes: int) -> dict[str, Any]:
        """Phase -> its unit, batch, seconds a step and a thousand samples, trained parameters."""
        task = [Task()] if options.supervised else []  # a number, which is 0 for all
        method = load_method(name).build(options, self.atlas, *task)
        method.to(device=self.device, memory_format=torch.channels_last_3d)
        phases, team = method.phases(), Team()
        optimisers = [torch.optim.SGD(phase.parameters, lr=RATE, momentum=0.9) for phase in phases]
        stepper = Stepper(method, optimisers, options, team=team, bf16=True)
        pinned = self.device.type == "cuda"
        loader = Loader(self.stores, self.cohort, phases, 0, team, passes, pinned=pinned, boxes=self.boxes)
        plan, found = Plan(phases, self.cohort, options.epochs, 0), {}
        for number, phase in enumerate(phases):
            of_phase = (step for step in plan.steps() if step.phase == number)
            walk = prefetched(islice(of_phase, steps + 1), loader)
            stepper(*next(walk), RATE)
            start, samples = time.perf_counter(), 0
            for step, load in walk:
                stepper(step, load, RATE)  # ends with numbers on the CPU
                samples += len(step.sample.members if phase.unit == "scan" else step.sample.scans)
            took = time.perf_counter() - start
            found[phase.name] = {
                "unit": "patch" if phase.unit == "landmark" else phase.unit,
                "samples_per_step": round(samples / steps, 1),
                "s_per_step": round(took / steps, 3),
                "s_per_1000_samples": round(1000 * took / samples, 2),
                "trained_parameters": sum(p.numel() for p in phase.parameters),
            }
        return found
