"""What a file is, is told by how it begins: tensors of any kind come in, all else is named and refused."""

import os
import zipfile

import pytest
from golden import fill
from imports import checkpoints
from imports.checkpoints import refused
from safetensors.torch import save_file


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (b"", "it is empty"),
        (b"<!DOCTYPE html><html>", "begins with b'<!DOCTYPE html><html>'"),
        (b"version https://git-lfs.github.com/spec/v1\n", "begins with b'version https://git-lfs."),
        (b"\0" * 257 + b"ustar\0" + b"\0" * 300, "an archive of tar, which is to be unpacked"),
        (b"\x40" + b"\0" * 7 + b'{"a":{"dtype":"F32","shape":[2]' + b" " * 40, "cannot be read"),
    ],
)
def test_a_file_of_another_kind_is_told_by_how_it_begins(tmp_path, start, words):
    (tmp_path / "a.pth").write_bytes(start)
    assert words in refused(tmp_path, tmp_path / "a.pth").message


def test_an_archive_with_weights_in_it_is_to_be_unpacked(tmp_path):
    """As those of MedicalNet are given away."""
    for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        with zipfile.ZipFile(tmp_path / "a.zip", "w", compression) as file:
            file.write(checkpoints.patch_file(tmp_path), "pretrain/resnet_10.pth")
        assert "unpacked: 'pretrain/resnet_10.pth'" in refused(tmp_path, tmp_path / "a.zip").message


def test_safetensors_that_are_cut(tmp_path):
    path = tmp_path / "a.safetensors"
    save_file(fill.state("context_aware_patch"), path)
    for size in (5, 100, 10**6):
        os.truncate(path, size)
        assert "fetch it again" in refused(tmp_path, path).advice
        save_file(fill.state("context_aware_patch"), path)
