"""Random numbers that follow from what they are for: a key for each sample, a counter for each number.

There is no generator and so no state: the same (seed, phase, epoch, scan, landmark, view) has the same
numbers in any batch, order, rank or device. Integers are exact everywhere; so are uniforms.

Source: the finaliser and step of splitmix64 (Steele, Lea, Flood, OOPSLA 2014; constants of Stafford's
variant 13): number i of a key is its state after i steps from that key.
"""

import math

import torch
from torch import Tensor

ALL_LANDMARKS = -1
"""The landmark of a key that holds for a whole scan."""

BITS = 24
"""Bits of a uniform number, so that it is exact in float32; a hash gives two."""

STEP = 0x9E3779B97F4A7C15
"""Between the states of splitmix64."""

FIRST, SECOND = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
"""Factors of its finaliser."""

STREAM, VIEW = 0x243F6A8885A308D3, 0x13198A2E03707344
"""Keep the keys of streams and of views apart (digits of pi)."""


def sample_keys(seed: int, phase: int, epoch: int, scans: Tensor, landmarks: Tensor) -> Tensor:
    """(M,) int64 keys of the pairs (scan, landmark), on their device.

    Args:
        seed: of the training.
        phase: number of the phase; each has numbers of its own.
        epoch: of that phase.
        scans: (M,) int64 numbers of scans in the cohort.
        landmarks: (M,) int64, ALL_LANDMARKS for a key of the whole scan.
    """
    keys = torch.zeros_like(scans)
    for part in (seed, phase, epoch, scans, landmarks):
        keys = _absorb(keys, part)
    return keys


def of_view(keys: Tensor, number: int) -> Tensor:
    """(M,) keys of one view of each sample."""
    return _absorb(keys ^ _signed(VIEW), number)


def uniform(keys: Tensor, stream: int, n: int) -> Tensor:
    """(M, n) float32 in [0, 1), multiples of 2^-24, independent between keys, streams and columns."""
    return torch.cat(_pairs(keys, stream, -(-n // 2)), 1)[:, :n]


def normal(keys: Tensor, stream: int, n: int) -> Tensor:
    """(M, n) float32 standard normal numbers (Box-Muller), at most 5.8 in size."""
    first, second = _pairs(keys, stream, -(-n // 2))
    radius = (1 - first).log_().mul_(-2).sqrt_()  # 1 - first is above 0
    angle = second.mul_(2 * math.pi)
    return torch.cat([angle.cos() * radius, angle.sin_() * radius], 1)[:, :n]


def _pairs(keys: Tensor, stream: int, hashes: int) -> tuple[Tensor, Tensor]:
    """Two (M, hashes) uniforms: the upper 24 bits of each hash, and the next 24."""
    count = torch.arange(1, hashes + 1, device=keys.device) * _signed(STEP)
    bits = _mix_(_absorb(keys ^ _signed(STREAM), stream)[:, None] + count)
    upper, lower = _shifted(bits, 64 - BITS), _shifted(bits, 64 - 2 * BITS).bitwise_and_(2**BITS - 1)
    return upper.float().mul_(2.0**-BITS), lower.float().mul_(2.0**-BITS)


def _absorb(keys: Tensor, part: Tensor | int) -> Tensor:
    """New keys: the state that lies `part` + 1 steps after each key, mixed."""
    if isinstance(part, int):
        return _mix_(keys + _signed((part + 1) * STEP))
    return _mix_(keys + (part + 1) * _signed(STEP))


def _mix_(z: Tensor) -> Tensor:
    """The finaliser, in place; products of int64 wrap around."""
    z = z.bitwise_xor_(_shifted(z, 30)).mul_(_signed(FIRST))
    z = z.bitwise_xor_(_shifted(z, 27)).mul_(_signed(SECOND))
    return z.bitwise_xor_(_shifted(z, 31))


def _shifted(z: Tensor, places: int) -> Tensor:
    """Unsigned shift to the right: int64 would fill up with its sign."""
    return (z >> places).bitwise_and_((1 << (64 - places)) - 1)


def _signed(word: int) -> int:
    """The int64 with the lowest 64 bits of an integer."""
    return (word + 2**63) % 2**64 - 2**63
