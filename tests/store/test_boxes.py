import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import zarr
from train import lungs, synthetic

from ctssl.errors import StoreError
from ctssl.store.boxes import box_of, open_box
from ctssl.store.layout import sealed

ATLAS = synthetic.atlas()


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("boxes")
    return lungs.write(folder, "anna", 3, ATLAS)


@pytest.fixture
def copy(written, tmp_path):
    """The folder of a box that a test may harm."""
    return shutil.copytree(written.path, tmp_path / "anna")


def opened(path, scan="anna"):
    return open_box(path, scan=scan, atlas=ATLAS.id)


def test_another_library_reads_what_was_written(written):
    group = zarr.open_group(written.path / "box.zarr", mode="r")
    mask = lungs.lungs()
    assert (group["volume"][:] == lungs.values(3, mask)).all()
    assert (group["mask"][:] == mask).all()
    assert group["volume"].chunks == (32, 32, 32)
    assert group["volume"].shards == (64, 64, 64)
    assert [p.name for p in (written.path / "box.zarr/volume/c/0/0").iterdir()] == ["0"]


def test_the_card_knows_where_the_lungs_are(written):
    inside = np.argwhere(lungs.lungs())
    assert written.lungs.tolist() == [inside.min(0).tolist(), (inside.max(0) + 1).tolist()]
    assert written.shape == lungs.SHAPE


def test_what_lies_beyond_is_air_and_no_lung(written):
    hu, low = lungs.values(3, lungs.lungs()), np.array([-5, 30, -60])
    padded = np.pad(hu, 70, constant_values=-1024)
    found = written.read("volume", low, low + 50)
    a, b, c = low + 70
    assert (found == padded[a : a + 50, b : b + 50, c : c + 50]).all()
    assert (written.read("mask", (-9, -9, -9), (0, 5, 5)) == 0).all()
    assert (written.read("volume", (100, 0, 0), (104, 2, 3)) == -1024).all()


def test_a_box_in_memory_is_read_alike(written):
    card = {key: written.card[key] for key in ("scan", "atlas", "spacing_mm")}
    mask = lungs.lungs()
    here = box_of(lungs.values(3, mask), mask, card)
    assert here.card["digest"] == written.card["digest"]
    assert (here.lungs == written.lungs).all()
    assert (
        here.read("volume", (-1, 3, 5), (7, 60, 9)) == written.read("volume", (-1, 3, 5), (7, 60, 9))
    ).all()


def test_a_changed_byte_is_an_error_that_names_the_scan(copy):
    file = copy / "box.zarr/volume/c/0/0/0"
    data = bytearray(file.read_bytes())
    data[len(data) // 3] ^= 1
    file.write_bytes(data)
    with pytest.raises(StoreError, match="volume of scan anna is missing or damaged"):
        opened(copy).whole("volume")


def test_a_lost_shard_is_an_error_that_names_the_scan(copy):
    box = opened(copy)
    (copy / "box.zarr/mask/c/0/0/0").unlink()
    with pytest.raises(StoreError, match="mask of scan anna"):
        box.whole("mask")
    with pytest.raises(StoreError, match="no complete box of scan anna"):
        opened(copy)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"shape": [40, 44, 10**9]}, "its shape is"),
        ({"shape": [40, 44, True]}, "its shape is"),
        ({"shape": None}, "its shape is"),
        ({"lungs": [[0, 0, 0], [40, 44, 53]]}, "lie beyond its shape"),
        ({"lungs": "all"}, "its lungs are all"),
        ({"spacing_mm": "wide"}, "spacing_mm is no length"),
        ({"digest": 7}, "digest is no text"),
        ({"shape": [2, 2, 2], "lungs": [[0, 0, 0], [1, 1, 1]]}, "too large for the shape"),
        ({"atlas": "another"}, "of atlas another, not synthetic"),
        ({"scan": "bert"}, "of scan bert, not anna"),
    ],
)
def test_a_card_that_cannot_be_is_refused(copy, change, said):
    card = json.loads((copy / "box.json").read_text())
    del card["seal"]
    (copy / "box.json").write_text(json.dumps(sealed(card | change)))
    if change.get("shape") == [2, 2, 2]:  # noise does not shrink: the file stays as large as it was
        (copy / "box.zarr/volume/c/0/0/0").write_bytes(bytes(2_000_000))
    with pytest.raises(StoreError, match=said) as error:
        opened(copy)
    assert "scan anna" in str(error.value)


def test_a_card_without_its_seal_is_refused(copy):
    card = json.loads((copy / "box.json").read_text())
    (copy / "box.json").write_text(json.dumps(card | {"spacing_mm": 2.0}))
    with pytest.raises(StoreError, match="its seal does not fit"):
        opened(copy)


def test_verify_compares_every_value(written):
    written.verify()
    with pytest.raises(StoreError, match="are not those that were written"):
        replace(written, card=written.card | {"digest": "0"}).verify()
