"""Settings of the stages that turn a scan into a patch store. Their values stand in config.yaml."""

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from ctssl.config.base import Section

PATCH_VOXELS = 32
"""Edge of a patch in voxels. Fixed: the published trunks halve it five times, down to one voxel."""


class Atlas(Section):
    """atlas: the chest that every scan is registered to, and the landmarks on it."""

    source: Literal["builtin"] = Field(description="builtin: the canonical anatomy of the phantom")
    spacing_mm: float = Field(gt=0, le=8, description="spacing of every volume and patch, in mm")
    pitch_mm: float = Field(gt=0, description="distance between neighbouring landmarks, in mm")
    min_lung_fraction: float = Field(ge=0, lt=1, description="keep landmarks whose patch holds more lung")


class Volume(Section):
    """volume: reading a scan and putting it on the axes and spacing of the atlas."""

    hu_min: int = Field(ge=-32768, description="lower values are set to this")
    hu_max: int = Field(le=32767, description="higher values are set to this")

    @model_validator(mode="after")
    def _window_rises(self) -> "Volume":
        if self.hu_min >= self.hu_max:
            msg = f"hu_min must be below hu_max, but they are {self.hu_min} and {self.hu_max}"
            raise ValueError(msg)
        return self


class Mask(Section):
    """mask: right (1) and left (2) lung."""

    method: Literal["lungmask", "threshold"]
    model: Literal["R231", "R231CovidWeb"] = Field(description="lungmask only: which network")
    weights: Path | None = Field(description="lungmask only: a .pth file; null lets the package download it")
    device: Literal["cpu", "cuda"] = Field(description="lungmask only")
    min_lung_l: float = Field(ge=0, description="less lung than this, in litres, means: no lungs seen")


class Registration(Section):
    """registration: affine and SyN between lung masks, with antspyx."""

    spacing_mm: float = Field(gt=0, description="grid on which masks are registered, in mm")
    affine_iterations: tuple[int, ...] = Field(description="per level, coarse to fine")
    syn_iterations: tuple[int, ...] = Field(description="per level, coarse to fine")
    gradient_step: float = Field(gt=0)
    flow_sigma: float = Field(ge=0, description="smoothing of each update, in voxels of the grid")
    total_sigma: float = Field(ge=0, description="smoothing of the whole field, in voxels of the grid")
    seed: int = Field(ge=1, description="ITK takes 0 as: seed from the clock")
    threads: int = Field(ge=1, description="changes the last bits of the result, so it is a setting")
    min_dice: float = Field(ge=0, le=1, description="a lung that overlaps the atlas less excludes the scan")


class Graph(Section):
    """graph: which landmarks are neighbours in a scan (paper Eq. 3)."""

    rho_mm: float = Field(gt=0, description="landmarks closer than this are joined")
    scale_normalised: bool = Field(description="multiply rho by the scan's size relative to the atlas")


class Store(Section):
    """store: what makes a landmark valid."""

    min_inside_fraction: float = Field(
        ge=0, le=1, description="part of a patch that must lie in the scan's field of view"
    )


class Quality(Section):
    """quality: when a scan that is used gets a warning."""

    warn_dice: float = Field(ge=0, le=1, description="per lung, against the atlas, after registration")
    warn_min_jacobian: float = Field(description="folding or near folding of the deformation")
    warn_valid_fraction: float = Field(ge=0, le=1, description="share of valid landmarks")


class Limits(Section):
    """limits: when a scan is given up, and when a cohort."""

    time_s: float = Field(gt=0, description="per scan and stage")
    memory_gb: float = Field(gt=0, description="per scan and stage, data memory of the computing process")
    max_voxels: int = Field(gt=0, description="refuse images whose header promises more voxels")
    retries: int = Field(ge=0, description="a crash or timeout that survives these excludes the scan")
    max_excluded_fraction: float = Field(ge=0, le=1, description="more excluded scans than this is a failure")
