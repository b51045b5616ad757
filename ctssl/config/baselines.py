"""Options of hand-made features; torch-free. Each default names its source.

[P] the paper that the class names, [A] its abstract, [us] our choice.
"""

from typing import ClassVar

from pydantic import Field, model_validator

from ctssl.config.base import Section


class BaselineOptions(Section):
    """What all hand-made features share.

    Attributes:
        title: row name in the tables.
    """

    title: ClassVar[str] = ""


class Laa950(BaselineOptions):
    """laa-950: the share of the lungs at or below -950 HU, one number a scan."""

    title: ClassVar[str] = "LAA-950"


class Densitometry(BaselineOptions):
    """densitometry: all that is measured of a scan's densities (ctssl.prepare.densitometry)."""

    title: ClassVar[str] = "Densitometry"


class Majority(BaselineOptions):
    """majority: nothing at all, so that the most frequent class, or the mean, of training is predicted."""

    title: ClassVar[str] = "Majority class or mean"


class Clinical(BaselineOptions):
    """clinical: what is known of a subject without a scan, from columns of the manifest."""

    title: ClassVar[str] = "Clinical"

    columns: tuple[str, ...] = Field(
        default=("age", "sex", "pack_years"),
        min_length=1,
        description="[us] of the manifest: numbers, or classes where any value is none. What is missing is "
        "filled inside the folds (median, most frequent class), and a feature says that it was",
    )


class LungPatches(BaselineOptions):
    """What features of patches share: which patches, and the window of intensities."""

    hu_min: int = Field(default=-1024, description="[us] lower end of the window, that of the methods")
    hu_max: int = Field(default=240, description="[us] upper end of the window")
    least_lung: float = Field(
        default=0.3, ge=0, le=1, description="[us] share of lung from which on a patch is looked at"
    )
    least_patches: int = Field(
        default=16, ge=1, description="[us] where fewer have it, so many with the most lung are taken"
    )

    @model_validator(mode="after")
    def _window_rises(self) -> "LungPatches":
        if self.hu_min >= self.hu_max:
            msg = f"hu_min must be below hu_max, but they are {self.hu_min} and {self.hu_max}"
            raise ValueError(msg)
        return self


class Texture(LungPatches):
    """texture: Haralick's features of grey level co-occurrences (IEEE SMC 3:610, 1973), by mahotas."""

    title: ClassVar[str] = "Texture (Haralick)"

    grey_levels: int = Field(default=32, ge=2, le=256, description="[us] equal parts of the window")
    distance_voxels: int = Field(default=1, ge=1, le=8, description="[P] distance of the neighbours")


class Descriptors(LungPatches):
    """What features from sets of descriptors share: how a patch is described."""

    bins: int = Field(default=32, ge=2, le=1024, description="[us] of the histogram of HU over the window")
    gradient_bins: int = Field(
        default=16, ge=1, le=1024, description="[us] of the histogram of gradients, 1 to 1000 HU per mm"
    )


class BagOfFeatures(Descriptors):
    """bag-of-features: how often the words of a codebook occur (Schabdach et al., 2017, compare with it)."""

    title: ClassVar[str] = "Bag of features"

    words: int = Field(
        default=64, ge=2, le=4096, description="[us] of the codebook, k-means of training scans"
    )


class Divergence(Descriptors):
    """divergence: places by the divergences between scans (Schabdach et al., IPMI 2017; details ours)."""

    title: ClassVar[str] = "Divergences"

    neighbours: int = Field(
        default=5, ge=1, description="[us] k of the k-th nearest neighbour, which measures density"
    )
    anchors: int = Field(
        default=256,
        ge=2,
        description="[us] scans from which divergences are measured; in a fold those of subjects that "
        "it does not test",
    )
    width: float = Field(
        default=2.0, gt=0, description="[us] of the kernel, in medians of the anchors' divergences"
    )
    components: int = Field(
        default=16,
        ge=1,
        description="[us] numbers of a scan: directions of the kernel, largest first. With many, training "
        "scans are told apart by their own anchor, which a new scan does not have",
    )


BASELINES: dict[str, type[BaselineOptions]] = {
    "majority": Majority,
    "clinical": Clinical,
    "laa-950": Laa950,
    "densitometry": Densitometry,
    "texture": Texture,
    "bag-of-features": BagOfFeatures,
    "divergence": Divergence,
}
