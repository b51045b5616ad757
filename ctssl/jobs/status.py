"""status.json: whether a stage could use a scan, and if not, where it stopped and why."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from ctssl.cards import read_card
from ctssl.errors import ScanError

FILE = "status.json"

STAGES = {"volumes": "volume", "registration": "register", "stores": "store"}
"""Folder under a results directory -> stage, of the per-scan stages in their order."""

BOXES = {"boxes": "box"}
"""The same of studies with a run that cuts its samples from boxes of whole lungs."""

Kind = Callable[[Any], bool]
"""Whether a value is of a kind."""

_HUGE = 1e300
_TEXTS = ("cut", "missing", "rung", "digest")
_LISTS = ("repairs", "mask_doubts")
_NUMBERS = (
    *("dice_right", "dice_left", "min_jacobian", "inverse_mm_mean", "inverse_mm_p95", "right_l", "left_l"),
    *("landmarks", "valid", "edges", "rungs", "laa_950_percent"),
)


@dataclass(frozen=True)
class Status:
    """The outcome of one stage for one scan.

    Attributes:
        scan: its id.
        ok: the stage's data are there.
        stage: the stage; of an exclusion, the stage at which the scan was lost.
        reason: of an exclusion.
        advice: what a person can do about it.
        numbers: measured values, when ok.
    """

    scan: str
    ok: bool
    stage: str
    reason: str = ""
    advice: str = ""
    numbers: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def excluded(cls, scan: str, stage: str, error: ScanError) -> "Status":
        """The status of a scan that this error takes out."""
        return cls(scan, False, stage, error.message, error.advice)

    def write(self, folder: Path) -> None:
        """Write status.json into the stage's folder."""
        (folder / FILE).write_text(json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def read(cls, folder: Path, scan: str | None = None) -> "Status":
        """The status in a stage's folder.

        Args:
            folder: of the stage.
            scan: refuse the status of another.

        Raises:
            ScanError: there is none, it is damaged, or of another scan.
        """
        try:
            values = read_card(folder / FILE)
            _check(values, scan)
        except (FileNotFoundError, NotADirectoryError, ValueError) as error:
            name = f"{folder.parent.name}/{folder.name}/{FILE}"  # reports name no folders of the machine
            raise ScanError(f"{name} cannot be used, for {_words(error)}", _AGAIN) from error
        return cls(**values)

    @classmethod
    def outcome(cls, folder: Path, scan: str, stage: str) -> "Status":
        """The scan's status in a stage's folder; one that cannot be used excludes the scan at `stage`."""
        try:
            return cls.read(folder, scan)
        except ScanError as error:
            return cls.excluded(scan, stage, error)


_AGAIN = "`ctssl retry SCAN`, then the same snakemake command, makes it again"


def _words(error: Exception) -> str:
    return "it is not there" if isinstance(error, OSError) else str(error)


def _check(values: dict[str, Any], scan: str | None) -> None:
    """Nothing, when the values are those of a status and the numbers of the kinds that the cohort reads."""
    kinds: dict[str, Kind] = dict.fromkeys(("scan", "stage", "reason", "advice"), _is_text)
    kinds |= {"ok": lambda value: isinstance(value, bool), "numbers": _is_object}
    strange = sorted(values.keys() - {f.name for f in fields(Status)})
    if strange:
        raise ValueError(f"there is no key {strange[0]!r}")
    for key in ("scan", "ok", "stage"):
        if key not in values:
            raise ValueError(f"{key} is missing")
    _check_kinds(values, kinds)
    if scan is not None and values["scan"] != scan:
        raise ValueError(f"it is of scan {values['scan']!r}")
    _check_numbers(values.get("numbers", {}))


def _check_numbers(numbers: dict[str, Any]) -> None:
    """Nothing, when the values that tables and limits use are of their kinds; null is not measured."""
    kinds: dict[str, Kind] = dict.fromkeys(_NUMBERS, _is_number)
    kinds |= dict.fromkeys(_TEXTS, _is_text) | dict.fromkeys(_LISTS, _is_list_of(_is_text))
    kinds["native_spacing_mm"] = _is_list_of(_is_number)
    _check_kinds({key: value for key, value in numbers.items() if value is not None}, kinds)


def _check_kinds(values: dict[str, Any], kinds: dict[str, Kind]) -> None:
    for key, fits in kinds.items():
        if key in values and not fits(values[key]):
            raise ValueError(f"{key} should not be {str(values[key])[:40]!r}")


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _is_number(value: Any) -> bool:
    """NaN is one: it counts as not measured. An integer that no float can hold is none."""
    return isinstance(value, float) or (type(value) is int and abs(value) < _HUGE)


def _is_list_of(fits: Kind) -> Kind:
    return lambda value: isinstance(value, list) and all(fits(one) or one is None for one in value)
