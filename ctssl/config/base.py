"""What every config section shares."""

import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

NAME = re.compile(r"(?=.{1,60}$)[a-z0-9]+(-[a-z0-9]+)*")
"""What may be part of a path and of a wildcard."""

Seed = Annotated[int, Field(ge=0, lt=2**32)]

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""Line breaks, control characters, halves of characters; blanks of other scripts are good names."""


class Section(BaseModel):
    """A frozen group of settings.

    Refuses unknown keys, numbers without end, yes or no in place of a number, and text of several lines.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _plain(cls, value: Any, info: ValidationInfo) -> Any:
        kind = cls.model_fields[str(info.field_name)].annotation
        if isinstance(value, bool) and bool not in (kind, *get_args(kind)):
            msg = "yes, no, true and false are no values of this key"
            raise ValueError(msg)
        if isinstance(value, str) and _CONTROL.search(value):
            msg = "a name or path here holds no line breaks and no control characters"
            raise ValueError(msg)
        return value


def check_name(name: str) -> str:
    """The name.

    Raises:
        ValueError: it could not be part of a path.
    """
    if not NAME.fullmatch(name):
        msg = f"a name has up to 60 small letters, digits and single hyphens, but this is {name[:70]!r}"
        raise ValueError(msg)
    return name


def nearest(name: str, known: Iterable[str], words: str = "did you mean {!r}?") -> str:
    """The end of a message on an unknown name: the known one that looks most like it, if any does."""
    found = get_close_matches(name, list(known), 1)
    return "; " + words.format(found[0]) if found else ""
