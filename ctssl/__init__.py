"""Anatomy-aware self-supervised representations of chest CT.

Nothing heavy is imported here: the Snakefile and every command start through this package. What a user of a
model needs, `load_model` and `embed`, is imported when it is first asked for.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ctssl.share.embed import embed
    from ctssl.share.model import SharedModel, load_model

__version__ = "0.1.0"

__all__ = ["SharedModel", "__version__", "embed", "load_model"]

_WHERE = {
    "SharedModel": "ctssl.share.model",
    "load_model": "ctssl.share.model",
    "embed": "ctssl.share.embed",
}


def __getattr__(name: str) -> Any:
    """What is imported when it is first asked for.

    Raises:
        AttributeError: there is no such thing.
    """
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
