import json
import shutil
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import zarr

from ctssl.errors import StoreError
from ctssl.store.layout import AIR_HU, StoreArrays
from ctssl.store.reader import open_store, open_stores, read_patches, verify
from ctssl.store.writer import write_store

CARD = {"scan": "anna", "atlas": "a1", "spacing_mm": 1.0}
SMALL = ("valid", "landmarks_mm", "lung_fraction", "edges")


def arrays(seed: int = 0, edges=((0, 1), (1, 4))) -> StoreArrays:
    rng = np.random.default_rng(seed)
    patches = rng.integers(-1024, 3072, (5, 32, 32, 32)).astype(np.int16)
    patches[2] = AIR_HU  # nothing but air
    valid = np.array([True, True, True, False, True])
    patches[3] = AIR_HU
    return StoreArrays(
        patches,
        valid,
        rng.uniform(-200, 200, (5, 3)),
        rng.random(5).astype(np.float32),
        np.array(edges, np.int64).reshape(-1, 2),
    )


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stores") / "anna"
    folder.mkdir()
    write_store(folder, arrays(), CARD)
    return folder


@pytest.fixture
def path(pristine, tmp_path):
    return shutil.copytree(pristine, tmp_path / "anna")


def test_values_come_back(path):
    store, written = open_store(path, atlas="a1"), arrays()
    assert store.scan == "anna"
    assert (store.card["landmarks"], store.card["valid"]) == (5, 4)
    for name, values in written.named().items():
        back = store.patches() if name == "patches" else getattr(store, name)
        assert back.dtype == values.dtype, name
        np.testing.assert_array_equal(back, values)
    verify(path)


def test_zarr_itself_reads_the_same(path):
    group = zarr.open_group(path / "store.zarr", mode="r")
    for name, values in arrays().named().items():
        np.testing.assert_array_equal(group[name][...], values)
    assert group["patches"].shards == (5, 32, 32, 32)
    assert group["patches"].chunks == (1, 32, 32, 32)


def test_patches_come_in_the_order_asked_for(path, tmp_path):
    other = tmp_path / "berta"
    other.mkdir()
    write_store(other, arrays(1), CARD | {"scan": "berta"})
    stores = [open_store(path), open_store(other)]
    scans, landmarks = np.array([1, 0, 1, 1, 0]), np.array([4, 0, 1, 4, 2])
    expected = [arrays(s).patches[j] for s, j in zip(scans, landmarks, strict=True)]
    np.testing.assert_array_equal(read_patches(stores, scans, landmarks), expected)
    np.testing.assert_array_equal(stores[0].patches(np.array([3, 1])), arrays().patches[[3, 1]])
    assert read_patches(stores, np.empty(0, int), np.empty(0, int)).shape == (0, 32, 32, 32)


def test_an_all_air_patch_is_stored_and_not_implied(path):
    np.testing.assert_array_equal(open_store(path).patches(np.array([2])), AIR_HU)
    [shard] = data_files(path, "patches")
    lines = np.frombuffer(shard.read_bytes()[-(5 * 16 + 4) : -4], "<u8").reshape(5, 2)  # offset, length
    assert (lines[:, 1] < 2**40).all()  # a missing chunk has all bits set


def test_arrays_of_nothing_but_the_fill_value_are_stored_and_not_implied(tmp_path):
    zeros = StoreArrays(
        np.zeros((2, 32, 32, 32), np.int16),
        np.zeros(2, bool),
        np.zeros((2, 3)),
        np.zeros(2, np.float32),
        np.empty((0, 2), np.int64),  # (0, 0) would be a self loop, which no store holds
    )
    write_store(tmp_path, zeros, CARD)
    for name in ("patches", "valid", "landmarks_mm", "lung_fraction"):
        assert len(data_files(tmp_path, name)) == 1, name
    [shard] = data_files(tmp_path, "patches")
    assert shard.stat().st_size > 2 * (16 + 16), "both chunks are there, not their index alone"
    verify(tmp_path)


