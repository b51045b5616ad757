"""The error classes of ctssl. Each is also the built-in that a caller would expect.

An error says what was expected and what came (`message`) and what to do next (`advice`).
"""

import errno
import os
import re


class CtsslError(Exception):
    """A fault that a user can mend; printed without a traceback.

    Args:
        message: what was expected and what came.
        advice: what to do next, one or two sentences.
    """

    def __init__(self, message: str, advice: str = "") -> None:
        super().__init__(message, advice)
        self.message = message
        self.advice = advice

    def __str__(self) -> str:
        return f"{self.message}\n  What to do: {self.advice}" if self.advice else self.message


class ConfigError(CtsslError, ValueError):
    """The configuration is wrong; nothing was started."""


class ManifestError(CtsslError, ValueError):
    """The table of scans is wrong; nothing was started."""


class ScanError(CtsslError, ValueError):
    """One scan cannot be used: it is excluded, the cohort goes on."""


class DamagedError(ScanError):
    """A library cannot read a file of the scan; believed when the disk gives its bytes and it is so again."""


class ChangedError(CtsslError, RuntimeError):
    """The scan's files changed while they were read: tried again, the last attempt excludes the scan."""


class MachineFault(CtsslError, RuntimeError):
    """The machine or the set-up is at fault, not the scan: the job fails and can be tried again."""


class StoreError(CtsslError, OSError):
    """A patch store is missing, damaged or made for another atlas."""


class WeightsError(CtsslError, ValueError):
    """Weights are missing or do not fit the model that should take them."""


class CohortError(CtsslError, ValueError):
    """The cohort as a whole does not allow this step (too few scans, labels, subjects)."""


_MACHINE = {
    errno.ENOSPC: ("the disk is full", "make room on it"),
    errno.EDQUOT: ("the quota of this disk is used up", "make room, or ask for more"),
    errno.EIO: ("the disk or the network drive gave an I/O error", "ask whoever keeps it; its log says more"),
    errno.ESTALE: ("the network drive lost a file (stale handle)", "mount it anew"),
    errno.EACCES: ("no permission", "give the right to read and write there"),
    errno.EPERM: ("no permission", "give the right to read and write there"),
    errno.EROFS: ("no permission, the file system is read-only", "name results on one that can be written"),
    errno.EMFILE: ("too many open files", "raise the limit (ulimit -n)"),
    errno.ENFILE: ("too many open files on this machine", "let fewer jobs run at a time"),
}
_MEMORY = (
    *("bad_alloc", "failed to allocate", "can't allocate", "cannot allocate", "not enough memory"),
    "error return without exception set",  # Python, of an extension that had no memory for its exception
)


def machine_fault(error: OSError) -> MachineFault:
    """What the system's word on a file is to a person.

    For faults that nobody foresaw: the readers turn those that are the scan's into ScanError.
    """
    said = error.strerror or str(error)
    what, advice = _MACHINE.get(error.errno or 0, (f"the system says: {said}", "mend that"))
    return MachineFault(
        f"{what}: {error.filename}" if error.filename else what, f"{advice}, then run the same command again"
    )


def system_error(error: Exception) -> OSError | None:
    """The OSError that tensorstore tells in words only, or None."""
    code = re.search(r"(?:OS error |os_error_code=')(\d+)", str(error))
    return OSError(int(code[1]), os.strerror(int(code[1]))) if code else None


def is_memory(error: BaseException) -> bool:
    """Whether memory ran out; C++ libraries say it in words only."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    if isinstance(error, RuntimeError | SystemError):
        return tells_of_memory(str(error))
    return isinstance(error, MemoryError)


def tells_of_memory(text: str) -> bool:
    """Whether a library's words say that memory ran out."""
    return any(word in text.lower() for word in _MEMORY)
