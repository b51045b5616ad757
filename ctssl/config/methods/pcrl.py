"""Options of pcrl.

[P] PCRL (ICCV 2021) and its supplement, [C] Luchixiang/PCRL@197bf91, [us] our choice.
"""

from typing import ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from ctssl.config.augment import Augment
from ctssl.config.methods.base import MethodOptions

Extent = tuple[int, int, int]

_LEVEL, _LEAST, _MOST = 8, 16, 512  # the U-Net halves three times; a painted block needs the rest
_OUTER_MOST = 16  # of width, for channels^3 weights: 16 million at 256 channels, 134 million at 512


class Pcrl(MethodOptions):
    """pcrl: contrast of overlapping crops, whose features must also restore them turned as they are told."""

    boxes: ClassVar[bool] = True

    epochs: int = Field(
        default=240, ge=1, description="[us] passes over the scans, a pair of each; [C] 240, of 16 pairs"
    )
    learning_rate: float = Field(default=1e-3, gt=0, description="[P][C] at the start; a cosine leads to 0")
    sgd_momentum: float = Field(default=0.9, ge=0, lt=1, description="[P][C] momentum of SGD")
    weight_decay: float = Field(default=1e-4, ge=0, description="[C] of the optimiser")
    hu_min: int = Field(default=-1000, description="[P][C] HU that the network sees as 0")
    hu_max: int = Field(default=1000, description="[P][C] HU that the network sees as 1")
    width: int = Field(
        default=32,
        ge=1,
        le=64,
        description="[P][C] channels of the first convolution, of which features are 16 x",
    )
    crop_voxels: Extent = Field(
        default=(32, 64, 64),
        description="[P][C] voxels of what the network sees, and of a window, along z, y, x: multiples of 8 "
        "from 16 on, as many along y as along x",
    )
    crop_sizes: tuple[Extent, ...] = Field(
        default=((32, 64, 64), (48, 96, 96), (96, 96, 96), (16, 32, 32), (56, 112, 112)),
        min_length=1,
        max_length=64,
        description="[P] voxels along z, y, x of the crops that become crop_voxels, at the atlas's spacing; "
        "[C] 64 x 112 x 112 in place of the last",
    )
    pair_sizes: Literal["same", "independent"] = Field(
        default="same", description="`same` [P]: both crops of a pair have one size; `independent` [C]: each"
    )
    least_overlap: float = Field(
        default=0.2,
        ge=0,
        lt=1,
        description="[P] intersection over union of a pair is above; [C] 0.25",
    )
    tissue_hu: int = Field(default=-150, description="[C] voxels from here on are tissue")
    most_tissue: float = Field(
        default=0.15,
        ge=0,
        le=1,
        description="[C] a pair one of whose crops has a larger share of tissue is placed again",
    )
    tries: int = Field(
        default=5,
        ge=1,
        le=1000,
        description="[us] places that are drawn; if all have more tissue, the pair with least counts",
    )
    crop_batch: int = Field(default=32, ge=2, description="[P] scans in a step, a pair of each; [C] 16")
    bn_groups: int = Field(
        default=4, ge=1, description="[P] four GPUs: groups with their own batch norm statistics"
    )
    form: Literal["paper", "released"] = Field(
        default="paper",
        description="`paper`: three decodings, maps mixed before attention, 0.5 of each loss, queries and "
        "mixtures are queued, too; `released`: two, mixed after attention, 1 of each, keys are queued",
    )
    attention: Literal["multiplicative", "outer"] = Field(
        default="multiplicative",
        description="`multiplicative` [C]: factors of channels follow from how the target is turned; "
        "`outer` [P]: from its outer product with the features, of (16 x width)^3 weights",
    )
    projection_size: int = Field(default=128, ge=1, description="[C] width of what is compared")
    temperature: float = Field(default=0.2, gt=0, description="[P] divides the cosines of the contrast")
    momentum: float = Field(
        default=0.99, ge=0, lt=1, description="[P] with which the key network follows; [C] 0.999"
    )
    queue_size: int = Field(default=16384, ge=1, description="[P] vectors that are compared with")
    random_negatives: bool = Field(
        default=False,
        description="[C] true: the random directions that the queue starts with count as negatives",
    )
    batch_negatives: bool = Field(
        default=True,
        description="[us] true: what is queued in a step counts as negatives of it, too; false [P]: only "
        "that of steps before, which an encoder can tell by its age",
    )
    move: Augment = Field(
        default=Augment(
            steps=("warp", "turn"),
            rotation_deg=(10.0, 0.0, 0.0),
            translation_voxels=0,
            scale=0,
            elastic_magnitude=0,
            turn_probability=0,
        ),
        description="[P] what is done to a crop and to its target: rotation about z, flips; [C] about all "
        "axes, with scale 0.1, flips along one",
    )
    corrupt: Augment = Field(
        default=Augment(steps=("blur", "paint"), blur_probability=1),
        description="[P] what is done to the input only; [C] `shuffle` before `paint`",
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

    @field_validator("crop_voxels")
    @classmethod
    def _halves_thrice_and_turns(cls, voxels: Extent) -> Extent:
        fits = all(_LEAST <= n <= _MOST and n % _LEVEL == 0 for n in voxels)
        if not fits or voxels[1] != voxels[2]:
            msg = (
                f"crop_voxels are multiples of {_LEVEL} from {_LEAST} to {_MOST}, as many along y as along x "
                f"so that they can be turned, but these are {list(voxels)}"
            )
            raise ValueError(msg)
        return voxels

    @field_validator("crop_sizes")
    @classmethod
    def _sizes_are_lengths(cls, sizes: tuple[Extent, ...]) -> tuple[Extent, ...]:
        wrong = [list(size) for size in sizes if not all(2 <= n <= _MOST for n in size)]
        if wrong:
            msg = f"crop_sizes are from 2 to {_MOST} voxels along each axis, but there is {wrong[0]}"
            raise ValueError(msg)
        return sizes

    @model_validator(mode="after")
    def _outer_product_fits(self) -> "Pcrl":
        if self.attention == "outer" and self.width > _OUTER_MOST:
            msg = (
                f"attention outer has (16 x width)^3 weights: width is at most {_OUTER_MOST}, but this is "
                f"{self.width}; attention multiplicative takes any"
            )
            raise ValueError(msg)
        return self

    def remarks(self, scans: int) -> list[str]:
        """Says when random start vectors stay in the queue to the end."""
        made = self.epochs * scans * (3 if self.form == "paper" else 1)
        if made >= self.queue_size:
            return []
        return [
            f"{self.epochs} epochs of {scans} scans make at most {made} vectors, but the queue holds "
            f"{self.queue_size}: random ones stay in it; a smaller queue_size avoids that"
        ]
