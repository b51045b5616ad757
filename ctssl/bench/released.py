"""The registration of the released code, to be measured beside ours on any masks."""

import time
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np

from ctssl.prepare.lungs import Lungs
from ctssl.prepare.registration import ants_image, ants_with
from ctssl.prepare.transforms import overlap

_AFFINE = "released_"
_VALUES = np.array([0, 50, 100], np.float32)  # of nothing, right and left lung in the published atlas


def released(scan: Lungs, atlas: Lungs, folder: Path, threads: int = 1) -> dict[str, Any]:
    """seconds, dice_right, dice_left and the affine's file, with the settings of the released code.

    It takes minutes: masks enter at their full resolution.

    Args:
        scan: brought to the atlas.
        atlas: of the same study.
        folder: gets the affine.
        threads: of the computation.

    Source: batmanlab/Context_Aware_SSL, preprocessing: antsRegistration from centres of mass, one affine
        stage with gradient step 0.01, mutual information with 32 bins on half of the voxels, iterations 500,
        250, 100, shrink factors 4, 2, 1, smoothing 2, 1, 0 voxels.
    """
    ants = ants_with(threads)
    from ants.internal import get_pointer_string as pointer

    fixed, moving = (ants_image(ants, _VALUES[lungs.mask], lungs.grid) for lungs in (atlas, scan))
    images = f"{pointer(fixed)},{pointer(moving)}"
    args = ["-d", "3", "-r", f"[{images},1]", "--float", "1", "-z", "1", "-u", "0", "-o", _AFFINE]
    args += ["-m", f"MI[{images},1,32,Regular,0.5]", "-t", "Affine[0.01]"]
    args += ["-c", "[500x250x100,1e-6,10]", "-f", "4x2x1", "-s", "2x1x0"]
    start = time.monotonic()
    with chdir(folder):  # ants stumbles over brackets in paths
        ants.registration(args, None)
    seconds = time.monotonic() - start
    affine = folder / f"{_AFFINE}0GenericAffine.mat"
    return {"seconds": round(seconds, 1), **overlap(scan, atlas, [affine]), "affine": affine}
