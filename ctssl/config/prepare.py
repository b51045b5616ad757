"""Settings of the stages that turn a scan into a patch store. Their values stand in config.yaml."""

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from ctssl.config.base import Section


class Atlas(Section):
    """atlas: the chest that every scan is registered to, and the landmarks on it."""

    source: Literal["builtin", "file", "scan", "template"] = Field(
        description="builtin: the phantom's canonical chest; file: a lung mask; scan: one scan of the "
        "manifest; template: the mean of several"
    )
    spacing_mm: float = Field(ge=0.2, le=8, description="spacing of every volume and patch, in mm")
    patch_voxels: int = Field(ge=16, le=64, multiple_of=2, description="edge of a patch")
    pitch_mm: float = Field(ge=2, le=1000, description="distance between neighbouring landmarks, in mm")
    min_lung_fraction: float | None = Field(
        ge=0, lt=1, description="keep landmarks whose patch holds more lung; null with a list of landmarks"
    )
    mask: Path | None = Field(description="file: lung mask with a value for each lung")
    ct: Path | None = Field(description="file: the CT of that chest, or null")
    landmarks: Path | None = Field(description="file: .npy (N, 3) or .csv with x, y, z; null: a grid")
    landmark_points: Literal["corners", "centres"] | None = Field(
        description="corners: lowest voxel of 32-voxel cubes, as published; centres: in LPS mm"
    )
    scans: tuple[str, ...] = Field(description="ids of the manifest; scan: one, template: two or more")

    @model_validator(mode="after")
    def _keys_fit_the_source(self) -> "Atlas":
        of_file = {"mask": self.mask, "ct": self.ct, "landmarks": self.landmarks}
        listed = self.landmarks is not None
        faults = [
            f"{key} goes with source: file only"
            for key, value in (of_file | {"landmark_points": self.landmark_points}).items()
            if value is not None and self.source != "file"
        ]
        if self.source == "file" and self.mask is None:
            faults.append("source: file needs mask, an image of the lungs")
        if listed != (self.landmark_points is not None):
            faults.append("landmarks and landmark_points (corners or centres) go together")
        if listed and self.min_lung_fraction is not None:
            faults.append("given landmarks are all kept: min_lung_fraction must be null")
        if not listed and self.min_lung_fraction is None:
            faults.append("a grid of landmarks needs min_lung_fraction")
        faults += self._scan_faults()
        if faults:
            raise ValueError("; ".join(faults))
        return self

    def _scan_faults(self) -> list[str]:
        twice = sorted({scan for scan in self.scans if self.scans.count(scan) > 1})
        if twice:
            return [f"scans come twice: {', '.join(twice)}"]
        count = len(self.scans)
        if self.source == "scan" and count != 1:
            return [f"source: scan needs scans: [ID], one id of the manifest, but there are {count}"]
        if self.source == "template" and count < 2:
            return [f"source: template needs two or more ids of the manifest in scans, but there are {count}"]
        if self.source in ("builtin", "file") and count:
            return [f"scans go with source: scan or template, not {self.source}"]
        return []


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
    model: Literal["R231", "LTRCLobes", "R231CovidWeb"] = Field(
        description="lungmask only: which network; what LTRCLobes leaves out is filled by R231"
    )
    weights: Path | None = Field(
        description="lungmask only: a .pth file, or a folder with the released files (LTRCLobes needs two); "
        "null downloads them"
    )
    device: Literal["cpu", "cuda"] = Field(description="lungmask only")
    min_lung_l: float = Field(ge=0, description="less lung than this, in litres, means: no lungs seen")


class Registration(Section):
    """registration: affine and SyN between lung masks, with antspyx."""

    spacing_mm: float = Field(ge=0.5, le=50, description="grid on which masks are registered, in mm")
    syn_iterations: tuple[int, ...] = Field(description="per level, coarse to fine")
    gradient_step: float = Field(gt=0)
    flow_sigma: float = Field(ge=0, description="smoothing of each update, in voxels of the grid")
    total_sigma: float = Field(ge=0, description="smoothing of the whole field, in voxels of the grid")
    seed: int = Field(ge=1, lt=2**31, description="ITK takes 0 as: seed from the clock")
    threads: int = Field(ge=1, le=1024, description="changes the last bits of the result, so it is a setting")
    enough_dice: float = Field(
        ge=0, le=1, description="a lung that overlaps the atlas less makes the scan try other starts"
    )
    ct_weight: float = Field(
        ge=0, description="of the CT inside the lungs beside the masks; 0 takes the masks alone"
    )


class Graph(Section):
    """graph: which landmarks are neighbours in a scan."""

    edges: Literal["topology", "distance", "overlap"] = Field(
        description="topology: the atlas's neighbours; distance: closer than rho (paper Eq. 3); overlap: "
        "patches that share more than min_overlap (released code)"
    )
    rho_mm: float = Field(gt=0, description="distance: landmarks closer than this are joined")
    min_overlap: float = Field(ge=0, lt=1, description="overlap: share of a patch's volume")
    scale_normalised: bool = Field(
        description="distance, overlap: measure relative to the scan's size, that of the atlas being 1"
    )


class Store(Section):
    """store: what makes a landmark valid; whether training reads a packed copy."""

    min_inside_fraction: float = Field(
        ge=0, le=1, description="part of a patch that must lie in the scan's field of view"
    )
    packed: bool = Field(description="pretrain from a copy of all stores in files of many scans each")


class Quality(Section):
    """quality: when a scan gets a warning, and when it is left out; null: never."""

    warn_dice: float | None = Field(ge=0, le=1, description="a lung overlaps the atlas less")
    exclude_dice: float | None = Field(ge=0, le=1)
    warn_min_jacobian: float | None = Field(description="folding or near folding of the deformation")
    exclude_min_jacobian: float | None
    warn_inverse_mm: float | None = Field(
        ge=0, description="95th percentile of how far the way to the atlas and back leads astray"
    )
    exclude_inverse_mm: float | None = Field(ge=0)
    warn_valid_fraction: float | None = Field(ge=0, le=1, description="share of valid landmarks")
    exclude_valid_fraction: float | None = Field(ge=0, le=1)
    warn_slice_mm: float | None = Field(gt=0, description="the largest spacing of the scan is larger")
    exclude_slice_mm: float | None = Field(gt=0)
    warn_lung_range_l: tuple[float, float] | None = Field(
        description="both lungs together hold less or more litres"
    )
    warn_left_right_range: tuple[float, float] | None = Field(
        description="volume of the left lung / right lung; far above 1 may be a mirrored scan"
    )

    @field_validator("warn_lung_range_l", "warn_left_right_range")
    @classmethod
    def _range_rises(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and value[0] >= value[1]:
            msg = f"a range is [low, high], but this is [{value[0]:g}, {value[1]:g}]"
            raise ValueError(msg)
        return value


class Limits(Section):
    """limits: when a scan is given up, and when a cohort."""

    time_s: float = Field(ge=1, le=1e7, description="per scan and stage")
    memory_gb: float = Field(
        ge=0.1, le=1e5, description="per scan and stage, data memory of the computing process"
    )
    max_voxels: int = Field(gt=0, le=10**12, description="refuse images whose header promises more voxels")
    retries: int = Field(ge=0, le=100, description="a crash or timeout that survives these excludes the scan")
    max_excluded_fraction: float = Field(ge=0, le=1, description="more excluded scans than this is a failure")
