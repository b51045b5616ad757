"""Options of every method; torch-free. Each default names its source.

[P] the paper (AAAI 2021), [C] batmanlab/Context_Aware_SSL@6fa7acb, [us] our choice.
"""

from typing import Literal

from pydantic import Field, model_validator

from ctssl.config.augment import Augment
from ctssl.config.base import Section


class MethodOptions(Section):
    """What the options of all methods share: the length of training, its SGD, the window of intensities."""

    epochs: int = Field(default=30, ge=1, description="[P]; passes over the scans in the first phase")
    learning_rate: float = Field(default=0.03, gt=0, description="[P][C] at the start; a cosine leads to 0")
    sgd_momentum: float = Field(default=0.9, ge=0, lt=1, description="[P][C]")
    weight_decay: float = Field(default=1e-4, ge=0, description="[P][C]")
    optimiser: Literal["sgd", "adam"] = Field(
        default="sgd", description="sgd [C]; adam [P], of which the text gives SGD's rate and momentum"
    )
    clip_norm: float | None = Field(
        default=None, gt=0, description="[us] longest gradient of a step, over all parameters; null: any"
    )
    hu_min: int = Field(default=-1024, description="[C]; shown to the network as -1")
    hu_max: int = Field(default=240, description="[C]; shown to the network as 1")

    def remarks(self, scans: int) -> list[str]:
        """What a person should know who trains with these options on so many scans."""
        return []

    @model_validator(mode="after")
    def _window_rises(self) -> "MethodOptions":
        if self.hu_min >= self.hu_max:
            msg = f"hu_min must be below hu_max, but they are {self.hu_min} and {self.hu_max}"
            raise ValueError(msg)
        return self


class ContextAware(MethodOptions):
    """context-aware: conditional patch encoder and graph network (paper Eq. 4 to 9)."""

    conditional: bool = Field(default=True, description="false: 'w/o CE', the head sees no location")
    graph: bool = Field(default=True, description="false: 'w/o Graph', the mean of patch features")
    feature_size: int = Field(default=128, ge=1, description="[P][C]")
    head_layers: Literal[2, 3] = Field(default=2, description="2 [C] or 3 [P, supplement] dense layers")
    temperature: float = Field(default=0.2, gt=0, description="[P][C]")
    momentum: float = Field(default=0.999, ge=0, lt=1, description="[C]; of the key networks")
    queue_size: int = Field(default=4096, ge=1, description="[P][C]; keys per landmark, and of whole scans")
    random_negatives: bool = Field(
        default=False,
        description="[C] true: the random directions that a queue starts with count as negatives",
    )
    patch_batch: int = Field(default=128, ge=2, description="[P][C]; scans per patch step (B_l)")
    graph_batch: int = Field(default=16, ge=1, description="[P][C]; scans per graph step (B_g)")
    patch_rounds: int = Field(
        default=1, ge=1, description="[us] T_l; draws of patch_batch scans, each a walk over all landmarks"
    )
    graph_steps: int = Field(
        default=80,
        ge=1,
        description="T_g, for each round of up to patch_batch scans; [C] ten graph epochs per patch epoch: "
        "10 * 128 / 16, a ratio that holds from about 128 scans on (fewer: more graph epochs)",
    )
    bn_groups: int = Field(
        default=2, ge=1, description="[C] two GPUs; groups with their own batch statistics"
    )
    graph_augmentation: Literal["per-patch", "shared"] = Field(
        default="per-patch", description="per-patch [P]; shared [C]: one gamma and one warp for a scan"
    )
    augment: Augment = Augment()

    def remarks(self, scans: int) -> list[str]:
        """Says when random start keys stay among the negatives to the end."""
        keys = self.epochs * scans
        if keys >= self.queue_size:
            return []
        return [
            f"{self.epochs} epochs of {scans} scans make at most {keys} keys a landmark, but a queue holds "
            f"{self.queue_size}: random keys stay among the negatives; a smaller queue_size avoids that"
        ]


OPTIONS: dict[str, type[MethodOptions]] = {"context-aware": ContextAware}
