"""The labels of a target as texts of the manifest; of a time to an event two columns, joined to one text.

As in a printed table of survival, `12.5` is a time at which the event came, and `12.5+` one until which it
had not. Snakemake's side of the project reads this too, so nothing heavy is imported here.
"""

import math
import re
from collections.abc import Iterable

from ctssl.config.evaluation import Target
from ctssl.errors import ManifestError
from ctssl.manifest import Manifest, is_known

_YES, _NO = {"1", "1.0", "true", "yes"}, {"0", "0.0", "false", "no"}
_INTEGRAL = re.compile(r"([+-]?\d+)\.0+")
_INTEGER = re.compile(r"[+-]?\d+")
_SHOWN = 10


def texts(manifest: Manifest, target: Target) -> dict[str, str]:
    """Scan to label as written, of all scans; "" where the time or the event is not known.

    Raises:
        ManifestError: a column is missing, or an event is neither 1 nor 0 (yes, no, true, false).
    """
    times = manifest.column(target.column)
    if target.event is None:
        return times
    events = manifest.column(target.event)
    known = [scan for scan, time in times.items() if is_known(time) and is_known(events[scan])]
    faults = [f"scan {s}: {events[s][:40]!r}" for s in known if events[s].strip().lower() not in _YES | _NO]
    faults += [f"scan {s}: time {times[s][:40]!r}" for s in known if times[s].strip().endswith("+")]
    if faults:
        more = [f"and {len(faults) - _SHOWN} more"] if len(faults) > _SHOWN else []
        raise ManifestError(
            f"column {target.event} (target {target.name}) should be 1 where the event came and 0 where it "
            f"did not, and column {target.column} plain numbers:\n  " + "\n  ".join(faults[:_SHOWN] + more),
            "correct these labels in the table of scans, or leave the cell empty where it is not known",
        )
    joint = dict.fromkeys(times, "")
    for scan in known:
        joint[scan] = times[scan].strip() + ("" if events[scan].strip().lower() in _YES else "+")
    return joint


def value(text: str) -> float:
    """The time, with a minus where the event did not come; nan where the text is no time above 0."""
    try:
        time = math.nan if "_" in text else float(text.removesuffix("+"))
    except ValueError:
        return math.nan
    if not (math.isfinite(time) and time > 0):
        return math.nan
    return -time if text.endswith("+") else time


def class_of(text: str) -> str:
    """The class that a label names: 2.0 is class 2."""
    whole = _INTEGRAL.fullmatch(text)
    return whole.group(1) if whole else text


def integer_classes(names: Iterable[str]) -> bool:
    """Whether every class is named by an integer, so that classes have an order and distances."""
    return all(_INTEGER.fullmatch(name) for name in names)
