"""What methods cut from the boxes of whole lungs: crops, windows that cover the lungs, whole volumes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ctssl.recipes import RECIPES
from ctssl.store.boxes import Box
from ctssl.store.reader import Store
from ctssl.store.resize import resized
from ctssl.store.volumes import around, kept
from ctssl.train.augment.step import Stream
from ctssl.train.batches import Batch, Cohort, Sample
from ctssl.train.planes import Planes, planes
from ctssl.train.random import ALL_LANDMARKS, sample_keys, uniform

Extent = tuple[int, int, int]


@dataclass(frozen=True)
class Crops:
    """Crops at random places of the lungs' own box.

    A crop with much tissue is drawn again, `tries` times in all; if none passes, the one with least is taken.

    Attributes:
        extent: voxels along z, y, x.
        number: crops of a scan in a step.
        tissue_hu: a voxel from here on is tissue; half of one if only the voxel above it is.
        most_tissue: share of the crop; 1: any.
        tries: places that are drawn.

    Source: MrGiovanni/ModelsGenesis@12f7feb; a limit to the tries is ours.
    """

    extent: Extent
    number: int = 1
    tissue_hu: int = -150
    most_tissue: float = 1.0
    tries: int = 1

    def volumes(self, box: Box, keys: Tensor, scan_key: Tensor) -> np.ndarray:
        """(number, Z, Y, X) int16 HU of one scan.

        Args:
            box: of the scan.
            keys: (number,) where the random numbers of each crop begin.
            scan_key: not used.
        """
        return crops([box] * len(keys), keys, self)


@dataclass(frozen=True)
class Windows:
    """Windows side by side, or overlapping, that cover the lungs' own box.

    Attributes:
        extent: voxels along z, y, x.
        step: a window's distance from the next, as a share of its extent, at most.
        least_lung: windows with a smaller share of lung are left out, unless there is no other.
    """

    extent: Extent
    step: float = 1.0
    least_lung: float = 0.0


@dataclass(frozen=True)
class Whole:
    """The whole box on a fixed number of voxels.

    Attributes:
        extent: voxels along z, y, x.
        field_mm: what they show along z, y, x, around the middle of the lungs' own box; None: the whole box,
            whatever that does to size and proportions.
    """

    extent: Extent
    field_mm: tuple[float, float, float] | None = None

    number = 1


class Placed(Protocol):
    """Crops of a scan at places that are drawn; kinds whose places hang together have files of their own."""

    @property
    def extent(self) -> Extent:
        """Voxels of a crop along z, y, x."""

    @property
    def number(self) -> int:
        """Crops of a scan in a step."""

    def volumes(self, box: Box, keys: Tensor, scan_key: Tensor) -> np.ndarray:
        """(number, Z, Y, X) int16 HU of one scan.

        Args:
            box: of the scan.
            keys: (number,) where the random numbers of each crop begin.
            scan_key: (1,) where those begin that its crops share.
        """


Cut = Whole | Planes | Placed
"""What a phase of units crop and volume can ask for."""


def cut_sample(scans: np.ndarray, cut: Cut) -> Sample:
    """The cuts of these scans, (scan, number of the cut): where a crop lies follows from seed and epoch."""
    return Sample(np.repeat(scans, cut.number), np.tile(np.arange(cut.number), len(scans)), scans)


def read_cuts(
    boxes: Sequence[Box],
    cohort: Cohort,
    sample: Sample,
    cut: Cut,
    draw: tuple[int, int, int],
    cache: Path | None,
    stores: Sequence[Store] = (),
) -> Batch:
    """The values of a sample, without random numbers yet.

    Args:
        boxes: of the cohort's scans.
        cohort: the scans.
        sample: as `cut_sample` names it.
        cut: how.
        draw: seed, number of the phase, and epoch.
        cache: folder of volumes on other voxels; None: none are kept.
        stores: of the cohort's scans, for planes, which their landmarks place.
    """
    if not len(sample.scans):  # of a device that has no part in a step
        volumes = np.empty((0, *cut.extent), np.int16)
    elif isinstance(cut, Whole):
        volumes = np.stack([whole(boxes[s], cut, cache) for s in sample.scans])
    elif isinstance(cut, Planes):
        volumes = np.stack([planes(boxes[s], stores[s], cut, cache) for s in sample.scans])
    else:
        volumes = _placed(boxes, sample, cut, draw)
    subjects = torch.from_numpy(cohort.subjects[sample.members])
    return _batch(volumes, subjects, (cut.number,) * len(subjects))


def _placed(boxes: Sequence[Box], sample: Sample, cut: Placed, draw: tuple[int, int, int]) -> np.ndarray:
    """(M, Z, Y, X) the cuts of each scan, after each other."""
    scans, members, numbers = map(torch.from_numpy, (sample.scans, sample.members, sample.landmarks))
    keys = sample_keys(*draw, scans, numbers).split(cut.number)
    shared = sample_keys(*draw, members, torch.full_like(members, ALL_LANDMARKS)).split(1)
    each = zip(sample.members, keys, shared, strict=True)
    return np.concatenate([cut.volumes(boxes[scan], own, scan_key) for scan, own, scan_key in each])


def embedded_cuts(
    box: Box, cut: Windows | Whole | Planes, cache: Path | None = None, store: Store | None = None
) -> Batch:
    """What an embedder that wants these cuts is given of one scan; planes need its store."""
    if isinstance(cut, Planes):
        assert store is not None, "the landmarks of a store say where planes lie"
        volumes = planes(box, store, cut, cache)[None]
    else:
        volumes = windows(box, cut) if isinstance(cut, Windows) else whole(box, cut, cache)[None]
    return _batch(volumes, torch.zeros(1, dtype=torch.long), (len(volumes),))


def crops(boxes: Sequence[Box], keys: Tensor, cut: Crops) -> np.ndarray:
    """(M, Z, Y, X) int16 HU: a crop of each box (M), its place drawn from its key (M,)."""
    draws = uniform(keys, Stream.CROP, 3 * cut.tries).view(len(keys), cut.tries, 3).numpy()
    return np.stack([_crop(box, each, cut) for box, each in zip(boxes, draws, strict=True)])


def _crop(box: Box, draws: np.ndarray, cut: Crops) -> np.ndarray:
    """(Z, Y, X) the first crop that passes; draws (tries, 3) are uniform."""
    least, best = np.inf, np.empty(0, np.int16)
    for low in corners(box, draws, cut.extent):
        found = box.read("volume", low, low + cut.extent + [1, 0, 0])  # and the slice above
        share = tissue_share(found, cut.tissue_hu)
        if share < least:
            least, best = share, found[:-1]
        if least <= cut.most_tissue:
            break
    return best


def corners(box: Box, draws: np.ndarray, extent: Extent | np.ndarray) -> np.ndarray:
    """(n, 3) first voxels z, y, x of crops inside the lungs' own box, by uniform draws (n, 3).

    A crop that is longer than the lungs along an axis has them in its middle.
    """
    first, free = box.lungs[0], np.diff(box.lungs, axis=0)[0] - extent
    return np.where(free < 0, first + free // 2, first + (draws * (free + 1)).astype(int))


def tissue_share(hu: np.ndarray, tissue_hu: int) -> float:
    """How much of a crop is tissue; hu (Z + 1, Y, X) ends with the slice above it."""
    tissue = hu >= tissue_hu
    return float(np.where(tissue[:-1], 1.0, 0.5 * tissue[1:]).mean())


def windows(box: Box, cut: Windows) -> np.ndarray:
    """(M, Z, Y, X) int16 HU of the windows over the lungs, in the order z, y, x of their places."""
    lines = [_starts(a, b, e, cut.step) for a, b, e in zip(*box.lungs.tolist(), cut.extent, strict=True)]
    lows = np.stack(np.meshgrid(*lines, indexing="ij"), -1).reshape(-1, 3)
    first, last = lows.min(0), lows.max(0) + cut.extent
    mask, hu = (box.read(name, first, last) for name in ("mask", "volume"))
    places = [tuple(slice(a, a + e) for a, e in zip(low - first, cut.extent, strict=True)) for low in lows]
    lung = np.array([(mask[place] > 0).mean() for place in places])
    kept = np.flatnonzero((lung > 0) & (lung >= min(cut.least_lung, lung.max())))
    return np.stack([hu[places[k]] for k in kept])


def _starts(first: int, end: int, extent: int, step: float) -> np.ndarray:
    """First voxels of windows that cover first to end, at even distances of at most step x extent."""
    room = end - first - extent
    if room <= 0:
        return np.array([first + room // 2])
    count = int(np.ceil(room / (step * extent))) + 1
    return first + np.rint(np.linspace(0, room, count)).astype(int)


def whole(box: Box, cut: Whole, cache: Path | None) -> np.ndarray:
    """(Z, Y, X) int16 HU of a box on the voxels asked for; kept in the cache, and taken from there."""
    field = "x".join(f"{mm:g}" for mm in cut.field_mm) if cut.field_mm else "all"
    name = f"{box.card['digest']}-{'x'.join(map(str, cut.extent))}-{field}-r{RECIPES['box']}"
    return kept(cache, name, cut.extent, lambda: _on_voxels(box, cut))


def _on_voxels(box: Box, cut: Whole) -> np.ndarray:
    if cut.field_mm is None:
        return resized(box.whole("volume"), cut.extent)
    return around(box, box.lungs.mean(0), cut.extent, np.array(cut.field_mm) / box.spacing_mm)


def _batch(volumes: np.ndarray, subjects: Tensor, counts: tuple[int, ...]) -> Batch:
    nothing = torch.empty(0, dtype=torch.long)
    return Batch(
        patches=torch.from_numpy(volumes),
        landmarks=torch.cat([torch.arange(count) for count in (*counts, 0)]),
        random=nothing,
        scan_random=nothing,
        subjects=subjects,
        counts=counts,
        edges=torch.empty(0, 2, dtype=torch.long),
        groups=(len(counts),),
        landmark=None,
    )
