"""Options of networks that are trained on labels, inside each fold.

[P] the paper that a default is taken from, [C] its released code, [us] our choice.
"""

from typing import ClassVar, Literal

from pydantic import Field, field_validator

from ctssl.config.augment import Augment
from ctssl.config.methods.base import MethodOptions

Place = tuple[float, float, float]
"""x, y, z in the atlas, as shares of its landmarks' range."""


class Supervised(MethodOptions):
    """What the options of supervised networks share: how they are trained, and when they are stopped.

    Attributes:
        landmarks: whether what is seen of a scan depends on its landmarks, of which it shows one then.
    """

    supervised: ClassVar[bool] = True
    landmarks: ClassVar[bool] = True

    epochs: int = Field(default=100, ge=1, description="[us] passes over the scans, at most")
    learning_rate: float = Field(
        default=1e-3, gt=0, description="[us] at the start; a cosine leads to 0 at the last epoch"
    )
    sgd_momentum: float = Field(
        default=0.9, ge=0, lt=1, description="[us] Adam's first beta, or SGD's momentum"
    )
    weight_decay: float = Field(default=1e-4, ge=0, description="[us] of the optimiser")
    optimiser: Literal["sgd", "adam"] = Field(
        default="adam", description="[us] `adam` with sgd_momentum as its first beta, or `sgd`"
    )
    patience: int = Field(
        default=20,
        ge=1,
        description="[us] epochs without a lower validation loss, after which training stops; the weights "
        "with the lowest are kept",
    )
    validation_parts: int = Field(
        default=5,
        ge=2,
        description="[us] one part in so many of a fold's training subjects is held out to stop by; the "
        "parts are balanced over classes, or over quarters of the numbers",
    )
    class_weights: bool = Field(
        default=False, description="[us] true: each class counts alike, however many scans it has"
    )
    bn_groups: int = Field(
        default=1, ge=1, description="[us] groups of a batch with their own batch norm statistics"
    )


class Cnn3D(Supervised):
    """cnn-3d: a plain 3-D network that sees whole lungs on few voxels."""

    boxes: ClassVar[bool] = True
    landmarks: ClassVar[bool] = False

    hu_min: int = Field(default=-1024, description="[us] HU that the network sees as -1, as context-aware's")
    hu_max: int = Field(default=240, description="[us] HU that the network sees as 1, as context-aware's")
    volume_voxels: int = Field(
        default=128, ge=16, le=512, description="[us] voxels of a volume along each axis"
    )
    field_mm: float | None = Field(
        default=384.0,
        gt=0,
        description="[us] mm that a volume shows along each axis around the middle of the lungs, the same "
        "for all scans, so that the size of lungs stays; null: the box of each scan is stretched over it",
    )
    feature_size: int = Field(default=128, ge=8, description="[us] width of features")
    dropout: float = Field(default=0.2, ge=0, lt=1, description="[us] share of features left out in a step")
    volume_batch: int = Field(default=8, ge=2, description="[us] scans in a step")
    augment: Augment = Field(
        default=Augment(steps=("turn", "noise"), turn_probability=0, noise_max_hu=10),
        description="[us] flips, and noise as coarse voxels have it. No `warp`: shifts by parts of a voxel "
        "blur one volume more than the next, which hides what few scans show of holes. Its lengths are for "
        "32 voxels along an axis and grow with volume_voxels",
    )


