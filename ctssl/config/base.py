"""What every config section shares."""

import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator

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
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation is not bool:
            msg = "yes, no, true and false are no values of this key"
            raise ValueError(msg)
        if isinstance(value, str) and _CONTROL.search(value):
            msg = "a name or path here holds no line breaks and no control characters"
            raise ValueError(msg)
        return value


def nearest(name: str, known: Iterable[str], words: str = "did you mean {!r}?") -> str:
    """The end of a message on an unknown name: the known one that looks most like it, if any does."""
    found = get_close_matches(name, list(known), 1)
    return "; " + words.format(found[0]) if found else ""
