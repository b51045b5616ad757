"""Published weights, in their authors' layouts: read, checked, written as ours; a file a layout."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from torch import Tensor

    from ctssl.imports.state import State

LAYOUTS = {
    "context-aware": "ctssl.imports.context_aware:convert",
    "drasclr": "ctssl.imports.drasclr:convert",
    "medicalnet": "ctssl.imports.medicalnet:convert",
    "models-genesis": "ctssl.imports.unet:convert_models_genesis",
    "pcrl": "ctssl.imports.unet:convert_pcrl",
    "voco": "ctssl.imports.voco:convert",
}
"""Method -> module:function; the names are those of ctssl.config.methods.OPTIONS."""


@dataclass(frozen=True)
class Converted:
    """What the files of a model become.

    Attributes:
        options: of the method, as the tensors say; the rest are its defaults.
        tensors: those of the method's Embedder.
        dropped: what was left out knowingly -> how many tensors.
        card: what the card says beside.
        notes: lines for a person.
    """

    options: dict[str, Any]
    tensors: "dict[str, Tensor]"
    dropped: Counter[str]
    card: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def converter(method: str) -> "Callable[[Sequence[State]], Converted]":
    """The function of a layout: the states of the files -> what they become."""
    module, _, function = LAYOUTS[method].partition(":")
    return cast("Callable[[Sequence[State]], Converted]", getattr(import_module(module), function))
