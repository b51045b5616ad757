"""How fast patches are read at random, beside zarr-python and a memory map of the same patches."""

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from ctssl.store.layout import GROUP, StoreArrays
from ctssl.store.packed import open_packed, pack
from ctssl.store.reader import Store, open_stores, read_patches
from ctssl.store.writer import write_store

LANDMARKS = 581
"""Of a scan, as the published atlas has."""
BATCH = 128
ZARR_BATCHES = 20
"""zarr-python would take a minute for all."""
OPENED = 1024
_SUBJECTS, _SEED, _SPACING_MM, _PITCH_MM = 4, 7, 2.0, 26.0

Reader = Callable[[np.ndarray, np.ndarray], np.ndarray]


def bench_store(scans: int, rounds: int, folder: Path | None = None) -> dict[str, Any]:
    """Patches, scans and openings a second, the best of some rounds, and bytes on disk beside raw int16.

    The patches are a phantom's. In a round every reader is opened anew and reads the same patches in the same
    random order, batch by batch, each patch once; the files are in memory. zarr-python reads the first
    batches only. `memmap_again_patches_per_s` is a second pass over maps whose pages have been visited.

    Args:
        scans: stores to make, of 581 patches each.
        rounds: in turn over all readers.
        folder: where they are made; None: a temporary one.
    """
    with tempfile.TemporaryDirectory(dir=folder) as name:
        start = time.monotonic()
        paths = stores_of_phantoms(Path(name), scans)
        made = time.monotonic() - start
        stores = open_stores(paths)
        start = time.monotonic()
        pack(Path(name) / "packed", stores)
        packed = time.monotonic() - start
        rates = [_round(Path(name), paths, number) for number in range(rounds)]
        best = {key: round(max(rate[key] for rate in rates)) for key in rates[0]}
        raw = scans * LANDMARKS * 2 * stores[0]._patches.edge ** 3
        return {
            **best,
            "times_zarr_python": round(best["random_patches_per_s"] / best["zarr_python_patches_per_s"], 2),
            "share_of_memmap": round(best["random_patches_per_s"] / best["memmap_patches_per_s"], 3),
            "bytes_ratio": round(sum(_bytes(path) for path in paths) / raw, 4),
            "packed_bytes_ratio": round(_bytes(Path(name) / "packed") / raw, 4),
            "scans": scans,
            "landmarks": LANDMARKS,
            "batch": BATCH,
            "rounds": rounds,
            "make_seconds": round(made, 1),
            "pack_seconds": round(packed, 1),
            "cpus": os.cpu_count(),
            "load_average": round(os.getloadavg()[0], 1),
        }


def stores_of_phantoms(folder: Path, scans: int) -> list[Path]:
    """The stores' directories; a raw copy of each one's patches lies beside it as .npy.

    A few phantoms, mirrored and turned: 16 stores of one compress alike and are read alike.
    """
    subjects = _phantoms(min(_SUBJECTS, scans))
    paths = [folder / f"scan{number:04}" for number in range(scans)]

    def make(number: int) -> None:
        arrays, way = subjects[number % len(subjects)], number // len(subjects)
        patches = np.flip(arrays.patches, [axis + 1 for axis in range(3) if way >> axis & 1])
        patches = np.ascontiguousarray(patches.swapaxes(2, 3) if way >> 3 & 1 else patches)
        paths[number].mkdir()
        values = {**vars(arrays), "patches": patches}
        write_store(paths[number], StoreArrays(**values), {"scan": paths[number].name, "atlas": "bench"})
        np.save(paths[number].with_suffix(".npy"), patches)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(make, range(scans)))
    return paths


