"""Options of moco-v2.

[M] MoCo v2 (arXiv 2003.04297) and facebookresearch/moco, [P] its use as a baseline in the paper of
context-aware (AAAI 2021), which says little of it, [us] our choice.
"""

from typing import ClassVar

from pydantic import Field

from ctssl.config.augment import Augment
from ctssl.config.methods.base import MethodOptions


class MocoV2(MethodOptions):
    """moco-v2: momentum contrast of whole lungs on few voxels; a baseline without landmarks."""

    boxes: ClassVar[bool] = True

    epochs: int = Field(default=200, ge=1, description="[M] passes over the scans")
    learning_rate: float = Field(
        default=0.00375,
        gt=0,
        description="[M] 0.03 for a batch of 256, so 32 / 256 of it; a cosine leads to 0",
    )
    sgd_momentum: float = Field(default=0.9, ge=0, lt=1, description="[M] momentum of SGD")
    weight_decay: float = Field(default=1e-4, ge=0, description="[M] of the optimiser")
    hu_min: int = Field(default=-1024, description="[P] HU that the network sees as -1")
    hu_max: int = Field(default=240, description="[P] HU that the network sees as 1")
    volume_voxels: int = Field(
        default=128, ge=16, le=512, description="[us] voxels of a volume along each axis; [P] 256"
    )
    field_mm: float | None = Field(
        default=384.0,
        gt=0,
        le=1000,
        description="[us] mm that a volume shows along each axis around the middle of the lungs, the same "
        "for all scans, so that the size of lungs stays; null [P]: the box of each scan is stretched over it",
    )
    feature_size: int = Field(default=128, ge=8, description="[us] width of features")
    projection_size: int = Field(default=128, ge=1, description="[M] width of what is compared")
    temperature: float = Field(default=0.2, gt=0, description="[M] divides the cosines of the contrast")
    momentum: float = Field(default=0.999, ge=0, lt=1, description="[M] with which the key network follows")
    queue_size: int = Field(
        default=4096, ge=1, description="[us] keys of scans, any number; [M] 65,536 of a million images"
    )
    random_negatives: bool = Field(
        default=False,
        description="[M] true: the random directions that the queue starts with count as negatives",
    )
    batch_negatives: bool = Field(
        default=True,
        description="[us] true: keys of the same step count as negatives, too; false [M]: only those of "
        "steps before, which an encoder can tell by their age",
    )
    volume_batch: int = Field(default=32, ge=2, description="[us] scans in a step; [M] 256")
    bn_groups: int = Field(
        default=4, ge=1, description="[us] groups of a batch with their own batch norm statistics; [M] 8 GPUs"
    )
    augment: Augment = Field(
        default=Augment(steps=("gamma", "noise", "warp", "blur")),
        description="[P] as context-aware, [M] with blur. translation_voxels, elastic_sigma_voxels and "
        "elastic_magnitude are for 32 voxels along an axis and grow with volume_voxels",
    )

    def remarks(self, scans: int) -> list[str]:
        """Says when random start keys stay in the queue to the end."""
        if self.epochs * scans >= self.queue_size:
            return []
        return [
            f"{self.epochs} epochs of {scans} scans make at most {self.epochs * scans} keys, but the queue "
            f"holds {self.queue_size}: random keys stay in it; a smaller queue_size avoids that"
        ]
