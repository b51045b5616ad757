"""augment: what makes two views of a patch; torch-free.

[C] batmanlab/Context_Aware_SSL@6fa7acb where nothing else is said. Lengths in voxels, axes z, y, x.
"""

from typing import Literal

from pydantic import Field, model_validator

from ctssl.config.base import Section

StepName = Literal["gamma", "noise", "warp", "turn", "blur", "shift", "curve", "shuffle", "paint"]

SIGMA_MOST = 64.0
"""Voxels: the edge of the largest patch of a store."""

SHUFFLE_MOST = 20
"""How often the blocks of a shuffle may fill a patch, each at its largest: twice as often as published.
That takes 70 bytes and more a voxel: 0.1 GB for a patch of 32 voxels a side, 0.4 GB for one of 64."""


class Augment(Section):
    """augment: what makes two views of a patch. Only the named steps are done, in their order."""

    steps: tuple[StepName, ...] = Field(
        default=("gamma", "noise", "warp"),
        description="what is done, in this order: `gamma` (exponent of values), `noise` (normal), `warp` "
        "(elastic and affine), `turn` (flips and quarter turns), `blur` (Gaussian), `shift` (of all values), "
        "`curve` (non-linear values), `shuffle` (within small blocks), `paint` (blocks of noise)",
    )
    gamma_probability: float = Field(
        default=0.25, ge=0, le=1, description="share of views with changed contrast"
    )
    gamma_range: tuple[float, float] = Field(default=(0.5, 4.5), description="uniform exponent")
    noise_probability: float = Field(default=0.25, ge=0, le=1, description="share of views with noise")
    noise_max_hu: float = Field(default=50.0, ge=0, description="sigma is uniform from 0 to this")
    warp_probability: float = Field(default=1.0, ge=0, le=1, description="share of views that are warped")
    rotation_deg: float | tuple[float, float, float] = Field(
        default=10.0,
        description="uniform on either side; one number for all axes, or one about each of z, y, x",
    )
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
    flip_probability: float = Field(default=0.5, ge=0, le=1, description="turn: of each axis")
    flip_rounds: int = Field(
        default=0,
        ge=0,
        description="turn: 0: each axis for itself; n: up to n times, while a coin falls, any axis",
    )
    turn_probability: float = Field(
        default=0.75, ge=0, le=1, description="turn: 1 to 3 quarter turns about z"
    )
    blur_probability: float = Field(default=0.5, ge=0, le=1, description="blur: share of views")
    blur_sigma_voxels: tuple[float, float] = Field(
        default=(0.0, 2.0), description=f"blur: uniform, per axis; at most {SIGMA_MOST:g}"
    )
    shift_probability: float = Field(default=0.1, ge=0, le=1, description="shift: share of views")
    shift: float = Field(default=0.1, ge=0, description="shift: share of the window, uniform on either side")
    curve_probability: float = Field(default=0.9, ge=0, le=1, description="curve: share of views")
    shuffle_probability: float = Field(default=0.5, ge=0, le=1, description="shuffle: share of views")
    shuffle_blocks: int = Field(default=10_000, ge=1, le=100_000, description="shuffle: how many blocks")
    shuffle_share: float = Field(
        default=0.1,
        gt=0,
        le=1,
        description="shuffle: longest side of a block, share of the patch's; shuffle_blocks x "
        f"shuffle_share^3 is at most {SHUFFLE_MOST}",
    )
    paint_probability: float = Field(default=0.9, ge=0, le=1, description="paint: share of views")
    inpaint_probability: float = Field(
        default=0.2,
        ge=0,
        le=1,
        description="paint: share of painted views that are painted inside, the others outside",
    )

    @model_validator(mode="after")
    def _ranges_rise(self) -> "Augment":
        for name in ("gamma_range", "elastic_sigma_voxels"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                msg = f"{name} is two rising numbers above 0, but this is [{low}, {high}]"
                raise ValueError(msg)
        low, high = self.blur_sigma_voxels
        if not 0 <= low <= high:
            msg = f"blur_sigma_voxels is two rising numbers from 0 on, but this is [{low}, {high}]"
            raise ValueError(msg)
        if high > SIGMA_MOST:
            msg = (
                f"blur_sigma_voxels is at most {SIGMA_MOST:g}, beyond which a patch is its mean; got {high:g}"
            )
            raise ValueError(msg)
        if min(self.rotations_deg) < 0:
            msg = f"rotation_deg is 0 or more, but this is {self.rotation_deg}"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _shuffles_fit(self) -> "Augment":
        filled = round(self.shuffle_blocks * self.shuffle_share**3, 6)
        if filled > SHUFFLE_MOST:
            msg = (
                f"{self.shuffle_blocks} shuffle_blocks of shuffle_share {self.shuffle_share:g} a side would "
                f"fill a patch {filled:.3g} times; at most {SHUFFLE_MOST} is possible, for memory grows "
                "with it and later blocks undo earlier ones: give fewer, or smaller ones"
            )
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _steps_once(self) -> "Augment":
        if len(set(self.steps)) < len(self.steps):
            msg = f"steps names each step at most once, but this is {list(self.steps)}"
            raise ValueError(msg)
        return self

    @property
    def rotations_deg(self) -> tuple[float, float, float]:
        """The range about z, y, x."""
        one = self.rotation_deg
        return one if isinstance(one, tuple) else (one, one, one)


PRESETS: dict[str, tuple[Augment, ...]] = {
    "context-aware": (Augment(),),
    "drasclr": (Augment(steps=("warp", "noise", "gamma"), elastic_magnitude=0),),
    "moco-v2": (
        Augment(  # context-aware's on 256 voxels a side: lengths are eightfold
            steps=("gamma", "noise", "warp", "blur"),
            translation_voxels=96,
            elastic_sigma_voxels=(64, 96),
            elastic_magnitude=1264 * 8**2.5,  # sd of smoothed noise falls with sigma^1.5
        ),
    ),
    "voco": (Augment(steps=("turn", "shift"), flip_probability=0.2, turn_probability=0.2),),
    "pcrl": (
        Augment(steps=("warp",), elastic_magnitude=0, translation_voxels=0),
        Augment(steps=("turn",)),
        Augment(steps=("blur", "shuffle", "paint"), blur_probability=1),
    ),
    "models-genesis": (
        Augment(steps=("turn",), flip_probability=0.4, flip_rounds=3, turn_probability=0),
        Augment(steps=("shuffle", "curve", "paint")),
    ),
}
"""What each published method does to a patch, stage by stage: where there are several, the last one
corrupts the input only, and the target is what the ones before it gave.

Source: batmanlab/DrasCLR@899e313 ('agc'), Luffy03/VoCo@ba7b7bd, PCRL (ICCV 2021), Models Genesis
(MedIA 2021).
"""
