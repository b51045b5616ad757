"""How a step is shared out: whole batch norm groups, to passes and to devices.

Queries keep the order of the sample. Keys are made in an order of their own, so that a key meets other
scans in its group than its query does. Where a group is computed changes nothing but the order of sums.
"""

from dataclasses import dataclass

import numpy as np

from ctssl.networks.batchnorm import group_sizes
from ctssl.train.batches import Sample


@dataclass(frozen=True)
class Part:
    """Consecutive groups of a step, in the order of its queries or of its keys.

    Attributes:
        places: (b,) which members of the step's sample.
        groups: sizes of the batch norm groups; they sum to b.
    """

    places: np.ndarray
    groups: tuple[int, ...]


@dataclass(frozen=True)
class Shares:
    """The parts of a step, for each device its passes.

    Attributes:
        queries: [rank][pass].
        keys: [rank][pass].
    """

    queries: list[list[Part]]
    keys: list[list[Part]]

    def counts(self) -> list[int]:
        """Keys that each device makes."""
        return [sum(len(part.places) for part in parts) for parts in self.keys]


def share(members: int, groups: int, order: np.ndarray, ranks: int, passes: int) -> Shares:
    """Who computes what: consecutive groups, as many to each device, and of those as many to each pass.

    A device of more devices than groups gets none; fewer passes than asked for are made of fewer groups.

    Args:
        members: B scans of the sample.
        groups: batch norm groups of a full batch.
        order: (B,) a permutation, the order of the keys.
        ranks: devices.
        passes: of one device.
    """
    sizes = group_sizes(members, groups)
    ends = np.cumsum(sizes)
    shares: dict[str, list[list[Part]]] = {"queries": [], "keys": []}
    for mine in np.array_split(np.arange(len(sizes)), ranks):
        of_passes = [part for part in np.array_split(mine, min(passes, max(1, len(mine)))) if len(part)]
        spans = [slice(int(ends[p[0]]) - sizes[p[0]], int(ends[p[-1]])) for p in of_passes]
        held = [tuple(sizes[i] for i in part) for part in of_passes]
        for name, walk in (("queries", np.arange(members)), ("keys", order)):
            shares[name].append([Part(walk[s], g) for s, g in zip(spans, held, strict=True)])
    return Shares(shares["queries"], shares["keys"])


def needed(sample: Sample, parts: list[Part]) -> Sample:
    """What of a sample these parts use, each scan once, in the order of the sample."""
    places = np.unique(np.concatenate([part.places for part in parts])) if parts else np.empty(0, int)
    members = sample.members[places]
    keep = np.isin(sample.scans, members)
    return Sample(sample.scans[keep], sample.landmarks[keep], members)