def zarr_codecs(array) -> list[dict]:
    """Codecs of a zarr array, those of the inner chunk where there are shards."""
    codecs = [codec.to_dict() for codec in array.metadata.codecs]
    return codecs[0]["configuration"]["codecs"] if codecs[0]["name"] == "sharding_indexed" else codecs


def test_codecs_and_chunks_are_those_that_the_documentation_names(path):
    group = zarr.open_group(path / "store.zarr", mode="r")
    assert sorted(group.array_keys()) == sorted(arrays().named())
    for name, values in arrays().named().items():
        array = group[name]
        assert array.dtype == values.dtype
        assert array.fill_value == 0
        plain, blosc, crc = zarr_codecs(array)
        assert (plain["name"], crc["name"]) == ("bytes", "crc32c")
        chosen = {key: blosc["configuration"][key] for key in ("cname", "shuffle", "typesize")}
        assert chosen == {"cname": "lz4hc", "shuffle": "bitshuffle", "typesize": values.dtype.itemsize}
        assert array.chunks == ((1, 32, 32, 32) if name == "patches" else values.shape)


def test_a_store_is_not_written_over(path):
    before = (path / "store.json").read_bytes()
    with pytest.raises(FileExistsError):
        write_store(path, arrays(1), CARD)
    assert (path / "store.json").read_bytes() == before
    verify(path)


