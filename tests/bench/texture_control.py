"""Whether the stores show the target texture at all: how rough is each region beside the others of the scan?

For docs/results/protocol.md: `python tests/bench/texture_control.py data/hospitals results/full OUT.json`.
Not a method: 73 numbers that were made for the phantom's texture, with the probe and the folds of the study.
"""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import ndimage

from ctssl.config.evaluation import Target
from ctssl.evaluate.probes import probe
from ctssl.evaluate.splits import read_splits
from ctssl.store.reader import open_stores

FINE, COARSE = 0.8, 2.5
"""Sigmas in voxels; what lies between them is the lace, above it is noise and below it the organ."""
LUNG_HU = (-980, -700)


def roughness(patches_hu: np.ndarray) -> np.ndarray:
    """(K,) log of the median deviation inside the lung of each patch, beside the mean of all.

    Args:
        patches_hu: (K, z, y, x) of one scan. One without lung is as rough as the mean.
    """
    fine, coarse = (ndimage.gaussian_filter(patches_hu, (0, *3 * (sigma,))) for sigma in (FINE, COARSE))
    lung = (fine > LUNG_HU[0]) & (fine < LUNG_HU[1])
    lung = ndimage.binary_erosion(lung, np.ones((1, 3, 3, 3)), iterations=2)
    found = np.full(len(patches_hu), np.nan)
    for k in np.flatnonzero(lung.any(axis=(1, 2, 3))):
        found[k] = np.log(np.median(np.abs(fine[k] - coarse[k])[lung[k]]))
    return np.nan_to_num(found - np.nanmean(found))


def main(data: Path, results: Path, out: Path) -> None:
    rows = pd.read_csv(data / "scans.csv", dtype=str)
    stores = open_stores([data / "stores" / scan for scan in rows.scan])
    found = [roughness(store.patches().astype(np.float32)) for store in stores]
    features = pd.DataFrame(found, columns=[f"f{k:03}" for k in range(len(found[0]))])
    features.insert(0, "scan", rows.scan)
    features.insert(1, "subject", rows.subject)
    labels = rows.set_index("scan").texture
    first, *again = [read_splits(path) for path in sorted((results / "splits").glob("seed*.csv"))]
    target = Target(name="texture", column="texture", task="classify")
    metrics = probe(features, labels, first, target, again=again).metrics
    out.write_text(json.dumps({"accuracy": metrics["accuracy"], "auroc": metrics["auroc"]}, indent=1) + "\n")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
