"""What may happen to a supervised child, run in a process that has imported nothing heavy.

Printed as one JSON object: case -> [error class, message, advice] or null. Not in pytest's own process:
there, threads and tensorstore may be about, which do not survive a fork.
"""

import errno
import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

from ctssl.errors import CtsslError, ScanError, WeightsError
from ctssl.jobs import supervise

LIMITS = supervise.Limits(time_s=60, memory_mb=2000)
SHORT = supervise.Limits(time_s=0.1, memory_mb=2000)
HERE = Path(tempfile.mkdtemp())


def killed() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def exits() -> None:
    os._exit(5)


def asks_to_exit() -> None:
    sys.exit(0)  # a library that ends the process: the work was not done


def endless() -> None:
    (HERE / "endless").write_text(str(os.getpid()))
    while True:
        time.sleep(1)


def greedy() -> None:
    bytearray(3 * 10**9)


def modest() -> None:
    bytearray(10**8)


def full_disk() -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def bad_disk() -> None:
    raise OSError(errno.EIO, "Input/output error")


def odd_file() -> None:
    raise OSError("not a gzip file")


def no_weights() -> None:
    raise WeightsError("no weights", "get some")


def bug() -> None:
    raise KeyError("a bug")


def works() -> None:
    (HERE / "works").write_text("done")


def one_thread() -> None:
    names = ("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    if any(os.environ.get(name) != "1" for name in names):
        raise ScanError("more than one thread")


def outcome(compute, limits=LIMITS):
    try:
        supervise.run(compute.__name__, compute, limits)
    except CtsslError as error:
        return [type(error).__name__, error.message, error.advice]
    return None


def alive(name: str) -> bool:
    return Path(f"/proc/{(HERE / name).read_text()}").exists()


if __name__ == "__main__":
    found = {
        compute.__name__: outcome(compute)
        for compute in (
            *(killed, exits, asks_to_exit, greedy, modest, full_disk, bad_disk),
            *(odd_file, no_weights, bug, works, one_thread),
        )
    }
    # the limit may come before the child's first line
    (HERE / "endless").write_text("0")
    found["endless"] = outcome(endless, SHORT)
    print(json.dumps({"outcomes": found, "wrote": (HERE / "works").read_text(), "orphan": alive("endless")}))
