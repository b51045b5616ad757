"""A checkpoint that somebody saved with torch: read, and nothing that is in it run."""

import argparse
import re
import warnings
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, BinaryIO, Literal
from zipfile import ZIP_STORED, BadZipFile, ZipFile

import torch

from ctssl.cards import open_file
from ctssl.errors import WeightsError

_ZIP, _PICKLE, _TAR = b"PK\x03\x04", b"\x80", b"ustar"
_TAR_PLACE = 257
_MOST_PICKLE = 64 << 20
"""Names, shapes and options of the largest network have 0.1 MB; the tensors lie beside them."""

_DAMAGE = (
    *(RuntimeError, ValueError, LookupError, TypeError, AttributeError, AssertionError, EOFError),
    *(BadZipFile, MemoryError, RecursionError, OverflowError, NotImplementedError),
)
"""What torch raises for what is no checkpoint; an OSError, of a disk that cannot be read, comes through."""


def read_checkpoint(path: Path) -> dict[Any, Any]:
    """What a .pt, .pth or .safetensors file holds, tensors on the CPU, mapped and not read where they can be.

    Beside tensors and plain values an argparse.Namespace is taken, which holds names and values (PCRL).
    The kind of a file is told by its first bytes, whatever its name.

    Raises:
        WeightsError: the file is not there, damaged, or holds objects.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        with open_file(path) as file:
            kind = _kind(file)
            if kind == "zip":
                _check_archive(file)
        content = load_file(path) if kind == "safetensors" else _load(path, mapped=kind == "zip")
    except UnpicklingError as error:
        raise _refusal(path, str(error)) from error
    except (FileNotFoundError, NotADirectoryError, SafetensorError, *_DAMAGE) as error:
        said = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise WeightsError(
            f"{path} cannot be read as a checkpoint of torch: {said}",
            "name a .pt, .pth or .safetensors file; if it is one, fetch it again and compare its size",
        ) from error
    if not isinstance(content, dict):
        raise WeightsError(
            f"{path} should hold tensors by name, but holds a {type(content).__name__}",
            "name a file with a state_dict, which keeps weights and no objects",
        )
    return content


def _kind(file: BinaryIO) -> Literal["zip", "pickle", "safetensors"]:
    """How a file begins, which is what is read.

    Raises:
        ValueError: as none that holds tensors.
    """
    start = file.read(512)
    if start.startswith(_ZIP):
        return "zip"
    if start.startswith(_PICKLE):
        return "pickle"
    if start[8:9] == b"{":  # after eight bytes with the length of its header
        return "safetensors"
    if not start:
        raise ValueError("it is empty")
    if start[_TAR_PLACE:].startswith(_TAR):
        raise ValueError("it is an archive of tar, which is to be unpacked")
    raise ValueError(f"it begins with {start[:24]!r}, as no such file does")


def _load(path: Path, *, mapped: bool) -> Any:
    with warnings.catch_warnings(), torch.serialization.safe_globals([argparse.Namespace]):
        warnings.simplefilter("ignore", UserWarning)  # of pickles that it then refuses
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)


def _check_archive(file: BinaryIO) -> None:
    """Nothing, when an archive holds stored values and is not larger inside than outside.

    Raises:
        ValueError: says what it is instead.
        BadZipFile: it is cut.
    """
    size = file.seek(0, 2)
    with ZipFile(file) as archive:
        entries = archive.infolist()
    if not any(Path(entry.filename).name == "data.pkl" for entry in entries):
        some = ", ".join(entry.filename for entry in entries[:3])
        raise ValueError(f"it is an archive of other files, which is to be unpacked: {some!r}")
    if any(Path(entry.filename).name == "constants.pkl" for entry in entries):
        raise ValueError("it is a TorchScript archive, which is a program")
    if any(entry.compress_type != ZIP_STORED for entry in entries):
        raise ValueError("its archive is compressed, which torch never does")
    if sum(entry.file_size for entry in entries) > size:
        raise ValueError("its archive promises more bytes than the file has")
    if any(entry.filename.endswith(".pkl") and entry.file_size > _MOST_PICKLE for entry in entries):
        raise ValueError(f"it has more than {_MOST_PICKLE >> 20} MB beside its tensors")


def _refusal(path: Path, said: str) -> WeightsError:
    """The error for a file with objects, which would run code of its own when they are made."""
    found = re.search(r"GLOBAL ([\w.]{1,100})", said)
    what = f"an object of {found[1]}" if found else "a pickle that is more than tensors and plain values"
    return WeightsError(
        f"{path} holds {what}: to read it is to run whatever it says, so it is refused",
        "if you trust whoever made it, keep its tensors alone, on a machine with nothing to lose: "
        "python -c \"import torch; d = torch.load('FILE', map_location='cpu', weights_only=False); "
        "torch.save({'state_dict': d['state_dict']}, 'tensors.pth')\", and import tensors.pth",
    )
