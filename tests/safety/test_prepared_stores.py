"""Stores that come from elsewhere, damaged or hostile: each takes out its own scan, and nothing else."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safety import study
from safety.study import BAD, GOOD, arrays, change_json, deliver

HUGE = 10**12


def card(**values: object) -> Callable[[Path], None]:
    return lambda folder: change_json(folder / "stores" / BAD / "store.json", **values)


def card_text(text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / "stores" / BAD / "store.json").write_text(text)


def metadata(name: str, **values: object) -> Callable[[Path], None]:
    return lambda folder: change_json(folder / "stores" / BAD / "store.zarr" / name / "zarr.json", **values)


def metadata_text(name: str, text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / "stores" / BAD / "store.zarr" / name / "zarr.json").write_text(text)


def values(about: dict | None = None, **changed: np.ndarray) -> Callable[[Path], None]:
    """A whole store, with a true digest, of values that cannot be."""
    return lambda folder: deliver(folder, BAD, about=about, **changed)


def status(text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / "stores" / BAD / "status.json").write_text(text)


def numbers(**found: object) -> Callable[[Path], None]:
    return status(json.dumps({"scan": BAD, "ok": True, "stage": "store", "numbers": found}))


def replaced(name: str, how: Callable[[Path], object]) -> Callable[[Path], None]:
    """A file or folder of the store removed, and something made in its place."""

    def change(folder: Path) -> None:
        path = Path(os.path.normpath(folder / "stores" / BAD / name))
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        how(path)

    return change


def shard(how: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "stores" / BAD / SHARD
        path.write_bytes(how(path.read_bytes()))

    return change


def swapped(name: str) -> Callable[[Path], None]:
    """An array of the other scan, whole and with right checksums."""

    def change(folder: Path) -> None:
        ours, theirs = (folder / "stores" / scan / "store.zarr" / name for scan in (BAD, GOOD))
        shutil.rmtree(ours)
        shutil.copytree(theirs, ours)

    return change


def flipped(where: float) -> Callable[[bytes], bytes]:
    def flip(data: bytes) -> bytes:
        at = int(where * len(data))
        return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]

    return flip


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(HUGE)


def edges(*pairs: tuple[int, int]) -> np.ndarray:
    return np.array(pairs, np.int64)


def with_one(name: str, value: float, at: int = 1) -> dict[str, np.ndarray]:
    changed = arrays(1)[name].copy()
    changed[at] = value
    return {name: changed}


def codecs_with(*more: dict) -> list[dict]:
    return [{"name": "bytes", "configuration": {"endian": "little"}}, *more]


SHARD = "store.zarr/patches/c/0/0/0/0"
ONE_CHUNK = {"name": "regular", "configuration": {"chunk_shape": [1, 3]}}
NOT_WHOLE, NO_ARRAY, MADE_UP = "holds no complete store", "cannot be opened", "cannot be used, for"
UNWRITTEN = "not those that were written"

CASES: dict[str, tuple[Callable[[Path], None], str]] = {
    # the card
    "no card": (lambda folder: (folder / "stores" / BAD / "store.json").unlink(), NOT_WHOLE),
    "card: no JSON": (card_text("half a"), NOT_WHOLE),
    "card: a list": (card_text("[]"), NOT_WHOLE),
    "card: null": (card_text("null"), NOT_WHOLE),
    "card: nested a million deep": (card_text("[" * 10**6 + "]" * 10**6), NOT_WHOLE),
    "card: 100 MB": (card_text(" " * 10**8), NOT_WHOLE),
    "card: not UTF-8": (replaced("store.json", lambda p: p.write_bytes(b'{"scan": "\xff"}')), NOT_WHOLE),
    "card: half a character": (card(note="\ud800"), NOT_WHOLE),
    "card: a pipe": (replaced("store.json", os.mkfifo), NOT_WHOLE),
    "card: a folder": (replaced("store.json", os.mkdir), NOT_WHOLE),
    "card: a device without end": (replaced("store.json", lambda p: p.symlink_to("/dev/zero")), NOT_WHOLE),
    "card: a link to itself": (replaced("store.json", lambda p: p.symlink_to(p)), NOT_WHOLE),
    "card: no digest": (card(digest=None), NOT_WHOLE),
    "card: the digest a number": (card(digest=7), NOT_WHOLE),
    "card: the scan a list": (card(scan=[BAD]), NOT_WHOLE),
    "card: another digest": (card(digest="0" * 64), UNWRITTEN),
    "card: another scan": (card(scan="../../etc"), "holds the store of scan"),
    "card: another atlas": (card(atlas="other"), "is of atlas other, not theirs"),
    "card: landmarks as text": (card(landmarks="5"), MADE_UP),
    "card: landmarks NaN": (card(landmarks=float("nan")), MADE_UP),
    "card: more valid than there are": (card(valid=5), MADE_UP),
    "card: measures a list": (card(measures=[3.0]), MADE_UP),
    "card: a measure as text": (card(measures={"laa_950_percent": "3"}), MADE_UP),
    "card: a measure NaN": (card(measures={"laa_950_percent": float("nan")}), MADE_UP),
    # the metadata of arrays
    "metadata: missing": (lambda f: (f / "stores" / BAD / "store.zarr/valid/zarr.json").unlink(), NO_ARRAY),
    "metadata: no JSON": (metadata_text("edges", "{"), NO_ARRAY),
    "metadata: a pipe": (replaced("store.zarr/valid/zarr.json", os.mkfifo), NO_ARRAY),
    "metadata: no shape": (metadata("valid", shape=None), NO_ARRAY),
    "metadata: terabytes of flags": (metadata("valid", shape=[HUGE]), NO_ARRAY),
    "metadata: terabytes in one chunk": (
        metadata(
            "valid", shape=[HUGE], chunk_grid={"name": "regular", "configuration": {"chunk_shape": [HUGE]}}
        ),
        NO_ARRAY,
    ),
    "metadata: terabytes of patches": (metadata("patches", shape=[5, 10**5, 10**5, 10**5]), NO_ARRAY),
    "metadata: a trillion patches": (metadata("patches", shape=[HUGE, 16, 16, 16]), NO_ARRAY),
    "metadata: a negative shape": (metadata("edges", shape=[-1, 2]), NO_ARRAY),
    "metadata: a shape of texts": (metadata("valid", shape=["5"]), NO_ARRAY),
    "metadata: another rank": (metadata("edges", shape=[6]), NO_ARRAY),
    "metadata: another type": (metadata("landmarks_mm", data_type="float32"), NO_ARRAY),
    "metadata: objects": (metadata("valid", data_type="object"), NO_ARRAY),
    "metadata: an unknown codec": (metadata("valid", codecs=codecs_with({"name": "rot13"})), NO_ARRAY),
    "metadata: a codec that unpickles": (
        metadata("valid", codecs=codecs_with({"name": "numcodecs.pickle", "configuration": {}})),
        NO_ARRAY,
    ),
    "metadata: no checksum": (metadata("lung_fraction", codecs=codecs_with()), NO_ARRAY),
    "metadata: another value for what is missing": (metadata("valid", fill_value=True), NO_ARRAY),
    "metadata: other chunks": (metadata("landmarks_mm", chunk_grid=ONE_CHUNK), NO_ARRAY),
    # the files of values
    "shard: missing": (lambda folder: (folder / "stores" / BAD / SHARD).unlink(), NO_ARRAY),
    "shard: empty": (shard(lambda data: b""), "missing or damaged"),
    "shard: cut": (shard(lambda data: data[: len(data) // 2]), "missing or damaged"),
    "shard: a bit of a patch": (shard(flipped(0.3)), "missing or damaged"),
    "shard: a bit of its index": (shard(flipped(0.9999)), "missing or damaged"),
    "shard: of zeros": (shard(lambda data: bytes(len(data))), "missing or damaged"),
    "shard: a pipe": (replaced(SHARD, os.mkfifo), NO_ARRAY),
    "shard: a device without end": (replaced(SHARD, lambda p: p.symlink_to("/dev/zero")), NO_ARRAY),
    "shard: a terabyte of nothing": (replaced(SHARD, sparse), NO_ARRAY),
    "flags: a terabyte of nothing": (replaced("store.zarr/valid/c/0", sparse), NO_ARRAY),
    "flags: cut": (replaced("store.zarr/valid/c/0", lambda p: p.write_bytes(b"\x02")), "missing or damaged"),
    "another scan's patches": (swapped("patches"), UNWRITTEN),
    "another store's landmarks": (
        lambda folder: (
            deliver(folder, "cleo", landmarks_mm=arrays(1)["landmarks_mm"] + 1),
            shutil.rmtree(folder / "stores" / BAD / "store.zarr/landmarks_mm"),
            shutil.move(
                folder / "stores/cleo/store.zarr/landmarks_mm", folder / "stores" / BAD / "store.zarr"
            ),
        ),
        UNWRITTEN,
    ),
    # values, with a true digest
    "an edge beyond the landmarks": (values(edges=edges((1, 5))), MADE_UP),
    "an edge with a negative number": (values(edges=edges((-1, 2))), MADE_UP),
    "an edge of a landmark with itself": (values(edges=edges((2, 2))), MADE_UP),
    "an edge twice": (values(edges=edges((1, 2), (1, 2))), MADE_UP),
    "an edge backwards": (values(edges=edges((2, 1))), MADE_UP),
    "an edge to a landmark that is not valid": (values(edges=edges((0, 1))), MADE_UP),
    "a landmark at NaN": (values(**with_one("landmarks_mm", np.nan)), MADE_UP),
    "a landmark at infinity": (values(**with_one("landmarks_mm", np.inf)), MADE_UP),
    "lung_fraction 2": (values(**with_one("lung_fraction", 2)), MADE_UP),
    "lung_fraction NaN": (values(**with_one("lung_fraction", np.nan)), MADE_UP),
    "flags of one landmark too few": (values(valid=np.arange(4) > 0), MADE_UP),
    "landmarks of one too few": (values(landmarks_mm=arrays(1)["landmarks_mm"][:4]), MADE_UP),
    "patches of one too few": (values(patches=arrays(1)["patches"][:4]), MADE_UP),
    "a store of four landmarks": (values(**arrays(1, study.atlas(landmarks=4))), "4 landmarks, not 5"),
    "a store of smaller patches": (
        values(**arrays(1, study.atlas(edge=8))),
        "8 voxels along a patch, not 16",
    ),
    "a store of nothing": (values(**arrays(1, study.atlas(landmarks=0))), "0 landmarks, not 5"),
    # the folder
    "the store: a file": (replaced(f"../{BAD}", lambda p: p.write_text("")), "is no folder"),
    "the store: a pipe": (replaced(f"../{BAD}", os.mkfifo), "is no folder"),
    "the store: a link to itself": (replaced(f"../{BAD}", lambda p: p.symlink_to(p)), "does not exist"),
    "the store: a link to another's": (
        replaced(f"../{BAD}", lambda p: p.symlink_to(p.parent / GOOD)),
        "stores/berta holds the store of scan anna",
    ),
    # the status
    "status: no JSON": (status("{"), "status.json cannot be used"),
    "status: a list": (status("[]"), "status.json cannot be used"),
    "status: an unknown key": (status('{"scan": "berta", "ok": true, "stage": "", "x": 1}'), "no key 'x'"),
    "status: ok as text": (status('{"scan": "berta", "ok": "yes", "stage": "store"}'), "ok should not be"),
    "status: without ok": (status('{"scan": "berta", "stage": "store"}'), "ok is missing"),
    "status: another scan's": (
        status('{"scan": "anna", "ok": true, "stage": "store"}'),
        "holds the store of scan anna",
    ),
    "status: numbers a list": (
        status('{"scan": "berta", "ok": true, "stage": "store", "numbers": []}'),
        "numbers should not be",
    ),
    "status: Dice as text": (numbers(dice_left="0.9"), "dice_left should not be '0.9'"),
    "status: Dice true": (numbers(dice_left=True), "dice_left should not be"),
    "status: Dice a list": (numbers(dice_right=[0.9]), "dice_right should not be"),
    "status: a number beyond all floats": (numbers(right_l=10**400), "right_l should not be"),
    "status: cut a list": (numbers(cut=["top"]), "cut should not be"),
    "status: doubts one text": (numbers(mask_doubts="many"), "mask_doubts should not be"),
    "status: spacing a text": (numbers(native_spacing_mm="1 1 1"), "native_spacing_mm should not be"),
    "status: spacing of texts": (numbers(native_spacing_mm=["1"]), "native_spacing_mm should not be"),
    "status: a pipe": (replaced("status.json", os.mkfifo), "status.json cannot be used"),
}

ODD_BUT_SOUND: dict[str, Callable[[Path], None]] = {
    "no status": lambda folder: (folder / "stores" / BAD / "status.json").unlink(),
    "numbers that nobody measured": numbers(dice_left=None, right_l=float("nan"), mask_doubts=None, cut=None),
    "numbers of another kind": numbers(
        scan="anna", subject="anna", picture="../x.png", verdict="pass", new=[1]
    ),
    "no edges": values(edges=np.empty((0, 2), np.int64)),
    "a landmark at NaN that is not valid": values(**with_one("landmarks_mm", np.nan, at=0)),
    "a linked store": lambda folder: (
        (folder / "stores" / BAD).rename(folder / "elsewhere"),
        (folder / "stores" / BAD).symlink_to(folder / "elsewhere"),
    ),
    "a linked shard": lambda folder: (
        (folder / "stores" / BAD / SHARD).rename(folder / "content"),
        (folder / "stores" / BAD / SHARD).symlink_to(folder / "content"),
    ),
}


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(tmp_path_factory.mktemp("pristine")) / "study"
    study.make(folder)
    return folder


@pytest.fixture
def folder(pristine: Path, tmp_path: Path) -> Path:
    return shutil.copytree(pristine, tmp_path / "study")


@pytest.mark.parametrize("case", CASES)
def test_a_store_that_cannot_be_used_takes_out_its_scan_alone(folder, case):
    damage, words = CASES[case]
    damage(folder)
    used, lost = study.judged(folder)
    assert used == [GOOD]
    assert list(lost) == [BAD]
    assert lost[BAD]["stage"] == "store"
    assert words in lost[BAD]["reason"]
    assert lost[BAD]["advice"].startswith("put the whole store into place")


@pytest.mark.parametrize("case", ODD_BUT_SOUND)
def test_what_is_odd_but_sound_is_used(folder, case):
    ODD_BUT_SOUND[case](folder)
    used, lost = study.judged(folder)
    assert (used, lost) == ([GOOD, BAD], {})


def test_a_row_keeps_its_own_name_whatever_the_status_says(folder):
    numbers(scan=GOOD, subject=GOOD, picture="../x.png")(folder)
    study.judged(folder)
    rows = study._rows(folder / "results/quality/quality.csv")
    assert [(row["scan"], row["subject"]) for row in rows] == [(GOOD, GOOD), (BAD, BAD)]
    assert "../x.png" not in (folder / "results/quality/index.html").read_text()
