"""What belongs to the machine and not to a result. Imports nothing, so that a job can fork first."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Machine:
    """How a scan is read here.

    Attributes:
        max_voxels: refuse images whose header promises more.
        device: where lungmask computes.
        weights: file of lungmask's weights; None: its own download.
    """

    max_voxels: int
    device: str = "cpu"
    weights: Path | None = None
