"""Options of methods whose weights come from elsewhere and stay as they are.

[P] the paper, [C] the released code, [us] our choice. Sources: MedicalNet (Med3D, arXiv 1904.00625),
Tencent/MedicalNet@20f76aa; PCRL (ICCV 2021), Luchixiang/PCRL@197bf91; VoCo (CVPR 2024), Luffy03/VoCo@ba7b7bd.
"""

from typing import ClassVar, Literal

from pydantic import Field, field_validator

from ctssl.config.methods.base import MethodOptions

Extent = tuple[int, int, int]


class Frozen(MethodOptions):
    """A network that is imported and not trained: keys of training have no effect."""

    boxes: ClassVar[bool] = True
    frozen: ClassVar[bool] = True


class MedicalNet(Frozen):
    """medicalnet: a dilated ResNet, trained to segment 23 data sets; it sees the whole box of the lungs."""

    hu_min: int = Field(default=-1024, description="[us] HU at which a voxel is outside of the body")
    hu_max: int = Field(default=3071, description="[C] nothing is cut above, which is the end of HU")
    depth: Literal[10, 18, 34, 50] = Field(default=50, description="[P] layers; an import reads it")
    volume_voxels: Extent = Field(
        default=(56, 448, 448), description="[C] voxels along z, y, x that the lungs' box is resized to"
    )

    @field_validator("volume_voxels")
    @classmethod
    def _is_a_volume(cls, voxels: Extent) -> Extent:
        return _sides(voxels, "volume_voxels", 1)


class Windowed(Frozen):
    """A network that sees windows over the lungs, of which the features' mean is taken."""

    window_step: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="[us] distance of windows over the lungs, share of crop_voxels at most",
    )
    least_lung: float = Field(
        default=0.1, ge=0, le=1, description="[us] share of lung below which a window is left out"
    )


class Pcrl(Windowed):
    """pcrl: the 3-D U-Net of PCRL, down to its bottleneck."""

    hu_min: int = Field(default=-1000, description="[C] HU that the network sees as 0")
    hu_max: int = Field(default=1000, description="[C] HU that the network sees as 1")
    crop_voxels: Extent = Field(
        default=(32, 64, 64), description="[P][C] voxels of a window along z, y, x, multiples of 8"
    )

    @field_validator("crop_voxels")
    @classmethod
    def _halves_three_times(cls, voxels: Extent) -> Extent:
        return _sides(voxels, "crop_voxels", 8)


class Voco(Windowed):
    """voco: the encoder of the SwinUNETR of VoCo."""

    hu_min: int = Field(default=-175, description="[C] HU that the network sees as 0: lung is all 0, too")
    hu_max: int = Field(default=250, description="[C] HU that the network sees as 1")
    crop_voxels: Extent = Field(
        default=(64, 64, 64), description="[C] voxels of a window along z, y, x, multiples of 32 from 64"
    )
    feature_size: Literal[48, 96, 192] = Field(default=48, description="[C] width; an import reads it")
    use_v2: bool = Field(
        default=True, description="[C] a convolution before each stage; an import sees whether there is one"
    )

    @field_validator("crop_voxels")
    @classmethod
    def _halves_five_times(cls, voxels: Extent) -> Extent:
        return _sides(voxels, "crop_voxels", 32, least=64)  # the lowest map has two voxels a side


def _sides(voxels: Extent, key: str, multiple: int, least: int = 16) -> Extent:
    """The same, when a network can take it and a machine hold it."""
    if not all(least <= side <= _MOST and side % multiple == 0 for side in voxels):
        what = f"multiples of {multiple} " if multiple > 1 else ""
        msg = f"{key} are {what}from {least} to {_MOST}, but these are {list(voxels)}"
        raise ValueError(msg)
    return voxels


_MOST = 512
