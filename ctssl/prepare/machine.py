"""What belongs to the machine and not to a result. Imports nothing, so that a job can fork first."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Machine:
    """How a scan is read here.

    Attributes:
        max_voxels: refuse images whose header promises more.
        device: where lungmask computes.
        weights: file of lungmask's weights, or folder of them; None: its own download.
        memory_gb: what the process may hold; lungmask takes as many slices at a time as fit.
    """

    max_voxels: int
    device: str = "cpu"
    weights: Path | None = None
    memory_gb: float = float("inf")
