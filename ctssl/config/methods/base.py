"""What the options of all methods share."""

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from ctssl.config.base import Section


class MethodOptions(Section):
    """What the options of all methods share: the length of training, its SGD, the window of intensities.

    Attributes:
        boxes: whether samples are cut from boxes of whole lungs (ctssl.store.boxes), not from stores.
        frozen: whether weights come from elsewhere and stay as they are.
        supervised: whether it is trained on labels, inside each fold, and gives predictions, not features.
    """

    boxes: ClassVar[bool] = False
    frozen: ClassVar[bool] = False
    supervised: ClassVar[bool] = False

    epochs: int = Field(default=30, ge=1, description="passes of the first phase over the scans")
    learning_rate: float = Field(
        default=0.03, gt=0, description="at the start of each phase; a cosine leads to 0"
    )
    sgd_momentum: float = Field(default=0.9, ge=0, lt=1, description="momentum of SGD")
    weight_decay: float = Field(default=1e-4, ge=0, description="of the optimiser")
    optimiser: Literal["sgd", "adam"] = Field(
        default="sgd", description="`sgd`, or `adam` with sgd_momentum as its first beta"
    )
    clip_norm: float | None = Field(
        default=None,
        gt=0,
        description="longest gradient of a step, over all parameters of the phase; null: any",
    )
    hu_min: int = Field(default=-1024, description="HU that the network sees as -1")
    hu_max: int = Field(default=240, description="HU that the network sees as 1")

    def remarks(self, scans: int) -> list[str]:
        """What a person should know who trains with these options on so many scans."""
        return []

    @model_validator(mode="after")
    def _window_rises(self) -> "MethodOptions":
        if self.hu_min >= self.hu_max:
            msg = f"hu_min must be below hu_max, but they are {self.hu_min} and {self.hu_max}"
            raise ValueError(msg)
        return self


def few_keys(epochs: int, scans: int, queue_size: int) -> list[str]:
    """What to say when the random keys that queues of landmarks start with stay in them to the end."""
    keys = epochs * scans
    if keys >= queue_size:
        return []
    return [
        f"{epochs} epochs of {scans} scans make at most {keys} keys a landmark, but a queue holds "
        f"{queue_size}: random keys stay among the negatives; a smaller queue_size avoids that"
    ]
