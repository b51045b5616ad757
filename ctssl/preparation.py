"""How scans are prepared for a model: what its card says of it, and the settings that do it again.

Torch-free: the Snakefile imports it.
"""

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from ctssl import settings
from ctssl.config import Config
from ctssl.config.base import Section
from ctssl.config.prepare import Quality, Volume
from ctssl.errors import WeightsError
from ctssl.recipes import RECIPES

STAGES = ("volume", "register", "store", "box")
"""The stages that turn a scan into a patch store, and into a box of its lungs, in their order."""


class MaskMethod(Section):
    """How the lungs were masked.

    Attributes:
        own_weights: lungmask had weights of the user's own, which no card can name.
    """

    method: Literal["lungmask", "threshold"]
    min_lung_l: float
    model: str | None = Field(default=None, description="lungmask only")
    own_weights: bool = False


class Preparation(Section):
    """What decides what is in a patch store, beside scan and atlas; and which scans are left out.

    Attributes:
        recipes: stage -> what it meant when the model was trained.
        registering: settings of stage register.
        storing: settings of stage store.
    """

    recipes: dict[str, int]
    volume: Volume
    mask: MaskMethod
    registering: dict[str, Any]
    storing: dict[str, Any]
    quality: Quality

    def settings(self, stage: str, **image: Any) -> str:
        """The `settings` param of a stage, for one scan.

        Args:
            stage: one of STAGES.
            image: of stage volume: image, series_uid and mask_image.
        """
        values: dict[str, Any] = {"stage": stage, "recipe": RECIPES[stage]}
        if stage == "volume":
            read = {"volume": self.volume.model_dump(), "mask": self.mask.model_dump()}
            values |= {"exclude": False, "exclude_reason": "", **read, **image}
        elif stage in ("register", "store"):
            values |= self.registering if stage == "register" else self.storing
        return json.dumps(values, sort_keys=True)

    def check_recipes(self, version: str, *, boxes: bool) -> None:
        """Nothing, when this version prepares scans as that one did with which the model was made.

        Args:
            version: of ctssl, that made the model.
            boxes: the model embeds boxes of lungs.

        Raises:
            WeightsError: it does not.
        """
        for stage in STAGES if boxes else STAGES[:-1]:
            then, now = self.recipes.get(stage), RECIPES[stage]
            if then != now:
                raise WeightsError(
                    f"the model's scans were prepared with recipe {then} of stage {stage}, and this version "
                    f"of ctssl has {now}: features of new scans would not be comparable",
                    f"install the version that made the model (ctssl {version}), or train it anew",
                )


def of_config(config: Config) -> Preparation:
    """How the scans of a study are prepared, when it prepares them itself."""
    own = config.mask.method == "lungmask" and config.mask.weights is not None
    masked = {key: value for key, value in settings.mask(config).items() if key != "weights_stamp"}
    return Preparation(
        recipes={stage: RECIPES[stage] for stage in STAGES},
        volume=config.volume,
        mask=MaskMethod(**masked, own_weights=own),
        registering=_bare(settings.register(config)),
        storing=_bare(settings.store(config)),
        quality=config.quality,
    )


def of_card(card: dict[str, Any], source: Path) -> Preparation | None:
    """What the card of weights says of it; None: it does not know.

    Raises:
        WeightsError: it says so in a way that this version does not understand.
    """
    if card.get("preparation") is None:
        return None
    try:
        return Preparation.model_validate(card["preparation"])
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:5]]
        raise WeightsError(
            f"{source}: its card describes the preparation in a way that this version does not know: "
            f"{'; '.join(faults)[:300]}",
            f"install the version that made the model (ctssl {str(card.get('ctssl'))[:20]})",
        ) from error


def about(config: Config) -> str:
    """What weights say of the data and their preparation, as JSON; no setting of a job.

    Another licence, name or limit of quality is no reason to train again, and another preparation is in the
    settings already.
    """
    known = None if config.prepared is not None else of_config(config).model_dump(mode="json")
    named = {"data_licence": config.data_licence, "cohort_name": config.cohort}
    return json.dumps({**named, "preparation": known}, sort_keys=True)


def _bare(text: str) -> dict[str, Any]:
    """The settings of a stage without what says which stage it is."""
    return {key: value for key, value in json.loads(text).items() if key not in ("stage", "recipe")}
