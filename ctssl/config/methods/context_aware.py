"""Options of context-aware, and of its untrained control.

[P] the paper (AAAI 2021), [C] batmanlab/Context_Aware_SSL@6fa7acb, [us] our choice.
"""

from typing import Literal

from pydantic import Field

from ctssl.config.augment import Augment
from ctssl.config.methods.base import MethodOptions, few_keys


class ContextAware(MethodOptions):
    """context-aware: conditional patch encoder and graph network (paper Eq. 4 to 9)."""

    epochs: int = Field(default=30, ge=1, description="[P] passes of the first phase over the scans")
    learning_rate: float = Field(
        default=0.03, gt=0, description="[P][C] at the start of each phase; a cosine leads to 0"
    )
    sgd_momentum: float = Field(default=0.9, ge=0, lt=1, description="[P][C] momentum of SGD")
    weight_decay: float = Field(default=1e-4, ge=0, description="[P][C] of the optimiser")
    optimiser: Literal["sgd", "adam"] = Field(
        default="sgd", description="`sgd` [C], or `adam` [P], of which the text gives SGD's rate and momentum"
    )
    hu_min: int = Field(default=-1024, description="[C] HU that the network sees as -1")
    hu_max: int = Field(default=240, description="[C] HU that the network sees as 1")
    conditional: bool = Field(default=True, description="[P] false: *w/o CE*, the head sees no location")
    graph: bool = Field(default=True, description="[P] false: *w/o Graph*, the mean of patch features")
    feature_size: int = Field(default=128, ge=1, description="[P][C] width of features")
    head_layers: Literal[2, 3] = Field(default=2, description="2 [C] or 3 [P, supplement] dense layers")
    temperature: float = Field(default=0.2, gt=0, description="[P][C] divides the cosines of the contrast")
    momentum: float = Field(default=0.999, ge=0, lt=1, description="[C] with which the key networks follow")
    queue_size: int = Field(
        default=4096, ge=1, description="[P][C] keys for each landmark, and keys of whole scans"
    )
    random_negatives: bool = Field(
        default=False,
        description="[C] true: the random directions that a queue starts with count as negatives",
    )
    batch_negatives: bool = Field(
        default=True,
        description="[us] true: keys of the same step count as negatives, too; false [C]: only those of "
        "steps before, which an encoder can tell by their age",
    )
    patch_batch: int = Field(default=128, ge=2, description="[P][C] scans in a patch step (B_l)")
    graph_batch: int = Field(default=16, ge=1, description="[P][C] scans in a graph step (B_g)")
    patch_rounds: int = Field(
        default=1,
        ge=1,
        description="[us] rounds of the patch phase in a turn (T_l); a round is a draw of scans and a walk "
        "over all landmarks",
    )
    graph_steps: int = Field(
        default=80,
        ge=1,
        description="[C] steps of the graph phase (T_g) for each round of up to patch_batch scans; ten graph "
        "epochs a patch epoch from about 128 scans on: 10 x 128 / 16",
    )
    bn_groups: int = Field(
        default=2, ge=1, description="[C] two GPUs; groups of a batch with their own batch norm statistics"
    )
    graph_augmentation: Literal["per-patch", "shared"] = Field(
        default="per-patch",
        description="`per-patch` [P], or `shared` [C]: one gamma and one warp for all patches of a scan",
    )
    augment: Augment = Field(default=Augment(), description="[C] what makes two views of a patch")

    def remarks(self, scans: int) -> list[str]:
        """Says when random start keys stay among the negatives to the end."""
        return few_keys(self.epochs, scans, self.queue_size)


class Untrained(MethodOptions):
    """untrained: the networks of context-aware with random weights; a control."""

    epochs: int = Field(default=1, ge=1, description="[us] passes that set batch norm's running statistics")
    graph: bool = Field(default=True, description="false: the mean of patch features")
    feature_size: int = Field(default=128, ge=1, description="[P][C], of context-aware")
    patch_batch: int = Field(default=128, ge=2, description="scans per patch step")
    graph_batch: int = Field(default=16, ge=1, description="scans per graph step")
    bn_groups: int = Field(default=2, ge=1, description="as context-aware's; at most as many devices")
