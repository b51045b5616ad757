"""Models with random weights on disk, beside a small atlas."""

from pathlib import Path

import numpy as np
import torch
from train import synthetic

from ctssl.config.methods import OPTIONS
from ctssl.methods import load_method
from ctssl.prepare.atlas import Anatomy, Atlas, write_atlas, write_card
from ctssl.prepare.grid import Grid
from ctssl.recipes import RECIPES
from ctssl.train import weights

QUALITY = {
    f"{level}_{limit}": None
    for level in ("warn", "exclude")
    for limit in ("dice", "min_jacobian", "inverse_mm", "valid_fraction", "slice_mm")
} | {"warn_lung_range_l": None, "warn_left_right_range": None, "exclude_dice": 0.7}
REGISTRATION = {
    "spacing_mm": 10.0,
    "syn_iterations": [10],
    "gradient_step": 0.6,
    "flow_sigma": 3.0,
    "total_sigma": 0.0,
    "seed": 1,
    "threads": 1,
    "enough_dice": 0.9,
    "ct_weight": 0.0,
}


def preparation(**changes):
    """What a card says of it."""
    known = {
        "recipes": {stage: RECIPES[stage] for stage in ("volume", "register", "store", "box")},
        "volume": {"hu_min": -1024, "hu_max": 3071},
        "mask": {"method": "threshold", "min_lung_l": 0.3, "model": None, "own_weights": False},
        "registering": {
            "registration": REGISTRATION,
            "graph": {"edges": "topology"},
            "store": {"min_inside_fraction": 0.5},
        },
        "storing": {},
        "quality": QUALITY,
    }
    return known | changes


def save(folder: Path, method: str = "context-aware", chest: Atlas | None = None, **card) -> Path:
    """The path of weights of a method; changes of the card."""
    chest = chest or synthetic.atlas()
    options = synthetic.options() if method == "context-aware" else OPTIONS[method]()
    torch.manual_seed(3)
    embedder = load_method(method).build(options, chest).query
    with torch.no_grad():  # statistics of batch norm as after a training
        for name, values in embedder.named_buffers():
            if name.endswith("running_mean"):
                values.normal_(0, 0.1)
            elif name.endswith("running_var"):
                values.uniform_(0.05, 0.2)
    about = {
        "run": "small",
        "method": method,
        "options": options.model_dump(mode="json"),
        "atlas": chest.id,
        "landmarks": len(chest.landmarks_mm),
        "spacing_mm": chest.spacing_mm,
        "axes": chest.axes,
        "patch_voxels": chest.patch_voxels,
        "window_hu": [options.hu_min, options.hu_max],
        "seed": 0,
        "scans": 40,
        "subjects": 38,
        "cohort": {"laa_950_percent": [0.5, 2.25, 11.0]},
        "steps": [70, 8],
        "precision": "fp32",
        "ctssl": "0.1.0",
        "data_licence": "",
        "preparation": preparation(),
    }
    weights.save(folder, embedder, about | card)
    return folder / weights.TENSORS


def save_atlas(folder: Path, chest: Atlas | None = None, *, images: bool = True, **about) -> Path:
    """The folder, with the atlas's card, and mask, CT and lobes of a small chest."""
    chest = chest or synthetic.atlas()
    if not images:
        write_card(folder, chest, about)
        return folder
    lungs = np.zeros((6, 5, 8), np.uint8)
    lungs[1:5, 1:4, 1:3], lungs[1:5, 1:4, 5:7] = 1, 2
    hu = np.where(lungs > 0, -850, 40).astype(np.int16)
    grid = Grid((1.0, 2.0, 3.0), 8.0, (8, 5, 6), "LPS")
    write_atlas(folder, chest, Anatomy(grid, lungs, hu, lungs), about or {"source": "builtin"})
    return folder
