"""Preparing one scan for a model by the workflow's own jobs: `python -m ctssl.share.scan REQUEST`.

A process of its own: the jobs fork children, which nothing heavy may come before, and a user's process has
imported torch and more.
"""

import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ctssl.errors import CtsslError, MachineFault, ScanError
from ctssl.jobs import boxes, supervise
from ctssl.jobs import scan as jobs
from ctssl.jobs.status import Status
from ctssl.log import redirect, tell
from ctssl.preparation import Preparation
from ctssl.prepare.machine import Machine

REQUEST, FAULT, LOG = "request.json", "fault.json", "log.txt"
VOLUME, REGISTRATION, STORE, BOX, PICTURE = "volume", "registration", "store", "box", "picture.png"
"""What is made in the scratch folder, by stage."""

_AGAIN = "run it again; if it ends so again, tell the makers of ctssl"


@dataclass(frozen=True)
class Effort:
    """What preparing one scan may use, and with which weights lungs are masked.

    Attributes:
        time_s: of each stage.
        memory_gb: data memory of the computing process.
        max_voxels: images whose header promises more are refused.
        mask_device: where lungmask computes, cpu or cuda.
        mask_weights: a .pth file of lungmask, or a folder of them; None: downloaded once.
    """

    time_s: float = 3600
    memory_gb: float = 16
    max_voxels: int = 1_000_000_000
    mask_device: str = "cpu"
    mask_weights: str | None = None


@dataclass(frozen=True)
class Request:
    """One scan to prepare.

    Attributes:
        scan: its name for messages.
        image: file or folder.
        series_uid: of a folder with several DICOM series.
        mask: a lung mask of the user's own.
        preparation: as on the model's card.
        atlas: folder.
        box: the box of its lungs is wanted, too.
        effort: limits and devices.
    """

    scan: str
    image: str
    series_uid: str | None
    mask: str | None
    preparation: dict[str, Any]
    atlas: str
    box: bool
    effort: Effort


def prepare(request: Request, folder: Path) -> dict[str, Any]:
    """The numbers of all stages, of a scan whose store is now in a folder.

    Args:
        request: of the scan.
        folder: scratch; holds STORE, and BOX if it is wanted, afterwards.

    Raises:
        ScanError: the scan cannot be used; names it.
        MachineFault: the disk is full, weights of lungmask cannot be had, and the like.
    """
    path = folder / REQUEST
    path.write_text(json.dumps(asdict(request)))
    done = _in_a_process(path)
    if (folder / FAULT).exists():
        message, advice = json.loads((folder / FAULT).read_text())
        raise MachineFault(f"{request.scan}: {message}", advice)
    if done != 0:
        raise MachineFault(f"{request.scan}: the process that prepares it ended with {done}", _AGAIN)
    made = (VOLUME, REGISTRATION, STORE, *([BOX] if request.box else []))
    stages = [Status.read(folder / name) for name in made]
    for stage in stages:
        if not stage.ok:
            raise ScanError(f"{request.scan} is lost at {stage.stage}: {stage.reason}", stage.advice)
    return {key: value for stage in stages for key, value in stage.numbers.items()}


def _in_a_process(request: Path) -> int:
    """Exit code of the process that does it; it ends with this one, whatever ends that."""
    command = [sys.executable, "-P", "-m", "ctssl.share.scan", str(request)]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as process:
        try:
            return process.wait()
        except BaseException:
            process.kill()
            raise


def main(path: Path) -> int:
    """0 when all stages ran, also where one found that the scan cannot be used; 2 when one could not run."""
    supervise.die_with_parent()
    values = json.loads(path.read_text())
    request = Request(**values | {"effort": Effort(**values["effort"])})
    redirect(path.parent / LOG)
    try:
        _run(request, path.parent)
    except CtsslError as error:
        (path.parent / FAULT).write_text(json.dumps([error.message, error.advice]))
        return 2
    return 0


def _run(request: Request, folder: Path) -> None:
    """The stages, each in a supervised child; one that loses the scan is passed on by the next."""
    known, effort = Preparation.model_validate(request.preparation), request.effort
    limits = supervise.Limits(effort.time_s, int(effort.memory_gb * 1000))
    weights = Path(effort.mask_weights) if effort.mask_weights else None
    machine = Machine(effort.max_voxels, effort.mask_device, weights, effort.memory_gb)
    read = {"image": request.image, "series_uid": request.series_uid, "mask_image": request.mask}

    def job(stage: str, out: str, **image: Any) -> jobs.ScanJob:
        text = known.settings(stage, **image)
        return jobs.ScanJob(stage, request.scan, text, folder / out, Path(request.atlas), limits, True)

    tell(f"{request.scan}: reading it and masking its lungs")
    jobs.volume(job("volume", VOLUME, **read), machine)
    if Status.read(folder / VOLUME).ok:
        tell(f"{request.scan}: registering it to the atlas")
    jobs.register(job("register", REGISTRATION), folder / VOLUME, folder / PICTURE)
    jobs.store(job("store", STORE), folder / VOLUME, folder / REGISTRATION)
    if request.box:
        boxes.box(job("box", BOX), folder / VOLUME)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
