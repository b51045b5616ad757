"""Options of drasclr.

[C] batmanlab/DrasCLR@899e313, [us] our choice. (The paper, MedIA 2023, was not at hand beyond its abstract.)
"""

from typing import Literal

from pydantic import Field

from ctssl.config.augment import PRESETS, Augment
from ctssl.config.methods.base import MethodOptions, few_keys


class DrasCLR(MethodOptions):
    """drasclr: a location-conditioned patch encoder; contrast of patches and of their neighbourhoods."""

    epochs: int = Field(default=20, ge=1, description="[C] passes over the scans")
    learning_rate: float = Field(default=0.01, gt=0, description="[C] at the start; a cosine leads to 0")
    sgd_momentum: float = Field(default=0.9, ge=0, lt=1, description="[C] momentum of SGD")
    weight_decay: float = Field(default=1e-4, ge=0, description="[C] of the optimiser")
    hu_min: int = Field(default=-1024, description="[C] HU that the network sees as -1")
    hu_max: int = Field(default=240, description="[C] HU that the network sees as 1")
    feature_size: int = Field(default=128, ge=1, description="[C] width of features")
    experts: int = Field(default=8, ge=1, description="[C] kernels that each convolution mixes by place")
    temperature: float = Field(default=0.2, gt=0, description="[C] divides the cosines of the contrast")
    momentum: float = Field(default=0.999, ge=0, lt=1, description="[C] with which the key network follows")
    queue_size: int = Field(default=4096, ge=1, description="[C] keys for each landmark")
    random_negatives: bool = Field(
        default=False,
        description="[C] true: the random directions that a queue starts with count as negatives",
    )
    batch_negatives: bool = Field(
        default=True,
        description="[us] true: keys of the same step count as negatives, too; false [C]: only those of "
        "steps before, which an encoder can tell by their age",
    )
    patch_batch: int = Field(default=128, ge=2, description="[C] scans in a step")
    bn_groups: int = Field(
        default=4, ge=1, description="[C] four GPUs; groups of a batch with their own batch norm statistics"
    )
    neighbours: int = Field(
        default=2, ge=0, description="[C] nearest landmarks whose patches stand for a neighbourhood; 0: none"
    )
    beta: float = Field(default=1.0, ge=0, description="[C] weight of the neighbourhood's contrast; 0: none")
    neighbour_augmentation: Literal["per-patch", "shared"] = Field(
        default="shared",
        description="`shared` [C]: one warp, gamma and strength of noise for all neighbours of a patch, or "
        "`per-patch`",
    )
    augment: Augment = Field(
        default=PRESETS["drasclr"][0],
        description="[C] 'agc': affine, noise, gamma; makes two views of a patch",
    )

    def remarks(self, scans: int) -> list[str]:
        """Says when random start keys stay among the negatives to the end."""
        return few_keys(self.epochs, scans, self.queue_size)
