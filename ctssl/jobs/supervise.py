"""Computing in a child process with a time limit and a memory cap.

The child is forked before anything heavy is imported, so that a crash in a C++ library, an endless loop or
a header that promises terabytes ends the child and nothing else.
"""

import ctypes
import errno
import json
import multiprocessing
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ctssl.errors import CtsslError
from ctssl.log import EVERY_S, clock, say, tell

_MACHINE = {errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.EROFS, errno.ESTALE}
USED = "used: "
"""Begins the log's line that says in JSON what a computation used: seconds, peak_mb, read_mb, written_mb."""

_RSS_BYTES = 1 if sys.platform == "darwin" else 1024
_MACHINE_EXIT, _USER_EXIT, _CRASH_EXIT, _MEMORY_EXIT = 70, 71, 72, 73


@dataclass(frozen=True)
class Limits:
    """What the child may use."""

    time_s: float
    memory_mb: int


class MachineFault(CtsslError, RuntimeError):
    """The machine or the set-up is at fault, not the scan: the job fails and can be tried again."""


class Crash(CtsslError, RuntimeError):
    """The computation crashed, ran out of memory or of time: maybe the scan's fault."""


def run(what: str, compute: Callable[[], None], limits: Limits) -> None:
    """Nothing, when `compute` came to its end in the child.

    Raises:
        MachineFault: disk full, I/O error, weights missing.
        Crash: anything else.
    """
    child = multiprocessing.get_context("fork").Process(target=_child, args=(compute, limits, os.getpid()))
    child.start()
    start = told = time.monotonic()
    while child.is_alive():
        child.join(0.5)
        now = time.monotonic()
        if now - told >= EVERY_S:
            told = now
            tell(f"{what}: {clock(now - start)}")
        if now - start > limits.time_s:
            child.kill()
            child.join()
            raise Crash(
                f"it took longer than {limits.time_s:g} s", "raise limits.time_s, or look at the scan"
            )
    code = child.exitcode
    if code == 0:
        return
    if code in (_MACHINE_EXIT, _USER_EXIT):
        raise MachineFault(f"{what} could not run: the log says why", "mend that and run the workflow again")
    if code == _MEMORY_EXIT:
        raise Crash(
            f"it needed more than {limits.memory_mb} MB", "raise limits.memory_gb, or look at the scan"
        )
    name = signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"
    raise Crash(f"the computation crashed ({name})", "the job's log has the details; is the file damaged?")


def die_with_parent() -> None:
    """End this process when its parent ends: no orphan may go on writing after a killed workflow."""
    if not sys.platform.startswith("linux"):
        return
    pr_set_pdeathsig = 1
    ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, signal.SIGKILL)


def die_with_snakemake() -> None:
    """`die_with_parent`, when the parent is snakemake and not a person's shell."""
    try:
        parent = Path(f"/proc/{os.getppid()}/cmdline").read_bytes()
    except OSError:
        return
    if b"snakemake" in parent:
        die_with_parent()


def _child(compute: Callable[[], None], limits: Limits, parent: int) -> None:
    start = time.monotonic()
    die_with_parent()
    if os.getppid() != parent:  # it ended before the line above
        os._exit(_CRASH_EXIT)
    # One scan, one thread: many scans at a time use the cores better. ITK and BLAS read these once.
    for name in ("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"
    cap = limits.memory_mb * 1024 * 1024
    resource.setrlimit(resource.RLIMIT_DATA, (cap, cap))
    try:
        compute()
    except CtsslError as error:
        say(f"error: {error}")
        os._exit(_USER_EXIT)
    except OSError as error:
        traceback.print_exc()
        os._exit(_MACHINE_EXIT if error.errno in _MACHINE else _CRASH_EXIT)
    except BaseException as error:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(_MEMORY_EXIT if isinstance(error, MemoryError) else _CRASH_EXIT)
    say(f"{USED}{json.dumps(_used(start))}")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _used(start: float) -> dict[str, float]:
    """What this process used: seconds of its life, peak memory in MB, MB read and written (Linux)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_BYTES / 1e6
    used = {"seconds": round(time.monotonic() - start, 2), "peak_mb": round(peak)}
    io = Path("/proc/self/io")
    if io.exists():
        counts = dict(line.split(": ") for line in io.read_text().splitlines())
        for name, key in (("read_mb", "rchar"), ("written_mb", "wchar")):
            used[name] = round(int(counts[key]) / 1e6, 1)
    return used
