"""Which device a job computes on, and whose turn it is on a GPU."""

import fcntl
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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

    Under SLURM the scheduler has chosen already, and CUDA_VISIBLE_DEVICES says so.
    """
    device = pick_device(name)
    if device.type == "cpu":
        yield device
    elif "SLURM_JOB_ID" in os.environ:
        yield torch.device("cuda", 0)
    else:
        uuids = [str(torch.cuda.get_device_properties(i).uuid) for i in range(torch.cuda.device_count())]
        with gpu_slot(uuids, Path(tempfile.gettempdir()) / f"ctssl-gpus-{os.getuid()}") as index:
            torch.cuda.set_device(index)
            yield torch.device("cuda", index)


@contextmanager
def gpu_slot(uuids: Sequence[str], folder: Path) -> Iterator[int]:
    """The index of a GPU that no other job of this user holds; waits for one.

    The kernel frees the lock when its process dies, however that happens.
    """
    folder.mkdir(parents=True, exist_ok=True)
    told = False
    while True:
        for index, uuid in enumerate(uuids):
            with (folder / f"{uuid}.lock").open("w") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                yield index
                return
        if not told:
            tell(f"all {len(uuids)} GPUs are taken by other jobs; waiting")
        told = True
        time.sleep(WAIT_S)
