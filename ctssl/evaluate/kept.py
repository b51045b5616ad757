"""The cache of what was computed of a scan, so that a new scan costs one scan."""

import io
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from ctssl.files import write_whole
from ctssl.log import say


def kept(path: Path) -> np.ndarray | None:
    """(D,) float32 features in the cache; None when there are none, or none that can be used."""
    if not path.is_file():
        return None
    try:
        # Mapped, a header that promises terabytes is an error and takes no memory.
        features = np.array(np.load(path, mmap_mode="r", allow_pickle=False))
    except (ValueError, EOFError, BadZipFile) as error:
        say(f"{path} is damaged and made again: {error}")
        return None
    if features.dtype != np.float32 or features.ndim != 1 or not np.isfinite(features).all():
        say(f"{path} holds no features and is made again")
        return None
    return features


def keep(path: Path, features: np.ndarray) -> None:
    """Nothing; writes features (D,) float32 into the cache."""
    data = io.BytesIO()
    np.save(data, features)  # into a file, numpy would hide the system's word on a full disk
    write_whole(path, data.getbuffer())
