"""Options of methods whose weights come from elsewhere and stay as they are.

[P] the paper, [C] the released code, [us] our choice. Source: MedicalNet (Med3D, arXiv 1904.00625),
Tencent/MedicalNet@20f76aa.
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
        if not all(_LEAST <= side <= _MOST for side in voxels):
            msg = f"volume_voxels are from {_LEAST} to {_MOST}, but these are {list(voxels)}"
            raise ValueError(msg)
        return voxels


_LEAST, _MOST = 16, 512  # what the network can halve, and a machine hold
