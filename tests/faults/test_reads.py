"""A disk that fails while a scan is read is the machine's fault, at whichever call it fails."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import SimpleITK as sitk
from faults.reads import ALWAYS, GRID, scan

from ctssl.errors import ChangedError, DamagedError, ScanError
from ctssl.prepare import source
from ctssl.prepare.images import array_image
from ctssl.prepare.reading import read_labels, read_scan

HERE = Path(__file__).parent
FORMATS = ["a.nii", "b.nii.gz", "c.nrrd", "d.nrrd", "e.mha", "f.mha", "g.mhd", "h"]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    if sys.platform != "linux" or not shutil.which("gcc"):
        pytest.skip("failing reads are injected by a shim for Linux that gcc compiles: there is no gcc")
    folder = tmp_path_factory.mktemp("reads")
    shim = folder / "failing_reads.so"
    source_file = str(HERE / "failing_reads.c")
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", str(shim), source_file, "-ldl"], check=True, timeout=60)
    (folder / "scans").mkdir()
    done = subprocess.run(
        [sys.executable, str(HERE / "reads.py"), str(shim), str(folder / "scans")],
        env={**os.environ, "LD_PRELOAD": str(shim), "PYTHONPATH": str(HERE.parent)},
        text=True,
        capture_output=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", FORMATS)
def test_a_disk_that_goes_on_failing_is_the_machines_fault(found, name):
    cases = [(error, what) for file, error, _, last, what in found if file == name and last == ALWAYS]
    assert len(cases) > 1
    assert [what for _, what in cases] == [error for error, _ in cases]


@pytest.mark.parametrize("name", FORMATS)
def test_one_failing_read_gives_the_machines_fault_or_the_right_values(found, name):
    """Never "damaged", and never the zeros that some libraries put where they could not read."""
    cases = [what for file, error, _, last, what in found if file == name and last != ALWAYS]
    assert cases
    assert set(cases) <= {errno.EIO, "values"}


def test_a_file_whose_bytes_the_system_refuses_is_the_machines_fault(tmp_path):
    """/proc/self/mem opens for everybody, and reading its first byte is an I/O error."""
    if not Path("/proc/self/mem").exists():
        pytest.skip("there is no /proc/self/mem")
    for name in ("a.nii", "a.nii.gz", "a.nrrd", "a.mha"):
        (tmp_path / name).symlink_to("/proc/self/mem")
        with pytest.raises(OSError) as fault:
            read_scan(tmp_path / name, 10**6)
        assert fault.value.errno == errno.EIO


@pytest.mark.parametrize("read", [read_scan, read_labels])
@pytest.mark.parametrize("name", ["loop.nii.gz", "x" * 300 + ".nii", "file/inside.nii", "missing.nii"])
def test_a_path_that_leads_nowhere_is_the_scans_fault(tmp_path, read, name):
    (tmp_path / "loop.nii.gz").symlink_to("loop.nii.gz")
    (tmp_path / "file").touch()
    with pytest.raises(ScanError) as fault:
        read(tmp_path / name, 10**6)
    assert fault.value.advice


def test_a_folder_that_cannot_be_listed_hides_no_slices(tmp_path, monkeypatch):
    """Path.rglob leaves it out without a word: a scan would end where the disk fails."""
    (tmp_path / "more").mkdir()
    listed = os.scandir

    def failing(path):
        if str(path).endswith("more"):
            raise OSError(errno.EIO, "Input/output error", str(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", failing)
    with pytest.raises(OSError, match="Input/output error"):
        read_scan(tmp_path, 10**6)


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "a.nii"
    sitk.WriteImage(array_image(scan(), GRID), str(path))
    return path


def other(path: Path) -> None:
    sitk.WriteImage(array_image(scan()[::-1].copy(), GRID), str(path.with_name("b.nii")))
    path.with_name("b.nii").replace(path)


def cut(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def longer(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def gone(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("change", [other, cut, longer, gone])
@pytest.mark.parametrize("moment", ["before the voxels", "after the voxels"])
def test_a_file_that_changes_while_it_is_read_is_neither_damaged_nor_a_scan(
    image, monkeypatch, change, moment
):
    from ctssl.prepare import nifti

    read = nifti.read_voxels

    def changing(block):
        if moment == "before the voxels":
            change(image)
            return read(block)
        values = read(block)
        change(image)
        return values

    monkeypatch.setattr(nifti, "read_voxels", changing)
    with pytest.raises(ChangedError, match="changed while it was read"):
        read_scan(image, 10**6)


def test_a_slice_that_arrives_while_a_folder_is_read_is_noticed(tmp_path):
    (tmp_path / "one").write_text("1")

    def copying():
        (tmp_path / "two").write_text("2")

    with pytest.raises(ChangedError):
        source.steadily(tmp_path, copying, 10**6)


@pytest.mark.parametrize("times", [1, 2])
def test_damage_is_believed_when_it_is_said_twice(image, times):
    said = []

    def damaged():
        if len(said) < times:
            said.append("damaged")
            raise DamagedError("damaged", "copy it again")
        return "values"

    if times == 1:
        assert source.steadily(image, damaged, 10**6) == "values"
    else:
        with pytest.raises(DamagedError):
            source.steadily(image, damaged, 10**6)
    assert len(said) == times


def test_a_huge_damaged_file_is_not_read_to_its_end(tmp_path):
    """A terabyte of nothing: reading it would take hours."""
    path = tmp_path / "a.nii"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ScanError):
        read_scan(path, 10**6)