def _phantoms(count: int) -> list[StoreArrays]:
    from ctssl.cohorts.phantom.oracle import MIN_LUNG_FRACTION, oracle_arrays
    from ctssl.cohorts.phantom.scan import make_scan, true_points
    from ctssl.cohorts.phantom.scanner import Scanner
    from ctssl.cohorts.phantom.subject import draw_subject
    from ctssl.prepare.atlas import builtin_atlas

    atlas, chest = builtin_atlas(
        spacing_mm=_SPACING_MM, patch_voxels=32, pitch_mm=_PITCH_MM, min_lung_fraction=MIN_LUNG_FRACTION
    )
    scanner, made = Scanner(spacing_mm=_SPACING_MM, slice_mm=_SPACING_MM), []
    for number in range(count):
        subject = draw_subject(_SEED, number)
        points = true_points(subject, scanner, atlas.landmarks_mm)
        whole = oracle_arrays(make_scan(subject, scanner, chest), points, atlas)
        first = {name: values[:LANDMARKS] for name, values in vars(whole).items() if name != "edges"}
        assert len(first["valid"]) == LANDMARKS, "the atlas of this benchmark has at least as many"
        made.append(StoreArrays(**first, edges=whole.edges[(whole.edges < LANDMARKS).all(1)]))
    return made


def _round(folder: Path, paths: Sequence[Path], number: int) -> dict[str, float]:
    """Units a second of each reader, opened anew, all in the same order."""
    scans, landmarks = len(paths), LANDMARKS
    order = np.random.default_rng([_SEED, number]).permutation(scans * landmarks)
    batches = [np.divmod(order[i : i + BATCH], landmarks) for i in range(0, len(order), BATCH)]
    stores = open_stores(paths)
    digests = {store.scan: store.card["digest"] for store in stores}
    packed = open_packed(folder / "packed", digests, atlas="bench")
    maps = _of_maps(paths)
    few = batches[:ZARR_BATCHES]
    return {
        "random_patches_per_s": _rate(_of_stores(stores), batches),
        "memmap_patches_per_s": _rate(maps, batches),
        "memmap_again_patches_per_s": _rate(maps, batches),
        "zarr_python_patches_per_s": _rate(_of_zarr(paths), few),
        "packed_patches_per_s": _rate(_of_stores(packed), batches),
        "scan_reads_per_s": _scans_a_second(open_stores(paths), number),
        "open_stores_per_s": _openings_a_second(paths),
    }


def _of_stores(stores: Sequence[Store]) -> Reader:
    return lambda scans, landmarks: read_patches(stores, scans, landmarks)


def _of_maps(paths: Sequence[Path]) -> Reader:
    maps = [np.load(path.with_suffix(".npy"), mmap_mode="r", allow_pickle=False) for path in paths]

    def read(scans: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
        out = np.empty((len(scans), *maps[0].shape[1:]), np.int16)
        for place, (scan, landmark) in enumerate(zip(scans, landmarks, strict=True)):
            out[place] = maps[scan][landmark]
        return out

    return read


def _of_zarr(paths: Sequence[Path]) -> Reader:
    import zarr

    arrays: list[Any] = [zarr.open_group(path / GROUP, mode="r")["patches"] for path in paths]
    return lambda scans, landmarks: np.stack(
        [arrays[scan][int(landmark)] for scan, landmark in zip(scans, landmarks, strict=True)]
    )


def _rate(read: Reader, batches: Sequence[tuple[np.ndarray, np.ndarray]]) -> float:
    start = time.perf_counter()
    patches = sum(len(read(scans, landmarks)) for scans, landmarks in batches)
    return patches / (time.perf_counter() - start)


def _scans_a_second(stores: Sequence[Store], number: int) -> float:
    order = np.random.default_rng([_SEED, number, 1]).permutation(len(stores))
    start = time.perf_counter()
    for scan in order:
        stores[scan].patches()
    return len(order) / (time.perf_counter() - start)


def _openings_a_second(paths: Sequence[Path]) -> float:
    many = [paths[number % len(paths)] for number in range(OPENED)]
    start = time.perf_counter()
    open_stores(many)
    return OPENED / (time.perf_counter() - start)


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in _files(folder))


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())
