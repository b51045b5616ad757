import numpy as np
import pytest
import zarr

from ctssl.errors import StoreError
from ctssl.store import packed
from ctssl.store.layout import StoreArrays
from ctssl.store.packed import open_packed, pack
from ctssl.store.reader import open_stores, read_patches
from ctssl.store.writer import write_store

LANDMARKS = 4


def write(folder, name, seed, atlas="a1"):
    rng = np.random.default_rng(seed)
    valid = rng.random(LANDMARKS) < 0.7
    shown = np.flatnonzero(valid)
    arrays = StoreArrays(
        rng.integers(-1024, 3072, (LANDMARKS, 8, 8, 8)).astype(np.int16),
        valid,
        rng.uniform(-200, 200, (LANDMARKS, 3)),
        rng.random(LANDMARKS).astype(np.float32),
        np.stack([shown[:-1], shown[1:]], 1)[: seed % 4],  # some have no edge
    )
    path = folder / f"{name}-{seed}"
    path.mkdir(parents=True)
    write_store(path, arrays, {"scan": name, "atlas": atlas, "measures": {"laa": seed / 7}})
    return path


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(packed, "BLOCK", 3)
    monkeypatch.setattr(packed, "AT_ONCE_BYTES", 3 * 8**3 * 2 * 3)  # three landmarks of a block


@pytest.fixture
def stores(tmp_path):
    return open_stores([write(tmp_path / "stores", f"s{i}", i) for i in range(8)])


def digests(stores):
    return {store.scan: store.card["digest"] for store in stores}


def assert_same(copies, stores):
    assert [copy.scan for copy in copies] == [store.scan for store in stores]
    for copy, store in zip(copies, stores, strict=True):
        assert copy.card == store.card
        for name in ("valid", "landmarks_mm", "lung_fraction", "edges"):
            one, other = getattr(copy, name), getattr(store, name)
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(copy.patches(), store.patches())
    rng = np.random.default_rng(0)
    pick = rng.integers(0, len(stores), 50), rng.integers(0, LANDMARKS, 50)
    np.testing.assert_array_equal(read_patches(copies, *pick), read_patches(stores, *pick))


def test_the_copy_gives_what_the_stores_give_in_any_order(tmp_path, stores):
    assert pack(tmp_path / "packed", stores) == 8
    for some in (stores, stores[::-1], stores[2:5]):
        assert_same(open_packed(tmp_path / "packed", digests(some), atlas="a1"), some)


def test_a_shard_holds_one_landmark_of_some_scans(tmp_path, stores):
    pack(tmp_path / "packed", stores)
    group = zarr.open_group(tmp_path / "packed", mode="r")  # the independent reader
    assert group["patches"].shards == (3, 1, 8, 8, 8)
    np.testing.assert_array_equal(group["patches"][5, 2], stores[5].patches(np.array([2]))[0])
    np.testing.assert_array_equal(group["valid"][...], [store.valid for store in stores])
    files = [p for p in (tmp_path / "packed/patches/c").rglob("*") if p.is_file()]
    assert len(files) == 3 * LANDMARKS


@pytest.mark.parametrize("first", [1, 2, 3, 5])
def test_new_scans_are_added_and_old_ones_are_not_read_again(tmp_path, stores, first, monkeypatch):
    pack(tmp_path / "packed", stores[:first])
    with pytest.raises(StoreError, match=f"lacks {8 - first} of 8 scans: s{first}"):
        open_packed(tmp_path / "packed", digests(stores), atlas="a1")
    read = []
    monkeypatch.setattr(packed, "read_patches", lambda s, *at: read.extend(s) or read_patches(s, *at))
    assert pack(tmp_path / "packed", stores) == 8 - first
    assert {store.scan for store in read} == {store.scan for store in stores[first:]}
    assert pack(tmp_path / "packed", stores) == 0
    assert_same(open_packed(tmp_path / "packed", digests(stores), atlas="a1"), stores)


def test_a_scan_with_another_store_gets_its_new_values(tmp_path, stores):
    pack(tmp_path / "packed", stores)
    [newer] = open_stores([write(tmp_path / "newer", "s3", 30)])
    now = [*stores[:3], newer, *stores[4:]]
    with pytest.raises(StoreError, match="lacks 1 of 8 scans: s3"):
        open_packed(tmp_path / "packed", digests(now), atlas="a1")
    assert pack(tmp_path / "packed", now) == 1
    assert_same(open_packed(tmp_path / "packed", digests(now), atlas="a1"), now)
    assert pack(tmp_path / "packed", stores) == 0, "the first store is still there"
    assert_same(open_packed(tmp_path / "packed", digests(stores), atlas="a1"), stores)


