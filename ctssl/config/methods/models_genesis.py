"""Options of models-genesis.

[P] Models Genesis (MICCAI 2019, MedIA 2021), [C] MrGiovanni/ModelsGenesis@12f7feb, [us] our choice.
"""

from typing import ClassVar, Literal

from pydantic import Field, field_validator

from ctssl.config.augment import PRESETS, Augment
from ctssl.config.methods.base import MethodOptions

_FLIP, _CORRUPT = PRESETS["models-genesis"]
_LEVEL, _LEAST = 8, 16  # the U-Net halves three times; a painted block and its margins need the rest


class ModelsGenesis(MethodOptions):
    """models-genesis: a U-Net gives crops of the lungs back as they were before they were spoiled."""

    boxes: ClassVar[bool] = True

    epochs: int = Field(
        default=300, ge=1, description="[us] passes over the scans; [C] stops by a validation loss"
    )
    learning_rate: float = Field(
        default=1.0, gt=0, description="[P][C] at the start; [us] a cosine leads to 0, [C] halves it in steps"
    )
    sgd_momentum: float = Field(default=0.9, ge=0, lt=1, description="[C] momentum of SGD")
    weight_decay: float = Field(default=0.0, ge=0, description="[C] of the optimiser")
    hu_min: int = Field(default=-1000, description="[P][C] HU that the network sees as 0")
    hu_max: int = Field(default=1000, description="[P][C] HU that the network sees as 1")
    crop_voxels: tuple[int, int, int] = Field(
        default=(32, 64, 64),
        description="[P][C] voxels of a crop along z, y, x, multiples of 8 from 16 on. They have the atlas's "
        "spacing; [C] takes voxels as the scanner left them",
    )
    crop_batch: int = Field(default=6, ge=1, description="[P][C] scans in a step")
    crops: int = Field(default=1, ge=1, description="[us] crops of each of them; [C] mixes 32 of all scans")
    tissue_hu: int = Field(default=-150, description="[C] voxels from here on are tissue")
    most_tissue: float = Field(
        default=0.15, ge=0, le=1, description="[C] a crop with a larger share of tissue is drawn again"
    )
    tries: int = Field(
        default=20,
        ge=1,
        le=1000,
        description="[us] places that are drawn; if all have more tissue, the crop with least counts",
    )
    bn_groups: int = Field(
        default=1, ge=1, description="[C] groups of a step's scans with their own batch norm statistics"
    )
    batch_statistics: bool = Field(
        default=False,
        description="[C] true: features, too, are normalised by the statistics of what is embedded together; "
        "false [us]: by running statistics",
    )
    axes: Literal["zyx", "xyz"] = Field(
        default="zyx",
        description="[us] order of the axes that the network sees; [C] xyz, so an import says that",
    )
    flip: Augment = Field(default=_FLIP, description="[C] what is done to a crop and to its target")
    corrupt: Augment = Field(default=_CORRUPT, description="[P][C] what is done to the input only")
    window_step: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="[us] features: distance of windows over the lungs, share of crop_voxels at most",
    )
    least_lung: float = Field(
        default=0.1, ge=0, le=1, description="[us] features: share of lung below which a window is left out"
    )

    @field_validator("crop_voxels")
    @classmethod
    def _halves_thrice(cls, voxels: tuple[int, int, int]) -> tuple[int, int, int]:
        if any(n % _LEVEL or n < _LEAST for n in voxels):
            msg = f"crop_voxels are multiples of {_LEVEL} from {_LEAST} on"
            raise ValueError(msg)
        return voxels
