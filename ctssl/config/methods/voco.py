"""Options of voco.

[P] VoCo (CVPR 2024, arXiv 2402.17300) as far as its authors' account of it tells, [C] Luffy03/VoCo@ba7b7bd,
[us] our choice.
"""

from typing import ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from ctssl.config.augment import PRESETS, Augment
from ctssl.config.methods.base import MethodOptions

_MOST = 512  # voxels of a side that a machine holds
_DEEPEST = {"light": (16, 16), "swin": (32, 64)}  # trunk -> what a side is a multiple of, and its least


class Voco(MethodOptions):
    """voco: where does a crop of the lungs lie, told by its likeness to crops side by side over them."""

    boxes: ClassVar[bool] = True

    epochs: int = Field(default=100, ge=1, description="[us] passes over the scans; [C] 250,000 steps")
    learning_rate: float = Field(
        default=1e-4, gt=0, description="[C] at the start; a cosine leads to 0, [C] after 5,000 rising steps"
    )
    sgd_momentum: float = Field(default=0.9, ge=0, lt=1, description="[C] momentum, or Adam's first beta")
    weight_decay: float = Field(
        default=0.0,
        ge=0,
        description="[us] of the optimiser; [C] 0.01 apart from the gradient, 1e-6 of a weight in a step",
    )
    optimiser: Literal["sgd", "adam"] = Field(
        default="adam", description="[us] `adam`, or `sgd`, which wants another rate; [C] AdamW with amsgrad"
    )
    hu_min: int = Field(
        default=-1024,
        description="[us] HU that the network sees as 0; [C] -175, as which lung is all 0, so an import says",
    )
    hu_max: int = Field(default=240, description="[us] HU that the network sees as 1; [C] 250")
    trunk: Literal["light", "swin"] = Field(
        default="light",
        description="[us] `light`: a small pyramid of convolutions; [P][C] `swin`: the encoder of a "
        "SwinUNETR, which needs the extra voco",
    )
    width: int = Field(
        default=16,
        ge=1,
        le=512,
        description="[us] of trunk light: channels of its first level; features are 15 x",
    )
    feature_size: Literal[48, 96, 192] = Field(
        default=48, description="[C] of trunk swin: its width, features are 24 x; an import reads it"
    )
    use_v2: bool = Field(
        default=True,
        description="[C] of trunk swin: a convolution before each stage; an import sees whether there is one",
    )
    crop_voxels: tuple[int, int, int] = Field(
        default=(64, 64, 64),
        description="[us] voxels of a crop, and of a window, along z, y, x, at the atlas's spacing, so that "
        "size stays; multiples of 16, for trunk swin of 32 from 64 on. [C] 96 of a stretched scan, then 64",
    )
    grid: tuple[int, int] = Field(
        default=(4, 4),
        description="[P][C] base crops along y and x, side by side, somewhere in the lungs where these are "
        "larger, else around their middle",
    )
    random_crops: int = Field(default=2, ge=1, le=64, description="[C] crops among them of a scan in a step")
    crop_batch: int = Field(default=2, ge=1, description="[C] scans in a step")
    bn_groups: int = Field(
        default=1, ge=1, description="[C] groups of a step's scans with their own batch norm statistics"
    )
    projection_size: int = Field(
        default=2048, ge=2, description="[C] width of the three dense layers before what is compared"
    )
    form: Literal["teacher", "paper"] = Field(
        default="teacher",
        description="[C] `teacher`: a network that follows makes half of what is compared; [P] `paper`: none",
    )
    momentum: float = Field(default=0.9, ge=0, lt=1, description="[C] with which the teacher follows")
    augment: Augment = Field(
        default=PRESETS["voco"][0],
        description="[C] what is done to each crop for itself; turns want as many voxels along y as along x",
    )
    window_step: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="[us] features: distance of windows over the lungs, share of crop_voxels at most",
    )
    least_lung: float = Field(
        default=0.1, ge=0, le=1, description="[us] features: share of lung below which a window is left out"
    )

    @field_validator("grid")
    @classmethod
    def _has_several_bases(cls, grid: tuple[int, int]) -> tuple[int, int]:
        if min(grid) < 1 or not 2 <= grid[0] * grid[1] <= 64:
            msg = f"grid is two numbers from 1 on, of 2 to 64 base crops together, but this is {list(grid)}"
            raise ValueError(msg)
        return grid

    @model_validator(mode="after")
    def _crops_fit_the_trunk(self) -> "Voco":
        multiple, least = _DEEPEST[self.trunk]
        if not all(least <= side <= _MOST and side % multiple == 0 for side in self.crop_voxels):
            msg = (
                f"crop_voxels of trunk {self.trunk} are multiples of {multiple} from {least} to {_MOST}, "
                f"but these are {list(self.crop_voxels)}"
            )
            raise ValueError(msg)
        return self