def test_scans_of_equal_values_and_new_names_have_rows_of_their_own(tmp_path, stores):
    pack(tmp_path / "packed", stores)
    twin, renamed = open_stores([write(tmp_path / "more", name, 3) for name in ("twin", "renamed")])
    assert twin.card["digest"] == renamed.card["digest"] == stores[3].card["digest"]
    for some, added in (([*stores, twin], 1), ([*stores[:3], renamed, *stores[4:]], 1), (stores, 0)):
        assert pack(tmp_path / "packed", some) == added
        assert_same(open_packed(tmp_path / "packed", digests(some), atlas="a1"), some)


def test_a_copy_that_was_interrupted_stays_as_it_was_and_goes_on(tmp_path, stores, monkeypatch):
    pack(tmp_path / "packed", stores[:4])
    with monkeypatch.context() as patched:
        patched.setattr(packed, "sealed", lambda card: 1 / 0)  # all is written but the card
        with pytest.raises(ZeroDivisionError):
            pack(tmp_path / "packed", [*stores[:4], *stores[6:]])
        assert_same(open_packed(tmp_path / "packed", digests(stores[:4]), atlas="a1"), stores[:4])
    pack(tmp_path / "packed", stores)
    assert_same(open_packed(tmp_path / "packed", digests(stores), atlas="a1"), stores)


def test_a_copy_of_another_atlas_or_of_mostly_other_scans_is_made_anew(tmp_path, stores):
    theirs = open_stores([write(tmp_path / "theirs", f"s{i}", 40 + i, atlas="a2") for i in range(5)])
    pack(tmp_path / "packed", stores)
    with pytest.raises(StoreError, match="atlas a1, but this needs atlas a2"):
        open_packed(tmp_path / "packed", digests(stores), atlas="a2")
    assert pack(tmp_path / "packed", theirs) == 5
    assert_same(open_packed(tmp_path / "packed", digests(theirs), atlas="a2"), theirs)
    assert pack(tmp_path / "packed", stores) == 8
    assert pack(tmp_path / "packed", stores[:3]) == 3
    files = [p for p in (tmp_path / "packed/patches/c").rglob("*") if p.is_file()]
    assert len(files) == LANDMARKS


def test_a_damaged_or_lost_shard_is_named(tmp_path, stores):
    pack(tmp_path / "packed", stores)
    shard = tmp_path / "packed/patches/c/1/2/0/0/0"  # scans 3 to 5, landmark 2
    sound = shard.read_bytes()
    for content in (sound[:40], bytes(len(sound)), None):
        if content is None:
            shard.unlink()
        else:
            shard.write_bytes(content)
        copies = open_packed(tmp_path / "packed", digests(stores), atlas="a1")
        with pytest.raises(StoreError, match="landmark 2 of scan s4") as fault:
            read_patches(copies, np.array([0, 4, 1]), np.array([2, 2, 0]))
        assert "c/1/2/0/0/0" in fault.value.message
        assert "run the workflow again" in fault.value.advice
        fine = np.array([0, 4, 7]), np.array([2, 1, 2])
        np.testing.assert_array_equal(read_patches(copies, *fine), read_patches(stores, *fine))


@pytest.mark.parametrize("name", ["valid", "landmarks_mm", "lung_fraction", "edges"])
def test_damaged_small_arrays_are_named(tmp_path, stores, name):
    pack(tmp_path / "packed", stores)
    file = next(p for p in (tmp_path / "packed" / name / "c").rglob("*") if p.is_file())
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(StoreError, match=f"{name} of the packed copy"):
        open_packed(tmp_path / "packed", digests(stores), atlas="a1")


@pytest.mark.parametrize("content", [None, b"", b"{}", b"\xff"])
def test_without_a_whole_card_there_is_no_copy(tmp_path, stores, content):
    pack(tmp_path / "packed", stores)
    card = tmp_path / "packed/packed.json"
    if content is None:
        card.unlink()
    else:
        card.write_bytes(content)
    with pytest.raises(StoreError, match="no complete packed copy"):
        open_packed(tmp_path / "packed", digests(stores), atlas="a1")
    assert pack(tmp_path / "packed", stores) == 8
    assert_same(open_packed(tmp_path / "packed", digests(stores), atlas="a1"), stores)


def test_the_cards_of_a_copy_are_sealed(tmp_path, stores):
    pack(tmp_path / "packed", stores)
    card = tmp_path / "packed/packed.json"
    card.write_text(card.read_text().replace('"scan": "s1"', '"scan": "s9"'))
    with pytest.raises(StoreError, match="seal"):
        open_packed(tmp_path / "packed", digests(stores), atlas="a1")
