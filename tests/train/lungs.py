"""Small boxes of lungs on disk, one for each scan of a synthetic cohort."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
from scipy.ndimage import gaussian_filter

from ctssl.store.boxes import box_of, open_box, write_box

SHAPE = (40, 44, 52)
"""Voxels z, y, x of every box."""


def lungs(shape=SHAPE):
    """(z, y, x) uint8: two ellipsoids, the right one at lower x, four voxels from the faces or more."""
    z, y, x = np.indices(shape)
    mask = np.zeros(shape, np.uint8)
    depth, height, width = (n / 2 for n in shape)
    for label, middle in ((1, 0.55 * width), (2, 1.45 * width)):
        far = ((z - depth) / (depth - 4)) ** 2 + ((y - height) / (height - 4)) ** 2
        mask[far + ((x - middle) / (0.55 * width - 4)) ** 2 < 1] = label
    return mask


def values(number, mask):
    """(z, y, x) HU: tissue, and lungs with a grain of the scan's own."""
    noise = np.random.default_rng([11, number]).normal(size=mask.shape)
    grain = gaussian_filter(noise, 0.6 + 0.4 * number)
    hu = np.where(mask > 0, -850 + 40 * number + 100 * grain / grain.std(), 40 + 20 * noise)
    return hu.clip(-1024, 3071).astype(np.int16)


def write(folder: Path, scan: str, number: int, atlas):
    """The box of one scan, written to `folder` and opened."""
    path, mask = folder / scan, lungs()
    path.mkdir(parents=True)
    card = {"scan": scan, "atlas": atlas.id, "spacing_mm": 1.0, "axes": "LPS", "origin_mm": [0.0, 0.0, 0.0]}
    write_box(path, values(number, mask), mask, card)
    return open_box(path, scan=scan, atlas=atlas.id)


def with_a_changed_voxel(boxes, scan):
    """The same boxes, in memory that of one scan, in which one voxel of lung is tissue."""
    box = boxes[scan]
    hu, mask = box.whole("volume"), box.whole("mask")
    lung = np.argwhere(mask)
    hu[tuple(lung[len(lung) // 2])] = 0
    return boxes | {scan: box_of(hu, mask, box.card)}


def with_boxes(people, folder: Path):
    """The same people, each scan with a box."""
    boxes = {s.scan: write(folder, s.scan, i, people.atlas) for i, s in enumerate(people.stores)}
    return SimpleNamespace(**vars(people), boxes=boxes)
