"""Files that should be slices and hold none: at the end of a stack they leave no gap."""

import numpy as np
import pytest
import SimpleITK as sitk
from prepare.balls import body, straight
from prepare.dicom import height, write_slices

from ctssl.errors import ScanError
from ctssl.prepare.reading import read_scan

HU = body(straight())


def empty(path):
    path.write_bytes(b"")


def not_fetched(path):
    """As git-annex and DVC leave it."""
    path.unlink()
    path.symlink_to("../.git/annex/objects/SHA256E-s1--x")


def pointer(path):
    path.write_text("/annex/objects/SHA256E-s1--x\n")


@pytest.fixture(params=["", ".dcm", ".IMA"])
def files(tmp_path, request):
    """The slices from below."""
    write_slices(tmp_path / "scan", HU, straight())
    slices = sorted((tmp_path / "scan").iterdir(), key=height)
    return [path.rename(path.with_name(path.name + request.param)) for path in slices]


@pytest.mark.parametrize("lose", [empty, not_fetched, pointer])
def test_slices_that_were_not_copied_are_missed_at_the_end_too(files, lose):
    for path in files[-3:]:
        lose(path)
    with pytest.raises(ScanError, match=r"3 files beside the slices .* slices are missing") as fault:
        read_scan(files[0].parent, 10**8)
    assert "fetch" in fault.value.advice


def test_other_files_beside_the_slices_are_passed_over(files):
    folder = files[0].parent
    for name in ("README", "_SUCCESS", ".DS_Store", f"._{files[0].name}", "Thumbs.db", "notes7.txt", "LOCK"):
        (folder / name).write_bytes(b"")
    (folder / "latest").symlink_to("nowhere")
    (folder / "IM7777").mkdir()
    (folder / "IM8888.dcm").mkdir()
    read = read_scan(folder, 10**8)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read.image), HU)
    assert read.repairs == ()
