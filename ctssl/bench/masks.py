"""Registration of lung masks that somebody has, beside the settings of the released code."""

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ctssl.config import read
from ctssl.log import tell


def bench_masks(atlas: Path, masks: Sequence[Path], *, with_released: bool) -> dict[str, Any]:
    """One row a mask: what ours measures, Dice of its affine part, Dice and seconds of the released settings.

    Masks and atlas are put on 1 mm first; reading them is not timed. The first row holds the seconds that the
    import of ants takes.

    Args:
        atlas: lung mask, 1 right and 2 left, or 50 and 100.
        masks: likewise.
        with_released: measure the released settings too, which takes ten minutes a mask.
    """
    from ctssl.bench.released import released
    from ctssl.jobs.direct import read_lungs
    from ctssl.prepare.registration import register
    from ctssl.prepare.transforms import overlap

    config = read()
    settings, most = config.registration, config.limits.max_voxels
    target = read_lungs(atlas, most)
    middle = target.grid.corners_mm().mean(0, keepdims=True)
    rows = []
    for path in masks:
        scan = read_lungs(path, most)
        with tempfile.TemporaryDirectory() as name:
            start = time.monotonic()
            aligned = register(scan, target, middle, settings, Path(name))
            row = {"mask": path.name, "seconds": round(time.monotonic() - start, 1), **aligned.numbers}
            affine = overlap(scan, target, [aligned.files["affine"]])
            row |= {f"affine_{key}": value for key, value in affine.items()}
            if with_released:
                theirs = released(scan, target, Path(name), settings.threads)
                row |= {f"released_{k}": theirs[k] for k in ("seconds", "dice_right", "dice_left")}
        tell(f"bench masks: {row}")
        rows.append(row)
    return {"atlas": atlas.name, "threads": settings.threads, "rows": rows}
