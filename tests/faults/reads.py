"""Reads one scan in every format while the disk fails at each call in turn; run under failing_reads.c.

Prints JSON: a list of [name, errno, first failing call, last failing call, what came]. What came is "values"
(the right ones), "other values", the errno of an OSError, or the class of another error.
Arguments: the shim, a folder to work in.
"""

import ctypes
import errno
import json
import sys
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from prepare.dicom import write_series

from ctssl.errors import CtsslError
from ctssl.prepare.grid import Grid
from ctssl.prepare.images import array_image
from ctssl.prepare.reading import read_scan

GRID = Grid((-50.0, -40.0, -30.0), 2.0, (48, 40, 12), "LPS")
ALWAYS = 10**6
CALLS = 8  # of each format, spread over all that there are


def scan() -> np.ndarray:
    """(z, y, x) tissue in air, with noise that packs badly."""
    rng = np.random.default_rng(0)
    hu = np.where(rng.random(GRID.shape) < 0.6, -1000, 40) + rng.integers(-20, 20, GRID.shape)
    return hu.astype(np.int16)


def write(folder: Path, hu: np.ndarray) -> list[Path]:
    image = array_image(hu, GRID)
    files = []
    for name, packed in (
        *(("a.nii", False), ("b.nii.gz", True), ("c.nrrd", False), ("d.nrrd", True)),
        *(("e.mha", False), ("f.mha", True), ("g.mhd", False)),
    ):
        sitk.WriteImage(image, str(folder / name), useCompression=packed)
        files.append(folder / name)
    write_series(folder / "h", hu, GRID, slope=1, intercept=0)
    return [*files, folder / "h"]


def outcome(path: Path, hu: np.ndarray) -> str | int | None:
    try:
        reading = read_scan(path, 10**7)
    except CtsslError as error:
        return type(error).__name__
    except OSError as error:
        return error.errno
    same = np.array_equal(sitk.GetArrayFromImage(reading.image), hu)
    return "values" if same else "other values"


def main() -> None:
    shim, folder = ctypes.CDLL(sys.argv[1]), Path(sys.argv[2])
    hu, found = scan(), []
    for path in write(folder, hu):
        name = (path.stem if path.suffix == ".mhd" else path.name).encode()  # the voxels lie in another file
        name = b"/" + name if path.is_file() else b"/h/IM0005"
        shim.arm(name, errno.EIO, ALWAYS, ALWAYS)
        assert outcome(path, hu) == "values", path
        calls = shim.seen()
        assert calls > 0, path
        for first in sorted({*np.linspace(1, calls, CALLS).astype(int).tolist()}):
            for error, last in ((errno.EIO, first), (errno.EIO, ALWAYS), (errno.ESTALE, ALWAYS)):
                shim.arm(name, error, first, last)
                found.append([path.name, error, first, last, outcome(path, hu)])
    shim.arm(b"", 0, 0, 0)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
