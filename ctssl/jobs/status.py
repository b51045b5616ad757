"""status.json: whether a stage could use a scan, and if not, where it stopped and why."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ctssl.errors import ScanError

FILE = "status.json"


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
    def read(cls, folder: Path) -> "Status":
        """The status in a stage's folder."""
        return cls(**json.loads((folder / FILE).read_text()))
