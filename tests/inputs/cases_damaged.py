"""Files that were cut, changed or promise what they do not hold."""

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
from inputs.good import Case, any_format, hu, itk, nifti, one_quick, patched, place, replaced
from prepare.files import write_nrrd

_ZEROS = gzip.compress(bytes(1 << 24), 9)  # 16 MB in 16 kB
_DIM, _VOX_OFFSET = 42, 108  # bytes of a NIfTI header


def half(folder: Path, name: str, *, packed: bool = True) -> Path:
    path, voxels = written(folder, name, packed=packed)
    voxels.write_bytes(voxels.read_bytes()[: voxels.stat().st_size // 2])
    return path


def last_byte(folder: Path, name: str) -> Path:
    path, voxels = written(folder, name, packed=False)
    voxels.write_bytes(voxels.read_bytes()[:-1])
    return path


def flipped(folder: Path, name: str) -> Path:
    """One byte in the middle of the packed voxels."""
    path, voxels = written(folder, name, packed=True)
    raw = bytearray(voxels.read_bytes())
    raw[len(raw) * 2 // 3] ^= 255
    voxels.write_bytes(raw)
    return path


def checksum(folder: Path) -> Path:
    path = nifti(folder / "a.nii.gz")
    raw = bytearray(path.read_bytes())
    raw[-6] ^= 255
    path.write_bytes(raw)
    return path


def written(folder: Path, name: str, *, packed: bool) -> tuple[Path, Path]:
    """The good chest's file, and the file that holds its voxels."""
    path = folder / name
    any_format(path) if ".nii" in name else itk(path, packed=packed)
    beside = [other for other in folder.iterdir() if other != path]
    return path, beside[0] if beside else path


def headless(folder: Path, name: str) -> Path:
    path, voxels = written(folder, name, packed=True)
    voxels.unlink()
    return path


def holding(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def promising(folder: Path, name: str, shape: tuple[int, int, int]) -> Path:
    """A header with another size than the voxels have."""
    if name.endswith(".nrrd"):
        return write_nrrd(folder / name, hu(), place(), fields={"sizes": " ".join(map(str, shape))})
    if name.endswith(".mha"):
        path = itk(folder / name, packed=False)
        k, j, i = hu().shape
        return replaced(
            path, f"DimSize = {i} {j} {k}".encode(), f"DimSize = {' '.join(map(str, shape))}".encode()
        )
    patched(nifti(folder / "a.nii"), _DIM, np.array(shape, "<i2"))
    if name.endswith(".gz"):
        return holding(folder, name, gzip.compress((folder / "a.nii").read_bytes()))
    return folder / "a.nii"


def bomb(folder: Path, *, offset: float | None = None, extension: int | None = None) -> Path:
    """The good chest and then 16 GB of zeros, in 17 MB."""
    path = nifti(folder / "a.nii")
    if offset is not None:
        patched(path, _VOX_OFFSET, np.float32(offset).reshape(1))
    raw = bytearray(path.read_bytes())
    if extension is not None:
        raw[348:352] = b"\1\0\0\0"
        raw[352:352] = np.array([extension, 6], "<i4").tobytes()
        raw[_VOX_OFFSET : _VOX_OFFSET + 4] = np.float32(352 + extension).tobytes()
    return holding(folder, "bomb.nii.gz", gzip.compress(bytes(raw)) + 1000 * _ZEROS)


def nrrd_bomb(folder: Path) -> Path:
    path = write_nrrd(folder / "a.nrrd", hu(), place(), fields={"encoding": "gzip"})
    head, _ = path.read_bytes().split(b"\n\n", 1)
    path.write_bytes(head + b"\n\n" + gzip.compress(hu().tobytes()) + 200 * _ZEROS)
    return path


def members(folder: Path) -> Path:
    """What `cat` makes of two gzip files."""
    raw = nifti(folder / "a.nii").read_bytes()
    return holding(folder, "b.nii.gz", gzip.compress(raw[:5000]) + gzip.compress(raw[5000:]))


def longer(folder: Path, name: str, more: bytes) -> Path:
    path, voxels = written(folder, name, packed=False)
    voxels.write_bytes(voxels.read_bytes() + more)
    return path


def longer_inside(folder: Path, more: bytes) -> Path:
    return holding(folder, "b.nii.gz", gzip.compress(nifti(folder / "a.nii").read_bytes() + more))


def narrower(folder: Path, name: str) -> Path:
    """One voxel less along x than is stored: read so, each row would begin where the last one ends."""
    i, j, k = hu().shape[::-1]
    return promising(folder, name, (i - 1, j, k))


def _of(make: Callable[..., Path], *args: object, **options: object) -> Callable[[Path], Path]:
    return lambda folder: make(folder, *args, **options)


FORMATS = ("a.nii", "a.nii.gz", "a.nrrd", "a.nhdr", "a.mha", "a.mhd")
_DAMAGED = "damaged|cannot be read"
CASES = [
    *one_quick(Case(f"half of {name}", _of(half, name), error=_DAMAGED) for name in FORMATS),
    *one_quick(
        Case(
            f"half of {name}, not packed",
            _of(half, name, packed=False),
            error="holds .* bytes of voxels at most",
        )
        for name in FORMATS[2:]
    ),
    *one_quick(
        Case(f"the last byte of {name} is lost", _of(last_byte, name), error=_DAMAGED)
        for name in FORMATS
        if name != "a.nii.gz"
    ),
    *one_quick(
        Case(f"a byte was changed inside {name}", _of(flipped, name), error=_DAMAGED) for name in FORMATS[1:]
    ),
    Case("the checksum of a.nii.gz is wrong", checksum, error="damaged"),
    *one_quick(
        Case(f"{name} without a byte", _of(holding, name, b""), error="the image file is empty")
        for name in FORMATS
    ),
    *one_quick(
        Case(f"a text named {name}", _of(holding, name, b"no image, but words\n" * 40), error=_DAMAGED)
        for name in FORMATS
    ),
    Case(
        "a packed text named a.nii.gz", _of(holding, "a.nii.gz", gzip.compress(b"no image")), error="damaged"
    ),
    Case(
        "a header without its voxels, a.mhd",
        _of(headless, "a.mhd"),
        error="in another file, which is not there",
    ),
    Case(
        "a header without its voxels, a.nhdr",
        _of(headless, "a.nhdr"),
        error="in another file, which is not there",
    ),
    *one_quick(
        Case(f"{name} promises terabytes", _of(promising, name, shape), error="more than limits.max_voxels")
        for name, shape in (
            ("a.nii", (32767,) * 3),
            ("a.nii.gz", (32767,) * 3),
            ("a.nrrd", (40000,) * 3),
            ("a.mha", (100000,) * 3),
        )
    ),
    *one_quick(
        Case(f"{name} promises 60 million voxels", _of(promising, name, (400, 400, 400)), error="damaged")
        for name in ("a.nii", "a.nii.gz", "a.nrrd", "a.mha")
    ),
    *one_quick(
        Case(
            f"{name} has a size of {number}",
            _of(promising, name, (number, 69, 64)),
            error=_DAMAGED + "|voxels along",
        )
        for name in ("a.nii", "a.nrrd", "a.mha")
        for number in (0, -87)
    ),
    *one_quick(
        Case(
            f"{name} is one voxel narrower in its header",
            _of(narrower, name),
            error="holds more voxels than its header promises",
        )
        for name in ("a.nii", "a.nii.gz", "a.nrrd", "a.mha")
    ),
    Case("a gzip bomb behind the voxels", bomb, error="holds more voxels than its header promises"),
    Case(
        "a gzip bomb before the voxels",
        _of(bomb, offset=1e10),
        error="voxels would begin inside it, or far behind it",
    ),
    Case(
        "a gzip bomb in a NIfTI extension",
        _of(bomb, extension=2**30),
        error="voxels would begin inside it, or far behind it",
    ),
    Case("a gzip bomb in an NRRD", nrrd_bomb, error="holds more voxels than its header promises"),
    Case(
        "a NIfTI whose voxels begin at NaN",
        _of(bomb, offset=float("nan")),
        error="voxels would begin inside it, or far behind it",
    ),
    Case(
        "a NIfTI whose voxels begin inside its header",
        _of(bomb, offset=100),
        error="holds what no NIfTI header holds",
    ),
    Case("a.nii.gz of two gzip members", members, why="they are one file"),
    *one_quick(
        Case(
            f"ten bytes behind the voxels of {name}",
            _of(longer, name, b"0123456789"),
            why="less than a slice; all voxels are there",
        )
        for name in ("a.nii", "a.nrrd", "a.mha", "a.mhd")
    ),
    Case(
        "ten bytes behind the voxels inside a.nii.gz",
        _of(longer_inside, b"0123456789"),
        why="less than a slice; all voxels are there",
    ),
    Case(
        "zeros behind a.nii.gz",
        _of(longer, "a.nii.gz", bytes(512)),
        why="gzip allows it; tapes fill blocks so",
    ),
    Case("text behind a.nii.gz", _of(longer, "a.nii.gz", b"not gzip any more"), error="damaged"),
]
