"""Computing in a child process with a time limit and a memory cap.

The child is forked before anything heavy is imported, so that a crash in a C++ library, an endless loop or
a header that promises terabytes ends the child and nothing else. It leads a process group of its own, which
ends with it, and says through a pipe how it ended: an exit code may be anybody's.
"""

import ctypes
import json
import multiprocessing
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from ctssl.errors import ChangedError, CtsslError, MachineFault, is_memory, machine_fault, tells_of_memory
from ctssl.log import EVERY_S, clock, last_words, say, tell, written

__all__ = ["Crash", "Limits", "MachineFault", "run"]

USED = "used: "
"""Begins the log's line that says in JSON what a computation used: seconds, peak_mb, read_mb, written_mb."""

_RSS_BYTES = 1 if sys.platform == "darwin" else 1024
_DONE, _MACHINE, _SCAN, _MEMORY = "done", "machine", "scan", "memory"
_READERS = "prepare/reading.py"
_LOOK = "the job's log has the details; is the file damaged?"


@dataclass(frozen=True)
class Limits:
    """What the child may use."""

    time_s: float
    memory_mb: int


class Crash(CtsslError, RuntimeError):
    """The computation crashed, ran out of memory or of time: maybe the scan's fault."""


def run(what: str, compute: Callable[[], None], limits: Limits) -> None:
    """Nothing, when `compute` came to its end in the child.

    Raises:
        MachineFault: what the system refuses (disk full, I/O error, no permission), and any CtsslError that
            is not caught, such as missing weights: not the scan's fault.
        Crash: anything else. The scan may have led to it, so it is tried again and then excluded; also a
            kill from outside, which a scan too large for the machine meets at every attempt.
    """
    context = multiprocessing.get_context("fork")
    reader, writer = context.Pipe(duplex=False)
    child = context.Process(target=_child, args=(compute, limits, os.getpid(), writer))
    said = written()
    child.start()
    try:
        writer.close()
        in_time = _wait(what, child, limits.time_s)
    finally:
        _end(child)
    if not in_time:
        raise Crash(f"it took longer than {limits.time_s:g} s", "raise limits.time_s, or look at the scan")
    ended, message, advice = _report(reader) or _died(child.exitcode or 0, last_words(said))
    if ended == _MACHINE:
        raise MachineFault(f"{what} could not run: {message}", advice)
    if ended == _MEMORY:
        raise Crash(
            f"it needed more than {limits.memory_mb} MB", "raise limits.memory_gb, or look at the scan"
        )
    if ended != _DONE:
        raise Crash(message, advice)


def _wait(what: str, child: BaseProcess, time_s: float) -> bool:
    """Whether the child ended in time; says now and then that it goes on."""
    start = told = time.monotonic()
    while child.is_alive():
        child.join(0.5)
        now = time.monotonic()
        if now - told >= EVERY_S:
            told = now
            tell(f"{what}: {clock(now - start)}")
        if child.is_alive() and now - start > time_s:
            return False
    return True


def _end(child: BaseProcess) -> None:
    """End the child, whatever it is at, and the processes that it started."""
    assert child.pid is not None, "it was started"
    child.kill()
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.join()


def _report(reader: Connection) -> tuple[str, str, str] | None:
    """How the child says that it ended, message and advice; None: it died without a word."""
    if not reader.poll():
        return None
    try:
        ended, message, advice = json.loads(reader.recv_bytes())
    except EOFError:
        return None
    return ended, message, advice


def _died(code: int, words: str) -> tuple[str, str, str]:
    """What ended a child that said nothing: by its exit code, and the last words in its log."""
    if tells_of_memory(words):
        return _MEMORY, "", ""
    if code == -signal.SIGKILL:
        return (
            _SCAN,
            "it was killed from outside (SIGKILL), perhaps for want of memory on the machine",
            "let fewer jobs run at a time (snakemake --resources mem_mb=...), then `ctssl retry`",
        )
    name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return _SCAN, f"the computation crashed ({name})", _LOOK


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


def _child(compute: Callable[[], None], limits: Limits, parent: int, report: Connection) -> None:
    start = time.monotonic()
    os.setpgid(0, 0)
    die_with_parent()
    if os.getppid() != parent:  # it ended before the line above
        os._exit(1)
    # One scan, one thread: many scans at a time use the cores better. ITK and BLAS read these once.
    for name in ("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    cap = limits.memory_mb * 1024 * 1024
    cap = cap if most == resource.RLIM_INFINITY else min(cap, most)
    resource.setrlimit(resource.RLIMIT_DATA, (cap, most))
    try:
        compute()
        ended = _DONE, "", ""
        words = f"{USED}{json.dumps(_used(start))}"
    except BaseException as error:
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))  # words need memory
        ended = _fault(error)
        words = f"error: {error}" if isinstance(error, CtsslError) else trace_of(error)
    report.send_bytes(json.dumps(ended).encode())  # before the log, whose disk may be full
    say(words)
    sys.stdout.flush()
    os._exit(0)


def trace_of(error: BaseException) -> str:
    """The traceback for the log; of a reader of images without the words, which may quote a header."""
    trace = traceback.TracebackException.from_exception(error)
    if not any(frame.filename.endswith(_READERS) for frame in trace.stack):
        return "".join(trace.format())
    return f"{''.join(trace.stack.format())}{type(error).__name__} (its words may quote a header: left out)"


def _fault(error: BaseException) -> tuple[str, str, str]:
    """Whose fault an error is that escaped a computation, message and advice."""
    if isinstance(error, ChangedError):
        return _SCAN, error.message, error.advice
    if isinstance(error, CtsslError):
        return _MACHINE, error.message, error.advice
    if is_memory(error):
        return _MEMORY, "", ""
    if isinstance(error, OSError) and error.errno is not None:  # the readers caught what is the scan's
        fault = machine_fault(error)
        return _MACHINE, fault.message, fault.advice
    return _SCAN, f"the computation crashed ({type(error).__name__})", _LOOK


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
