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

from ctssl import log
from ctssl.errors import ChangedError, CtsslError, ScanError, WeightsError
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


def no_right() -> None:
    raise PermissionError(errno.EACCES, "Permission denied", "results/a.nii")


def read_only() -> None:
    raise OSError(errno.EROFS, "Read-only file system", "results/a.nii")


def many_files() -> None:
    raise OSError(errno.EMFILE, "Too many open files")


def stale() -> None:
    raise OSError(errno.ESTALE, "Stale file handle", "images/a.nii")


def unheard_of() -> None:
    raise OSError(errno.EREMOTEIO, "Remote I/O error", "images/a.nii")


def changed() -> None:
    raise ChangedError("the file changed while it was read", "let the copying end")


def library_without_memory() -> None:
    raise RuntimeError("Exception thrown in SimpleITK: std::bad_alloc")


def system_without_memory() -> None:
    raise OSError(errno.ENOMEM, "Cannot allocate memory")


def terminates() -> None:
    os.write(2, b"terminate called after throwing an instance of 'std::bad_alloc'\n")
    os.abort()


def aborts() -> None:
    os.abort()


def takes_all() -> None:
    """Memory in small pieces, to the very end: there is none left to say so."""
    pieces = []
    while True:
        pieces.append(bytearray(1 << 12))


def exits_as_if_done() -> None:
    os._exit(0)


def exits_70() -> None:
    os._exit(70)


def exits_73() -> None:
    os._exit(73)


def killed_from_outside() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kills_its_group() -> None:
    os.kill(0, signal.SIGKILL)


def floods() -> None:
    for _ in range(200):
        os.write(2, b"x" * 4095 + b"\n")


def quiet_parent() -> None:
    """Ends, and leaves a child that would go on for long, and does not listen."""
    child = os.fork()
    if child == 0:
        deaf()
    (HERE / "grandchild").write_text(str(child))


def deaf() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        time.sleep(1)


def stopped() -> None:
    (HERE / "stopped").write_text(str(os.getpid()))
    os.kill(os.getpid(), signal.SIGSTOP)


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
    """Whether a process still runs; one that ended may be listed until somebody asks for its exit code."""
    state = Path(f"/proc/{(HERE / name).read_text()}/stat")
    try:
        return state.read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


if __name__ == "__main__":
    terminal = os.dup(1)
    found = {
        compute.__name__: outcome(compute)
        for compute in (
            *(killed, exits, asks_to_exit, greedy, modest, full_disk, bad_disk),
            *(odd_file, no_weights, bug, works, one_thread),
            *(no_right, read_only, many_files, stale, unheard_of, changed, aborts),
            *(exits_as_if_done, exits_70, exits_73, killed_from_outside, kills_its_group, floods),
            *(library_without_memory, system_without_memory, takes_all, quiet_parent),
        )
    }
    # the limit may come before the child's first line
    for name in ("endless", "stopped"):
        (HERE / name).write_text("0")
    found |= {
        "endless": outcome(endless, SHORT),
        "stopped": outcome(stopped, SHORT),
        "deaf": outcome(deaf, SHORT),
    }
    orphans = [name for name in ("endless", "stopped", "grandchild") if alive(name)]
    log.redirect(HERE / "log")
    found["terminates"] = outcome(terminates)
    sys.stdout = os.fdopen(terminal, "w")
    print(json.dumps({"outcomes": found, "wrote": (HERE / "works").read_text(), "orphans": orphans}))
