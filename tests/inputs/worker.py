"""Runs the stage `volume` of one row after another, as a job of the workflow does, and says what came of it.

A row is a line of JSON on stdin, its outcome a line on stdout. This is a process of its own, because jobs
fork, and threads of pytest's process would not survive that. Libraries are imported first, so that a fork
has them; the environment must say that they start no threads.
"""

import ctypes
import json
import os
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path

import nibabel  # noqa: F401
import pydicom  # noqa: F401
import SimpleITK  # noqa: F401

from ctssl.errors import CtsslError
from ctssl.jobs.scan import ScanJob, volume
from ctssl.jobs.supervise import Limits
from ctssl.manifest import stamp
from ctssl.prepare import chest  # noqa: F401
from ctssl.prepare.machine import Machine
from ctssl.recipes import RECIPES

LIMITS = Limits(time_s=20, memory_mb=1500)
MAX_VOXELS = 100_000_000
_READ_ALL = (1, 2)  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH


def settings_of(row: dict) -> str:
    image, mask = row["image"], row["mask"]
    return json.dumps(
        {
            "stage": "volume",
            "recipe": RECIPES["volume"],
            "image": image,
            "image_stamp": stamp(Path(image)),
            "series_uid": row["series_uid"],
            "mask_image": mask,
            "mask_stamp": stamp(Path(mask)) if mask else None,
            "exclude": False,
            "exclude_reason": None,
            "volume": {"hu_min": -1024, "hu_max": 3071},
            "mask": {"method": "threshold", "min_lung_l": 0.3},
        }
    )


def outcome(row: dict, atlas: Path) -> dict:
    out = Path(row["out"])
    start = time.monotonic()
    job = ScanJob("volume", "anna", settings_of(row), out, atlas, LIMITS, last_attempt=False)
    fault = None
    try:
        with redirect_stdout(sys.stderr):
            volume(job, Machine(MAX_VOXELS))
    except CtsslError as error:
        fault = f"{type(error).__name__}: {error}"
    status = out / "status.json"
    return {
        "fault": fault,
        "status": json.loads(status.read_text()) if status.exists() else None,
        "files": sorted(path.name for path in out.iterdir()),
        "seconds": time.monotonic() - start,
    }


def become_like_others() -> None:
    """Nothing; root without its right to read what no permission lets it read."""
    if os.geteuid() != 0 or not sys.platform.startswith("linux"):
        return
    header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.capget(header, data) == 0
    for bit in _READ_ALL:
        data[0] &= ~(1 << bit)  # of the effective ones
    assert libc.capset(header, data) == 0


if __name__ == "__main__":
    become_like_others()
    for line in sys.stdin:
        print(json.dumps(outcome(json.loads(line), Path(sys.argv[1]))), flush=True)
