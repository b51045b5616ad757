"""One stage of one scan, with computations that stand for what may happen. Prints JSON; see children.py."""

import json
import os
import signal
import sys
from pathlib import Path

from ctssl.errors import CtsslError, ScanError
from ctssl.jobs.scan import ScanJob
from ctssl.jobs.status import Status
from ctssl.jobs.supervise import Limits
from ctssl.recipes import RECIPES

HERE = Path(sys.argv[1])
SETTINGS = json.dumps({"stage": "register", "recipe": RECIPES["register"], "size": 7})


def job(name: str, *, last: bool, settings: str = SETTINGS) -> ScanJob:
    out = HERE / name
    out.mkdir()
    (out / "old").write_text("of an earlier try")
    return ScanJob("register", "anna", settings, out, HERE / "atlas", Limits(60, 2000), last)


def good(job: ScanJob):
    def compute(settings):
        (job.out / "data").write_text("data")
        return {"size": settings["size"]}

    return compute


def unfit(job: ScanJob):
    def compute(settings):
        (job.out / "data").write_text("half")
        raise ScanError("no lungs", "look at it")

    return compute


def crash(job: ScanJob):
    def compute(settings):
        (job.out / "data").write_text("half")
        os.kill(os.getpid(), signal.SIGKILL)

    return compute


def full(job: ScanJob):
    def compute(settings):
        raise OSError(28, "No space left on device")

    return compute


def before(ok: bool) -> Path:
    folder = HERE / f"before-{ok}"
    folder.mkdir(exist_ok=True)
    Status("anna", ok, "volume", "" if ok else "no lungs", "" if ok else "look").write(folder)
    return folder


def outcome(name, compute, *, last=False, earlier=None, **changes):
    one = job(name, last=last, **changes)
    error = None
    try:
        one.run(compute(one), earlier)
    except CtsslError as fault:
        error = type(fault).__name__
    files = {path.name: path.read_text() for path in one.out.iterdir()}
    status = json.loads(files.pop("status.json", "null"))
    return {"error": error, "files": files, "status": status}


if __name__ == "__main__":
    print(
        json.dumps(
            {
                "good": outcome("good", good, earlier=before(True)),
                "unfit": outcome("unfit", unfit),
                "crash": outcome("crash", crash),
                "last-crash": outcome("last-crash", crash, last=True),
                "full": outcome("full", full),
                "last-full": outcome("last-full", full, last=True),
                "lost-before": outcome("lost-before", crash, earlier=before(False)),
                "other-recipe": outcome("other-recipe", good, settings='{"stage": "register", "recipe": -1}'),
            }
        )
    )
