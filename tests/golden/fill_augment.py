"""Writes augment_monai.npz: what MONAI's own transforms do at the released parameters.

    pip install --no-deps monai==0.3.0      # the release's version; runs with torch 2.13
    python tests/golden/fill_augment.py

The tests import `patch`, `released` and the parameters, and need MONAI only to compare live.
Source of the parameters: batmanlab/Context_Aware_SSL@6fa7acb.
"""

from pathlib import Path

import numpy as np

GOLDEN = Path(__file__).parent / "augment_monai.npz"
PLACES = np.array([[16, 16, 16], [16, 16, 24], [8, 16, 16], [16, 0, 16], [0, 0, 0], [31, 31, 31], [3, 20, 9]])
"""Voxels z, y, x at which displacements are looked at."""

DECILES = np.linspace(0.1, 0.9, 9)
RADIANS = np.pi / 18
WARP = {"rotate_range": (RADIANS,) * 3, "translate_range": (12,) * 3, "scale_range": (0.1,) * 3}


def patch():
    """(32, 32, 32) values from 0 to 1264, of other frequencies along each axis, no two faces alike."""
    z, y, x = np.meshgrid(*[np.arange(32.0)] * 3, indexing="ij")
    waves = np.sin(0.9 * z + 0.3) + np.sin(0.45 * y + 0.1 * z) + np.sin(0.2 * x + 1) + 0.03 * z - 0.05 * x
    grain = np.random.default_rng(0).normal(size=(32, 32, 32))
    values = waves + 0.3 * grain
    return ((values - values.min()) / np.ptp(values) * 1264).astype(np.float32)


def numbers(views):
    """(n, 11) of each of (n, 32, 32, 32) views: moments, extremes, correlation with neighbours, values."""
    flat = views.reshape(len(views), -1).astype(np.float64)
    plain = [flat.mean(1), flat.std(1), flat.min(1), flat.max(1), np.median(flat, 1)]
    centred = views - flat.mean(1)[:, None, None, None]
    power = (centred**2).mean((1, 2, 3)) + 1e-9
    pairs = [
        (centred.take(range(31), a) * centred.take(range(1, 32), a)).mean((1, 2, 3)) / power
        for a in (1, 2, 3)
    ]
    return np.stack([*plain, *pairs, views[:, 16, 16, 16], views[:, 2, 5, 28], views[:, 30, 16, 1]], 1)


def released(count):
    """What MONAI draws and makes, `count` times: a dict of arrays with that many rows."""
    from monai.transforms import Rand3DElastic, RandAdjustContrast, RandGaussianNoise

    contrast = RandAdjustContrast(prob=0.25, gamma=(0.5, 4.5))
    noise = RandGaussianNoise(prob=0.25, std=50)
    ranges = {"sigma_range": (8, 12), "magnitude_range": (0, 1264), "prob": 1.0, "padding_mode": "border"}
    warp, bare = Rand3DElastic(**ranges, **WARP), Rand3DElastic(**ranges)
    for i, transform in enumerate((contrast, noise, warp, bare)):
        transform.set_random_state(seed=i)
    bare.resampler = lambda image, grid, **kwargs: np.asarray(grid)
    start = np.arange(32) - 15.5
    image, views, shifts = patch()[None], [], []
    for _ in range(count):
        views.append(np.asarray(warp(noise(contrast(image))))[0])
        z, y, x = PLACES.T
        moved = bare(image)[:3, z, y, x]
        shifts.append(moved - start[PLACES].T)
    return {"views": numbers(np.stack(views)), "shifts": np.stack(shifts)}


def affines(count):
    """(count, 3, 4): MONAI's random matrices, read from where it sends four points."""
    from monai.transforms.spatial.array import RandAffineGrid

    grid = RandAffineGrid(WARP["rotate_range"], None, WARP["translate_range"], WARP["scale_range"])
    grid.set_random_state(seed=9)
    points = np.zeros((4, 2, 2, 2))
    points[3] = 1
    points[0, 1, 0, 0] = points[1, 0, 1, 0] = points[2, 0, 0, 1] = 1
    out = []
    for _ in range(count):
        sent = np.asarray(grid(grid=points.copy()))[:3]
        zero = sent[:, 0, 0, 0]
        columns = [sent[:, 1, 0, 0] - zero, sent[:, 0, 1, 0] - zero, sent[:, 0, 0, 1] - zero, zero]
        out.append(np.stack(columns, 1))
    return np.stack(out)


def examples():
    """Three warps with all that went into them, and three contrasts."""
    from monai.transforms import Rand3DElastic
    from monai.transforms.intensity.array import AdjustContrast

    warp = Rand3DElastic((8, 12), (0, 1264), prob=1.0, padding_mode="border", **WARP)
    kept = {"angles": [], "shift": [], "scale": [], "sigma": [], "magnitude": [], "seed": [], "warped": []}
    for seed in (11, 12, 13):
        warp.set_random_state(seed=seed)
        warped = np.asarray(warp(patch()[None]))[0]
        grid = warp.rand_affine_grid
        found = (grid.rotate_params, grid.translate_params, grid.scale_params, warp.sigma, warp.magnitude)
        for name, value in zip(kept, (*found, seed, warped[::3, ::4, ::5]), strict=True):
            kept[name].append(value)
    gammas = np.array([0.6, 1.7, 4.4])
    contrast = np.stack([np.asarray(AdjustContrast(g)(patch()))[::3, ::4, ::5] for g in gammas])
    return {**{k: np.array(v) for k, v in kept.items()}, "gammas": gammas, "contrast": contrast}


def main():
    import monai

    count = 3000
    drawn, matrices = released(count), affines(20_000)
    np.savez_compressed(
        GOLDEN,
        monai=monai.__version__,
        count=count,
        views=np.quantile(drawn["views"], DECILES, axis=0).astype(np.float32),
        shifts=np.quantile(drawn["shifts"], DECILES, axis=0).astype(np.float32),
        covariance=np.cov(drawn["shifts"][:, 0].T).astype(np.float32),
        affine=np.quantile(matrices, DECILES, axis=0).astype(np.float32),
        affine_count=len(matrices),
        **{k: v.astype(np.float32) if v.dtype.kind == "f" else v for k, v in examples().items()},
    )


if __name__ == "__main__":
    main()
