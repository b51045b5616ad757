"""Options of autoencoder, a control. [us] our choice; [CA] that of context-aware, so that the two compare."""

from typing import Literal

from pydantic import Field

from ctssl.config.methods.base import MethodOptions


class Autoencoder(MethodOptions):
    """autoencoder: the trunk of context-aware, which learns to give patches back."""

    epochs: int = Field(default=30, ge=1, description="[CA] passes over the scans")
    learning_rate: float = Field(
        default=0.001, gt=0, description="[us] of Adam, at the start; a cosine leads to 0"
    )
    sgd_momentum: float = Field(default=0.9, ge=0, lt=1, description="[us] momentum, or Adam's first beta")
    weight_decay: float = Field(default=1e-4, ge=0, description="[CA] of the optimiser")
    optimiser: Literal["sgd", "adam"] = Field(
        default="adam", description="[us] `adam`, or `sgd`, which wants another rate"
    )
    hu_min: int = Field(default=-1024, description="[CA] HU that the network sees as -1")
    hu_max: int = Field(default=240, description="[CA] HU that the network sees as 1")
    feature_size: int = Field(default=128, ge=1, description="[CA] width of features, the bottleneck")
    patch_batch: int = Field(default=128, ge=2, description="[CA] scans in a step")
    bn_groups: int = Field(
        default=2, ge=1, description="[CA] groups of a batch with their own batch norm statistics"
    )
