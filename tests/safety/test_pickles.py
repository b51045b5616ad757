"""A pickle from outside is never run, whatever file it comes as: a named error, or the file is made again."""

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
from safety import study
from safety.study import BAD, GOOD
from snakemake.common.configfile import load_configfile
from snakemake.exceptions import WorkflowError

from ctssl import config
from ctssl.errors import ConfigError, CtsslError, WeightsError
from ctssl.evaluate.kept import keep, kept
from ctssl.prepare.atlas_file import read_points
from ctssl.prepare.lungmask import load_network
from ctssl.train import checkpoint, weights

FINGERPRINT = "0" * 64

# torch warns of pickles that it then refuses
pytestmark = pytest.mark.filterwarnings(
    "ignore:Detected pickle protocol", "ignore:'torch.load' received a zip"
)


class Runs:
    """Unpickling this makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple:
        return Path.touch, (self.marker,)


def plain(marker: Path) -> bytes:
    return pickle.dumps(Runs(marker))


def in_numpy(marker: Path) -> bytes:
    data = io.BytesIO()
    np.save(data, np.array([[Runs(marker)] * 3, [1, 2, 3]], dtype=object), allow_pickle=True)
    return data.getvalue()


def in_numpy_archive(marker: Path) -> bytes:
    data = io.BytesIO()
    np.savez(data, points=np.array([Runs(marker)], dtype=object))
    return data.getvalue()


def in_torch(marker: Path) -> bytes:
    data = io.BytesIO()
    state = {
        "fingerprint": FINGERPRINT,
        "done": 1,
        "method": Runs(marker),
        "optimisers": [],
        "history_bytes": 0,
    }
    torch.save(state, data)
    return data.getvalue()


def in_old_torch(marker: Path) -> bytes:
    data = io.BytesIO()
    torch.save({"a": Runs(marker)}, data, _use_new_zipfile_serialization=False)
    return data.getvalue()


def in_torch_archive(marker: Path) -> bytes:
    """What torch.jit writes: an archive with code."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as file:
        file.writestr("archive/data.pkl", plain(marker))
        file.writestr("archive/constants.pkl", plain(marker))
        file.writestr("archive/version", "3\n")
    return data.getvalue()


PICKLES = [plain, in_numpy, in_numpy_archive, in_torch, in_old_torch, in_torch_archive]


def as_landmarks(path: Path) -> None:
    read_points(path.rename(path.with_suffix(".npy")))


def as_mask_weights(path: Path) -> None:
    load_network("R231", path)


def as_weights(path: Path) -> None:
    """With a card that fits, and the true sha256."""
    path = path.rename(path.with_name("model.safetensors"))
    chest = study.atlas()
    card = {"method": "context-aware", "options": {}, "atlas": chest.id, "landmarks": study.LANDMARKS}
    card |= {"spacing_mm": chest.spacing_mm, "sha256": sha256(path.read_bytes()).hexdigest()}
    path.with_suffix(".json").write_text(json.dumps(card))
    weights.load(path, chest)


def as_checkpoint(path: Path) -> None:
    checkpoint.load(path.rename(path.with_name("step-000000001.pt")).parent, FINGERPRINT)


def as_checkpoint_with_its_digest(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(sha256(data).hexdigest().encode() + data)
    as_checkpoint(path)


USES = [as_landmarks, as_mask_weights, as_weights, as_checkpoint, as_checkpoint_with_its_digest]


@pytest.mark.parametrize("made", PICKLES, ids=lambda made: made.__name__)
@pytest.mark.parametrize("used", USES, ids=lambda used: used.__name__)
def test_a_pickle_is_an_error_and_is_not_run(tmp_path, made, used):
    marker, path = tmp_path / "ran", tmp_path / "file"
    path.write_bytes(made(marker))
    with pytest.raises(CtsslError) as fault:
        used(path)
    assert isinstance(fault.value, ConfigError | WeightsError)
    assert str(tmp_path) in fault.value.message
    assert fault.value.advice
    assert not marker.exists()


@pytest.mark.parametrize("made", PICKLES, ids=lambda made: made.__name__)
def test_such_a_pickle_would_run_if_it_were_unpickled(tmp_path, made):
    """The proof that the proof is one."""
    marker = tmp_path / "ran"
    data = io.BytesIO(made(marker))
    unpickle: dict[Callable, Callable] = {
        plain: pickle.load,
        in_numpy: lambda file: np.load(file, allow_pickle=True),
        in_numpy_archive: lambda file: np.load(file, allow_pickle=True)["points"],
        in_torch_archive: lambda file: pickle.loads(zipfile.ZipFile(file).read("archive/data.pkl")),
    }
    unpickle.get(made, lambda file: torch.load(file, weights_only=False))(data)
    assert marker.exists()


@pytest.mark.parametrize("made", PICKLES, ids=lambda made: made.__name__)
def test_a_pickle_in_the_cache_of_features_is_made_again(tmp_path, made, capsys):
    marker, path = tmp_path / "ran", tmp_path / "cached.npy"
    path.write_bytes(made(marker))
    assert kept(path) is None
    assert "made again" in capsys.readouterr().err
    assert not marker.exists()


@pytest.mark.parametrize("made", PICKLES, ids=lambda made: made.__name__)
@pytest.mark.parametrize(
    "name", ["store.json", "status.json", "store.zarr/valid/c/0", "store.zarr/valid/zarr.json"]
)
def test_a_pickle_in_a_store_takes_out_its_scan(tmp_path, made, name):
    study.make(tmp_path / "study")
    (tmp_path / "study/stores" / BAD / name).write_bytes(made(tmp_path / "ran"))
    used, lost = study.judged(tmp_path / "study")
    assert (used, list(lost)) == ([GOOD], [BAD])
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("tag", ["python/object/apply:pathlib.Path.touch", "python/object/apply:os.mkdir"])
def test_yaml_that_would_run_code_is_an_error(tmp_path, tag):
    path = tmp_path / "study.yaml"
    path.write_text(f"results: !!{tag} [{tmp_path / 'ran'}]\n")
    with pytest.raises(ConfigError, match=r"study\.yaml"):
        config.read(path)
    with pytest.raises(WorkflowError):  # what Snakemake makes of the same file
        load_configfile(str(path))
    assert not (tmp_path / "ran").exists()


def test_the_cache_of_features_gives_what_it_got(tmp_path):
    values = np.linspace(-1, 1, 7, dtype=np.float32)
    keep(tmp_path / "a.npy", values)
    np.testing.assert_array_equal(kept(tmp_path / "a.npy"), values)
    assert kept(tmp_path / "b.npy") is None


def header(shape: str, dtype: str = "<f4") -> bytes:
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    text += b" " * (117 - len(text)) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x93NUMPY",
        header("(1000000000000,)"),
        header("(4,)"),
        header("(4,)") + bytes(7),
        header("(-1,)") + bytes(16),
        header("(2, 2)") + bytes(16),
        header("(4,)", "<i4") + bytes(16),
        header("(4,)", "|O") + bytes(64),
        header("(4,)") + b"\xff" * 16,
        header("__import__('os')") + bytes(16),
    ],
)
def test_damaged_features_in_the_cache_are_made_again(tmp_path, data, capsys):
    (tmp_path / "a.npy").write_bytes(data)
    assert kept(tmp_path / "a.npy") is None
    assert "made again" in capsys.readouterr().err