def test_a_folder_that_is_named_by_a_way_around_can_be_written(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    card = write_store(Path("../there"), arrays(), CARD)
    verify(tmp_path / "there")
    assert open_store(tmp_path / "there").card == card


def data_files(path, name):
    return [p for p in sorted((path / "store.zarr" / name / "c").rglob("*")) if p.is_file()]


def test_patches_lie_in_one_shard(path):
    assert len(data_files(path, "patches")) == 1


@pytest.mark.parametrize("name", ["patches", *SMALL])
def test_a_lost_file_is_an_error(path, name):
    for file in data_files(path, name):
        file.unlink()
    with pytest.raises(StoreError) as fault:
        open_store(path).patches()
    assert "workflow" in fault.value.advice
    with pytest.raises(StoreError):
        verify(path)


@pytest.mark.parametrize("name", ["patches", *SMALL])
@pytest.mark.parametrize("where", [0.1, 0.5, 0.9])
def test_a_damaged_byte_is_an_error(path, name, where):
    [file] = data_files(path, name)
    content = bytearray(file.read_bytes())
    content[int(where * len(content))] ^= 0x10
    file.write_bytes(content)
    with pytest.raises(StoreError):
        open_store(path).patches()
    with pytest.raises(StoreError):
        verify(path)


@pytest.mark.parametrize("name", ["patches", "landmarks_mm"])
def test_a_cut_file_is_an_error(path, name):
    [file] = data_files(path, name)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(StoreError):
        open_store(path).patches()


def index_of(shard: bytes) -> np.ndarray:
    """(5, 2) offset and length of each patch in the shard, from the format's own words."""
    return np.frombuffer(shard[-(5 * 16 + 4) : -4], "<u8").reshape(5, 2).astype(int)


def test_a_damaged_patch_is_named_and_the_others_are_read(path):
    [file] = data_files(path, "patches")
    content = bytearray(file.read_bytes())
    offset, length = index_of(content)[3]
    for where in (offset, offset + 7, offset + length // 2, offset + length - 1):
        content[where] ^= 1
        file.write_bytes(content)
        store = open_store(path)
        with pytest.raises(StoreError, match="landmark 3 of scan anna"):
            read_patches([store], np.zeros(3, int), np.array([0, 3, 1]))
        others = np.array([4, 0, 1, 2])
        np.testing.assert_array_equal(store.patches(others), arrays().patches[others])
        content[where] ^= 1


def test_every_flipped_byte_gives_the_written_values_or_a_named_error(path):
    whole, written, rng = open_store(path), arrays().named(), np.random.default_rng(5)
    refused = Counter()
    for file in (p for p in sorted(path.rglob("*")) if p.is_file()):
        sound, name = file.read_bytes(), str(file.relative_to(path))
        ends = len(sound) - 84, len(sound)  # of a shard: its index
        places = range(int(rng.integers(2)), len(sound), 2)
        if len(sound) > 4000:
            places = [*rng.integers(0, len(sound), 50), *range(*ends, 2)]
        for where in places:
            content = bytearray(sound)
            content[where] ^= 1 << int(rng.integers(8))
            file.write_bytes(content)
            said = None
            try:
                store = open_store(path)
                back = {"patches": store.patches()} | {name: getattr(store, name) for name in SMALL}
            except StoreError as error:
                said = str(error)
            if said:
                refused[name] += 1
                assert "landmark" in said if "patches/c" in name else "anna" in said
                continue
            assert name.endswith(".json"), f"byte {where} of {name} is unguarded"
            assert store.card == whole.card  # a blank, say
            for key, values in written.items():
                np.testing.assert_array_equal(back[key], values)
        file.write_bytes(sound)
    assert refused["store.json"] > 150
    assert refused["store.zarr/patches/c/0/0/0/0"] == 50 + 42


def test_a_card_without_a_seal_or_with_changed_words_is_refused(path):
    card = json.loads((path / "store.json").read_text())
    for changed in (
        {key: value for key, value in card.items() if key != "seal"},
        card | {"spacing_mm": 2.0},
        card | {"extra": None},
    ):
        (path / "store.json").write_text(json.dumps(changed))
        with pytest.raises(StoreError, match="seal"):
            open_store(path)
    (path / "store.json").write_text(json.dumps(card, indent=7))  # the same card, written otherwise
    assert open_store(path).card == card


def test_many_stores_share_one_handle_and_hold_no_file_open(path):
    stores = open_stores([path] * 400)
    before = len(list(Path("/proc/self/fd").iterdir()))
    pick = np.random.default_rng(0).integers(0, 400, 300), np.random.default_rng(1).integers(0, 5, 300)
    np.testing.assert_array_equal(read_patches(stores, *pick), arrays().patches[pick[1]])
    assert len({id(store._patches) for store in stores}) == 1
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 1
    assert open_stores([]) == []


def test_stores_of_one_handle_and_stores_opened_alone_can_be_read_together(path, tmp_path):
    others = []
    for number in (1, 2):
        others.append(tmp_path / f"other{number}")
        others[-1].mkdir()
        write_store(others[-1], arrays(number), CARD | {"scan": f"other{number}"})
    stores = [*open_stores(others), open_store(path)]
    scans, landmarks = np.array([2, 1, 0, 2, 1, 0]), np.array([4, 1, 0, 0, 3, 4])
    expected = [arrays((s + 1) % 3).patches[j] for s, j in zip(scans, landmarks, strict=True)]
    np.testing.assert_array_equal(read_patches(stores, scans, landmarks), expected)


def test_threads_read_at_the_same_time(path):
    stores = open_stores([path] * 3)

    def read(seed):
        rng = np.random.default_rng(seed)
        pick = rng.integers(0, 3, 40), rng.integers(0, 5, 40)
        return (read_patches(stores, *pick) == arrays().patches[pick[1]]).all()

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(read, range(24)))


def test_a_landmark_that_is_not_there_is_no_damage(path):
    for landmark in (-1, 5):
        with pytest.raises(IndexError, match="0 to 4"):
            open_store(path).patches(np.array([0, landmark]))


@pytest.mark.parametrize(
    "wrong",
    [np.array([True, False, True, True, False]), np.array([1.0]), np.array([[0, 1]]), np.array(3), ["1"]],
)
def test_a_mask_or_a_fraction_is_no_row_of_numbers(path, wrong):
    with pytest.raises(TypeError, match="landmarks are a row of whole numbers"):
        open_store(path).patches(wrong)
    with pytest.raises(TypeError, match="scans are a row of whole numbers"):
        read_patches([open_store(path)], wrong, np.array([0]))


def test_scans_are_looked_at_as_landmarks_are(path):
    stores = open_stores([path] * 2)
    for scan in (-1, 2):
        with pytest.raises(IndexError, match="scans are numbers from 0 to 1"):
            read_patches(stores, np.array([0, scan]), np.array([0, 1]))
    with pytest.raises(ValueError, match="2 and 3 came"):
        read_patches(stores, np.array([0, 1]), np.array([0, 1, 2]))
    with pytest.raises(ValueError, match="at least one store"):
        read_patches([], np.array([0]), np.array([0]))
    for kind in (np.uint8, np.int32, np.uint64):
        pick = np.array([1, 0], kind), np.array([4, 1], kind)
        np.testing.assert_array_equal(read_patches(stores, *pick), arrays().patches[[4, 1]])
    assert read_patches(stores, [], []).shape == (0, 32, 32, 32)


def test_stores_with_patches_of_two_shapes_are_not_read_together(path, tmp_path):
    fewer = {name: values[:2] for name, values in vars(arrays(edges=((0, 1),))).items()}
    (tmp_path / "fewer").mkdir()
    write_store(tmp_path / "fewer", StoreArrays(**fewer), CARD)
    with pytest.raises(StoreError, match="one shape"):
        open_stores([path, tmp_path / "fewer"])


def test_values_that_another_program_changed_are_noticed(path):
    zarr.open_group(path / "store.zarr")["lung_fraction"][1] = 0.5
    open_store(path)  # sound as a file ...
    with pytest.raises(StoreError, match="not those that were written"):
        verify(path)  # ... but not what the card says


@pytest.mark.parametrize("content", [None, "", "{", '{"scan": "anna"}', "[]"])
def test_without_a_whole_card_there_is_no_store(path, content):
    if content is None:
        (path / "store.json").unlink()
    else:
        (path / "store.json").write_text(content)
    with pytest.raises(StoreError, match="no complete store"):
        open_store(path, atlas="a1")


def test_a_missing_array_is_an_error(path):
    shutil.rmtree(path / "store.zarr/edges")
    with pytest.raises(StoreError, match="edges"):
        open_store(path)


def test_another_atlas_is_refused(path):
    with pytest.raises(StoreError, match="atlas a1, but this needs atlas a2"):
        open_store(path, atlas="a2")


def test_the_digest_changes_with_any_value():
    digests = {arrays().digest()}
    for name in arrays().named():
        changed = {key: value.copy() for key, value in vars(arrays()).items()}
        flat = changed[name].reshape(-1)
        flat[-1] = ~flat[-1] if flat.dtype == bool else flat[-1] + 1
        digests.add(StoreArrays(**changed).digest())
    digests.add(arrays(edges=((0, 1),)).digest())
    digests.add(arrays(edges=()).digest())
    assert len(digests) == 8


def test_the_digest_does_not_depend_on_memory_layout(pristine):
    same = arrays()
    turned = StoreArrays(
        np.asfortranarray(same.patches),
        same.valid.astype(np.uint8).astype(bool),
        np.asfortranarray(same.landmarks_mm),
        same.lung_fraction.astype(np.float64),
        same.edges.astype(np.int32),
    )
    assert turned.digest() == same.digest()
    assert json.loads((pristine / "store.json").read_text())["digest"] == same.digest()


def test_a_scan_without_edges_has_a_store(tmp_path):
    write_store(tmp_path, arrays(edges=()), CARD)
    assert open_store(tmp_path).edges.shape == (0, 2)
    assert open_store(tmp_path).edges.dtype == np.int64
    verify(tmp_path)
