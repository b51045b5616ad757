"""Options of every method; torch-free. Each default names its source.

[P] the paper (AAAI 2021), [C] batmanlab/Context_Aware_SSL@6fa7acb, [us] our choice.
"""

from typing import Literal

from pydantic import Field, model_validator

from ctssl.config.base import Section


class MethodOptions(Section):
    """What the options of all methods share: the length of training, its SGD, the window of intensities."""

    epochs: int = Field(default=30, ge=1, description="[P]; passes over the scans in the first phase")
    learning_rate: float = Field(default=0.03, gt=0, description="[P][C] at the start; a cosine leads to 0")
    sgd_momentum: float = Field(default=0.9, ge=0, lt=1, description="[P][C]")
    weight_decay: float = Field(default=1e-4, ge=0, description="[P][C]")
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


class Augment(Section):
    """augment: what makes two views of a patch; [C] throughout, in the order gamma, noise, warp."""

    gamma_probability: float = Field(default=0.25, ge=0, le=1)
    gamma_range: tuple[float, float] = Field(default=(0.5, 4.5), description="uniform exponent")
    noise_probability: float = Field(default=0.25, ge=0, le=1)
    noise_max_hu: float = Field(default=50.0, ge=0, description="sigma is uniform from 0 to this")
    rotation_deg: float = Field(default=10.0, ge=0, description="uniform on either side, per axis")
    translation_voxels: float = Field(default=12.0, ge=0, description="uniform on either side, per axis")
    scale: float = Field(default=0.1, ge=0, lt=1, description="factor 1 plus or minus this, per axis")
    elastic_sigma_voxels: tuple[float, float] = Field(
        default=(8.0, 12.0), description="smoothing of the noise that displaces voxels"
    )
    elastic_magnitude: float = Field(
        default=1264.0,
        ge=0,
        description="factor up to this; in the patch's centre the displacement's sd is 0.0019 (sigma 12) to "
        "0.0038 (sigma 8) of it",
    )

    @model_validator(mode="after")
    def _ranges_rise(self) -> "Augment":
        for name in ("gamma_range", "elastic_sigma_voxels"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                msg = f"{name} is two rising numbers above 0, but this is [{low}, {high}]"
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
