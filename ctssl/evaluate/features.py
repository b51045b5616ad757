"""Features: one row per scan from frozen weights, with a cache so that a new scan costs one scan."""

import json
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from ctssl.errors import CohortError, StoreError
from ctssl.evaluate.kept import keep, kept
from ctssl.log import Progress
from ctssl.methods import Embedder
from ctssl.prepare.atlas import Atlas
from ctssl.recipes import RECIPES
from ctssl.store.boxes import Box
from ctssl.store.reader import Store
from ctssl.train import weights as model_weights
from ctssl.train.batches import Cohort, read_batch, scan_sample
from ctssl.train.cuts import Whole, Windows, embedded_cuts
from ctssl.train.device import claim, exact_float32
from ctssl.train.planes import Planes


def extract(
    weights: Path,
    atlas: Atlas,
    stores: Sequence[Store],
    subjects: Sequence[str],
    *,
    cache: Path,
    out: Path,
    device: str,
    threads: int,
    boxes: Callable[[], Mapping[str, Box]] = dict,
    volumes: Path | None = None,
) -> None:
    """Write a parquet table with columns scan, subject, f000, f001, ... (float32), rows as given.

    Scans are embedded one at a time in float32, so a row does not depend on the other scans.

    Args:
        weights: model.safetensors with model.json beside it.
        atlas: of stores and weights.
        stores: the scans.
        subjects: the subject of each.
        cache: folder of one .npy per store, model and recipe.
        out: the table.
        device: cuda, cpu or auto.
        threads: of the CPU.
        boxes: scan -> box, asked if the method embeds what is cut from them; a scan without one is left out.
        volumes: cache of whole volumes on other voxels; None: none are kept.

    Raises:
        WeightsError: the weights are damaged or of another atlas.
        CohortError: there is no scan, or one shows no landmark; none has a box.
    """
    empty = [s.scan for s in stores if not s.valid.any()]
    if empty or not stores:
        raise CohortError(
            f"features need scans that show a landmark, but these do not: {', '.join(empty)}"
            if empty
            else "features need at least one scan, but there is none",
            "exclude such scans in the manifest; failures.csv names what was excluded already",
        )
    torch.set_num_threads(threads)
    exact_float32()
    model = model_weights.load(weights, atlas)
    cache.mkdir(parents=True, exist_ok=True)
    how, rows = how_made(model.card), []
    found = boxes() if hasattr(model.embedder, "cut") else None
    chosen = [pair for pair in zip(stores, subjects, strict=True) if found is None or pair[0].scan in found]
    if not chosen:
        raise CohortError("no scan has a box of its lungs", "the lines above say why")
    with claim(device) as where, Progress("features", len(chosen), "scans") as progress:
        embedder = model.embedder.to(where)
        for store, subject in chosen:
            box = found[store.scan] if found is not None else None
            place = cache / f"{(box or store).card['digest']}-{how}.npy"
            features = kept(place)
            if features is None:
                args = (embedder, store, where) if box is None else (embedder, store, where, box, volumes)
                features = embed_scan(*args)
                keep(place, features)
            rows.append((store.scan, subject, features))
            progress.advance()
    write_table(out, rows, how)


def embed_scan(
    embedder: Embedder,
    store: Store,
    device: torch.device,
    box: Box | None = None,
    volumes: Path | None = None,
) -> np.ndarray:
    """(D,) float32 features of one scan.

    Args:
        embedder: on the device.
        store: of the scan.
        device: where to compute.
        box: of the scan's lungs, for an embedder that has a `cut`.
        volumes: cache of whole volumes on other voxels; None: none are kept.

    Raises:
        StoreError: the embedder needs a box.
    """
    cut: Windows | Whole | Planes | None = getattr(embedder, "cut", None)
    if cut is not None:
        if box is None:
            message = f"these features are of the box of the lungs, and scan {store.scan} has none"
            raise StoreError(message, "the workflow's rule box makes it from the scan's volume")
        return embedder.embed(embedded_cuts(box, cut, volumes, store).to(device))[0].cpu().numpy()
    cohort = Cohort(store.valid[None], np.zeros(1, np.int64))
    batch = read_batch([store], cohort, scan_sample(cohort, np.zeros(1, np.int64)))
    return embedder.embed(batch.to(device))[0].cpu().numpy()


def write_table(out: Path, rows: Sequence[tuple[str, str, np.ndarray]], made_by: str = "") -> None:
    """Write scan, subject and features (D,) of each row as parquet.

    `made_by` names what makes such features: it goes with the table (attrs), so that a probe of other
    features is not taken for one of these.
    """
    values = np.stack([row[2] for row in rows]).astype(np.float32)
    table = pd.DataFrame(values, columns=[f"f{i:03}" for i in range(values.shape[1])])
    table.insert(0, "scan", [row[0] for row in rows])
    table.insert(1, "subject", [row[1] for row in rows])
    table.attrs["made_by"] = made_by
    out.parent.mkdir(parents=True, exist_ok=True)
    table.to_parquet(out, index=False, write_page_checksum=True)


def how_made(card: dict[str, Any]) -> str:
    """sha256 of all but the scan that features depend on: weights, method, options, recipe."""
    parts = [RECIPES["features"], *(card[key] for key in ("sha256", "method", "options"))]
    return sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
