"""Weights and inputs made by formula, so that a published network's outputs can be compared without its file.

The outputs in *.npz are of the released networks with these weights; docs/methods.md names the commits.
"""

import json
import zlib
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).parent
EDGES = [(0, 1), (1, 2), (2, 3), (0, 4), (4, 5), (1, 5)]


def tensor(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """The tensor of this name: sines, scaled by what the name says it is."""
    if name.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    phase = (zlib.crc32(name.encode()) % 997) * 0.1
    count = int(np.prod(shape)) if shape else 1
    wave = np.sin(np.arange(count, dtype=np.float64) * 0.7390851 + phase).reshape(shape)
    if name.endswith("running_var"):
        wave = 1 + 0.25 * wave
    elif name.endswith("running_mean"):
        wave = 0.1 * wave
    elif len(shape) >= 2:
        inputs = shape[2:] if len(shape) == 6 else shape[1:]  # of one expert, where there are several
        wave = wave * np.sqrt(2.0 / np.prod(inputs))
    elif name.endswith("weight"):
        wave = 1 + 0.25 * wave
    else:
        wave = 0.1 * wave
    return torch.from_numpy(wave.astype(np.float32))


def state(case: str) -> dict[str, torch.Tensor]:
    """The released state_dict of a case, prefix stripped."""
    keys = json.loads((HERE / f"{case}.keys.json").read_text())
    return {name: tensor(name, tuple(shape)) for name, shape in keys.items()}


def outputs(case: str) -> dict[str, np.ndarray]:
    """What the released network puts out."""
    with np.load(HERE / f"{case}.npz") as file:
        return dict(file)


def volume(count: int, edge: int = 32) -> torch.Tensor:
    """(count, 1, edge, edge, edge) in [-1, 1], axes z, y, x; not symmetric in any axis."""
    return box(count, edge, edge, edge)


def box(count: int, *sides: int) -> torch.Tensor:
    """(count, 1, D, H, W) in [-1, 1]; not symmetric in any axis."""
    b, z, y, x = np.meshgrid(np.arange(count), *map(np.arange, sides), indexing="ij")
    values = np.sin(0.13 * z * (b + 1)) * np.cos(0.17 * y + 0.3 * b) * np.sin(0.19 * x + b)
    return torch.from_numpy(values[:, None].astype(np.float32))


def coordinates(count: int) -> torch.Tensor:
    """(count, 3), x, y, z in [0, 1]."""
    i = np.arange(count)
    values = np.stack([(i + 1) / (count + 1), ((i * 3) % 7) / 7, ((i * 5) % 7) / 7], 1)
    return torch.from_numpy(values.astype(np.float32))
