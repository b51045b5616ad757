"""Which device a job computes on, and whose turn it is on a GPU."""

import fcntl
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch

from ctssl.errors import ConfigError
from ctssl.log import tell

WAIT_S = 2.0
"""Pause between two looks for a free GPU."""


def pick_device(name: str) -> torch.device:
    """The device kind: `cuda`, `cpu`, or `auto`, a GPU if there is one.

    Raises:
        ConfigError: cuda was asked for and there is none, or there is no such name.
    """
    if name not in ("cuda", "cpu", "auto"):
        raise ConfigError(f"a device is cuda, cpu or auto, but this is {name!r}", "correct the configuration")
    there = torch.cuda.is_available()
    if name == "cuda" and not there:
        raise ConfigError(
            "pretraining.device is cuda, but torch sees no GPU here",
            "run where a GPU is (and with a torch build for it), or set pretraining.device: cpu",
        )
    return torch.device("cuda" if there and name != "cpu" else "cpu")


def exact_float32() -> None:
    """Nothing; from here on this process computes float32 on a GPU in float32, not in TF32."""
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


@contextmanager
def claim(name: str) -> Iterator[torch.device]:
    """The device to compute on; a GPU is this job's alone until the block ends.

    Under SLURM the scheduler has chosen already, under torchrun the process that started it; both say so in
    CUDA_VISIBLE_DEVICES.
    """
    device = pick_device(name)
    if device.type == "cpu":
        yield device
    elif "LOCAL_RANK" in os.environ:
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
        yield device
    elif "SLURM_JOB_ID" in os.environ:
        yield torch.device("cuda", 0)
    else:
        with gpu_slots(_uuids(), slot_folder(), 1) as (index,):
            torch.cuda.set_device(index)
            yield torch.device("cuda", index)


@contextmanager
def claim_several(name: str, count: int) -> Iterator[dict[str, str]]:
    """The environment that tells `count` processes their GPUs, which are theirs until the block ends.

    This process uses none of them.

    Raises:
        ConfigError: there are fewer GPUs.
    """
    device = pick_device(name)
    if device.type == "cpu" or "SLURM_JOB_ID" in os.environ:
        yield {}
        return
    with gpu_slots(_uuids_from_outside(), slot_folder(), count) as indices:
        seen = os.environ.get("CUDA_VISIBLE_DEVICES")
        names = seen.split(",") if seen else [str(i) for i in range(torch.cuda.device_count())]
        yield {"CUDA_VISIBLE_DEVICES": ",".join(names[i] for i in indices)}


def slot_folder() -> Path:
    """Where this user's jobs on this machine lock their GPUs."""
    return Path(tempfile.gettempdir()) / f"ctssl-gpus-{os.getuid()}"


def _uuids() -> list[str]:
    return [str(torch.cuda.get_device_properties(i).uuid) for i in range(torch.cuda.device_count())]


def _uuids_from_outside() -> list[str]:
    """`_uuids` by a process of its own: who asks takes memory on a GPU, which the one that starts others
    would hold as long as they live.
    """
    ask = "from ctssl.train.device import _uuids; print(*_uuids())"
    done = subprocess.run([sys.executable, "-c", ask], stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.split()


@contextmanager
def gpu_slots(uuids: Sequence[str], folder: Path, count: int) -> Iterator[list[int]]:
    """The indices of `count` GPUs that no other job of this user holds; waits until so many are free at once.

    The kernel frees a lock when its process dies, however that happens.

    Raises:
        ConfigError: there are fewer GPUs.
    """
    if count > len(uuids):
        raise ConfigError(
            f"{count} GPUs are asked for, but {len(uuids)} are here",
            "lower pretraining.devices, or run where more GPUs are",
        )
    folder.mkdir(parents=True, exist_ok=True)
    told = False
    while True:
        with ExitStack() as held:
            taken: list[int] = []
            for index, uuid in enumerate(uuids):
                if len(taken) < count and _locked(held, folder / f"{uuid}.lock"):
                    taken.append(index)
            if len(taken) == count:
                yield taken
                return
            # fewer are given back: two jobs that each wait for the other's would wait for ever
        if not told:
            tell(f"{len(taken)} of {len(uuids)} GPUs are free and {count} are needed; waiting")
        told = True
        time.sleep(WAIT_S)


def _locked(held: ExitStack, path: Path) -> bool:
    """Whether the lock was free; it is held now."""
    file = held.enter_context(path.open("w"))
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