class Subject2Vec(Supervised):
    """subject2vec: a network of all patches of a scan at once, with attention, that also gives them back.

    Source: Singla et al., MICCAI 2018, and its released code (TensorFlow 1).
    """

    learning_rate: float = Field(
        default=1e-3, gt=0, description="[C] of Adam, at the start; a cosine, ours, leads to 0"
    )
    weight_decay: float = Field(default=0.0, ge=0, description="[C] of the optimiser")
    hu_min: int = Field(
        default=-1024, description="[us] HU that the network sees as 0, as context-aware's -1"
    )
    hu_max: int = Field(default=240, description="[us] HU that the network sees as 1, as context-aware's")
    feature_size: int = Field(default=128, ge=8, description="[C] width of encoded patches and of features")
    dropout: float = Field(
        default=0.1,
        ge=0,
        lt=1,
        description="[C] share of what a patch gives to the vector that is left out in a step: the release "
        "says to keep 0.9, and leaves 0.9 out",
    )
    reconstruction_weight: float = Field(
        default=10.0, ge=0, description="[C] of the mean squared error of patches, window onto 0 to 1"
    )
    attention_weight: float = Field(
        default=1e-4, ge=0, description="[C] of the sum of logarithms of attention, which makes it sparse"
    )
    scan_batch: int = Field(
        default=4,
        ge=1,
        description="[us] scans in a step, 1 [C]: batch norm of one scan's patches alone takes away what "
        "they have in common",
    )


class SliceCnn(Supervised):
    """slice-cnn: a small 2-D network that sees four planes of a scan, side by side.

    Source: Gonzalez et al., American Journal of Respiratory and Critical Care Medicine 2018.
    """

    boxes: ClassVar[bool] = True

    hu_min: int = Field(default=-1024, description="[us] HU that the network sees as -1, as context-aware's")
    hu_max: int = Field(default=240, description="[us] HU that the network sees as 1, as context-aware's")
    axial: Place = Field(
        default=(0.5, 0.45, 0.4),
        description="[us] middle of the axial view in the atlas, x, y, z as shares of its landmarks' range, "
        "from the right, the front and the bottom: below the middle, where the mitral valve lies [P]",
    )
    coronal: Place = Field(
        default=(0.5, 0.35, 0.5),
        description="[us] of the coronal view: before the middle, where the ascending aorta lies [P]",
    )
    sagittal_right: Place = Field(
        default=(0.3, 0.5, 0.5), description="[us] of the sagittal view of the right lung: its hilum [P]"
    )
    sagittal_left: Place = Field(
        default=(0.7, 0.5, 0.5), description="[us] of the sagittal view of the left lung: its hilum [P]"
    )
    plane_voxels: int = Field(
        default=128, ge=32, le=512, description="[us] voxels of a view along both edges; four are a montage"
    )
    field_mm: float = Field(
        default=384.0,
        gt=0,
        description="[us] mm that a view shows along both edges, the same for all scans, so that the size of "
        "lungs stays",
    )
    slab_mm: float = Field(
        default=5.0, gt=0, description="[us] mm across a view, of which it is the mean: less noise"
    )
    widths: tuple[int, int, int] = Field(
        default=(16, 32, 64), description="[us] channels of the three convolutions [P]"
    )
    feature_size: int = Field(default=128, ge=8, description="[us] width of the dense layer, the features")
    dropout: float = Field(default=0.2, ge=0, lt=1, description="[us] share of features left out in a step")
    scan_batch: int = Field(default=16, ge=2, description="[us] scans in a step")
    augment: Augment = Field(
        default=Augment(steps=("noise",), noise_max_hu=10),
        description="[us] noise, in each view for itself. Lengths of `warp` are for 32 voxels along an edge "
        "and grow with plane_voxels",
    )

    @field_validator("axial", "coronal", "sagittal_right", "sagittal_left")
    @classmethod
    def _inside(cls, place: Place) -> Place:
        if not all(0 <= share <= 1 for share in place):
            msg = f"x, y, z are shares of the landmarks' range, from 0 to 1, but these are {list(place)}"
            raise ValueError(msg)
        return place

    @field_validator("widths")
    @classmethod
    def _wide(cls, widths: tuple[int, int, int]) -> tuple[int, int, int]:
        if min(widths) < 1:
            msg = f"each convolution has a channel at least, but these have {list(widths)}"
            raise ValueError(msg)
        return widths
