"""Python imports this at its start where this folder is on PYTHONPATH: then some scans crash in native code.

The child of `ctssl stage STAGE ... --scan crash-STAGE` reads address 0 shortly after its start, and that of
abort-STAGE aborts, as C++ does when nobody catches an exception.
"""

import ctypes
import os
import signal
import sys

SOON_S = 0.2


def crash(number: int, frame: object) -> None:
    ctypes.string_at(0)


def abort(number: int, frame: object) -> None:
    os.abort()


def soon(what: object) -> None:
    signal.signal(signal.SIGALRM, what)
    signal.setitimer(signal.ITIMER_REAL, SOON_S)


words = sys.orig_argv
if "stage" in words and "--scan" in words:
    stage, scan = words[words.index("stage") + 1], words[words.index("--scan") + 1]
    for name, what in (("crash", crash), ("abort", abort)):
        if scan == f"{name}-{stage}":
            os.register_at_fork(after_in_child=lambda what=what: soon(what))
