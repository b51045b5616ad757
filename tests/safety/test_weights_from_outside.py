"""Weights that a run is given, checkpoints of killed or foreign runs: damaged, hostile, of other networks."""

import json
import os
import shutil
import struct
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from safetensors import torch as safetensors
from train import synthetic

from ctssl.errors import WeightsError
from ctssl.methods.context_aware import ContextAware
from ctssl.train import checkpoint, loop, weights

TENSOR = "encoder.conv1.weight"
HUGE = 10**12
Damage = Callable[[Path], None]


def card_text(text: str) -> Damage:
    return lambda path: path.with_suffix(".json").write_text(text)


def card(**values: object) -> Damage:
    def change(path: Path) -> None:
        found = json.loads(path.with_suffix(".json").read_text()) | values
        path.with_suffix(".json").write_text(json.dumps(found))

    return change


def options(**values: object) -> Damage:
    def change(path: Path) -> None:
        found = json.loads(path.with_suffix(".json").read_text())
        card(options=found["options"] | values)(path)

    return change


def data(how: Callable[[bytes], bytes]) -> Damage:
    """Other bytes, whose sha256 the card knows."""

    def change(path: Path) -> None:
        path.write_bytes(how(path.read_bytes()))
        card(sha256=sha256(path.read_bytes()).hexdigest())(path)

    return change


def tensors(how: Callable[[dict[str, torch.Tensor]], object]) -> Damage:
    def repack(content: bytes) -> bytes:
        found = safetensors.load(content)
        how(found)
        return safetensors.save(found)

    return data(repack)


def instead(how: Callable[[Path], object]) -> Damage:
    def change(path: Path) -> None:
        path.unlink()
        how(path)

    return change


def header(values: dict) -> Damage:
    text = json.dumps(values).encode()
    return data(lambda _: struct.pack("<Q", len(text)) + text + bytes(64))


def one(values: dict) -> Damage:
    return header({TENSOR: values})


DAMAGES: dict[str, tuple[Damage, str]] = {
    "missing": (instead(lambda path: None), "cannot be read"),
    "a pipe": (instead(os.mkfifo), "cannot be read"),
    "a folder": (instead(os.mkdir), "cannot be read"),
    "a device without end": (instead(lambda path: path.symlink_to("/dev/zero")), "cannot be read"),
    "a link to itself": (instead(lambda path: path.symlink_to(path)), "cannot be read"),
    "no card": (lambda path: path.with_suffix(".json").unlink(), "cannot be read"),
    "card: a list": (card_text("[]"), "should hold a JSON object"),
    "card: nested": (card_text('{"a":' * 10**5), "cannot be read"),
    "card: 100 MB": (card_text("[" + "0," * 5 * 10**7 + "0]"), "more than 8 MB"),
    "card: a pipe": (
        lambda path: (path.with_suffix(".json").unlink(), os.mkfifo(path.with_suffix(".json"))),
        "is no file",
    ),
    "card: empty": (card_text("{}"), "sha256 differs"),
    "card: another atlas": (card(atlas="other"), "trained with atlas other"),
    "card: the atlas a list": (card(atlas=["synthetic"]), "trained with atlas"),
    "card: another spacing": (card(spacing_mm=2.0), "spacing_mm 2.0"),
    "card: spacing NaN": (card(spacing_mm=float("nan")), "spacing_mm nan"),
    "card: another method": (card(method="other"), "does not fit this version"),
    "card: the method a list": (card(method=["context-aware"]), "does not fit this version"),
    "card: the method a path": (card(method="../../evil:Class"), "does not fit this version"),
    "card: no options": (card(options=None), "does not fit this version"),
    "card: an option of another version": (options(wizardry=3), "does not fit this version"),
    "card: a network of terabytes": (options(feature_size=10**6), "of another shape: "),
    "card: a network beyond all numbers": (options(feature_size=10**30), "does not fit this version"),
    "empty": (data(lambda content: b""), "does not fit this version"),
    "cut in the header": (data(lambda content: content[:100]), "does not fit this version"),
    "cut in the values": (data(lambda content: content[:-1]), "does not fit this version"),
    "bytes too many": (data(lambda content: content + b"x"), "does not fit this version"),
    "a header of 2^60 bytes": (
        data(lambda content: struct.pack("<Q", 2**60) + content[8:]),
        "does not fit this version",
    ),
    "a header of no JSON": (
        data(lambda content: content[:8] + b"x" + content[9:]),
        "does not fit this version",
    ),
    "a header of nothing": (header({}), "does not fit this version"),
    "terabytes promised": (
        one({"dtype": "F32", "shape": [HUGE], "data_offsets": [0, 4 * HUGE]}),
        "does not fit this version",
    ),
    "a shape beyond all numbers": (
        one({"dtype": "F32", "shape": [2**62, 2**62], "data_offsets": [0, 64]}),
        "does not fit this version",
    ),
    "offsets that overlap": (
        header({name: {"dtype": "F32", "shape": [16], "data_offsets": [0, 64]} for name in ("a", "b")}),
        "does not fit this version",
    ),
    "an unknown type": (one({"dtype": "X9", "shape": [64], "data_offsets": [0, 64]}), "does not fit"),
    "one tensor missing": (tensors(lambda found: found.pop(TENSOR)), f"missing: {TENSOR}"),
    "one tensor more": (tensors(lambda found: found.update(extra=torch.zeros(1))), "unexpected: extra"),
    "another shape": (
        tensors(lambda found: found.update({TENSOR: found[TENSOR][:1].clone()})),
        f"of another shape: {TENSOR}",
    ),
    "another type": (
        tensors(lambda found: found.update({TENSOR: found[TENSOR].double()})),
        f"of another type: {TENSOR}",
    ),
    "a NaN": (tensors(lambda found: found[TENSOR].view(-1)[3:4].fill_(torch.nan)), f"not finite: {TENSOR}"),
    "an infinity": (tensors(lambda found: found[TENSOR].view(-1)[3:4].fill_(-torch.inf)), "not finite"),
    "5000 tensors more": (
        tensors(lambda found: found.update({f"x{n:04}": torch.zeros(1) for n in range(5000)})),
        "x0039 and 4960 more",
    ),
}


@pytest.fixture
def saved(tmp_path):
    """The path of sound weights."""
    chosen = synthetic.options()
    about = {"method": "context-aware", "options": chosen.model_dump(mode="json"), "atlas": "synthetic"}
    weights.save(tmp_path, ContextAware.embedder(chosen), about | {"landmarks": 6, "spacing_mm": 1.0})
    return tmp_path / "model.safetensors"


@pytest.mark.parametrize("case", DAMAGES)
def test_weights_that_cannot_be_used_are_a_named_error(saved, case):
    damage, words = DAMAGES[case]
    damage(saved)
    with pytest.raises(WeightsError) as fault:
        weights.load(saved, synthetic.atlas())
    assert words in fault.value.message
    assert str(saved) in fault.value.message
    assert fault.value.advice
    assert len(fault.value.message) < 6000


def test_sound_weights_are_loaded(saved):
    assert not weights.load(saved, synthetic.atlas()).embedder.training


STATE = {
    "fingerprint": "mine",
    "done": 3,
    "method": {"a": torch.ones(3)},
    "optimisers": [],
    "history_bytes": 0,
}


def test_a_checkpoint_comes_back(tmp_path):
    checkpoint.save(tmp_path, 3, STATE)
    state = checkpoint.load(tmp_path, "mine")
    assert (state["done"], state["method"]["a"].tolist()) == (3, [1, 1, 1])
    assert checkpoint.load(tmp_path, "another") is None


def flips(content: bytes) -> list[bytes]:
    """One bit flipped at every 37th byte: in digest, names, numbers, values."""
    places = range(0, len(content), 37)
    return [content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :] for at in places]


def test_a_damaged_checkpoint_is_never_taken_for_a_whole_one(tmp_path):
    checkpoint.save(tmp_path, 3, STATE)
    path = tmp_path / "step-000000003.pt"
    content = path.read_bytes()
    cuts = [content[:at] for at in range(0, len(content), 97)]
    for damaged in [*flips(content), *cuts, content + b"x", b"", bytes(len(content))]:
        path.write_bytes(damaged)
        with pytest.raises(WeightsError, match=r"step-000000003\.pt cannot be read") as fault:
            checkpoint.load(tmp_path, "mine")
        assert "delete it" in fault.value.advice


@pytest.mark.parametrize("change", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_what_is_no_file_is_no_checkpoint(tmp_path, change):
    change(tmp_path / "step-000000003.pt")
    with pytest.raises(WeightsError, match="cannot be read"):
        checkpoint.load(tmp_path, "mine")


@pytest.mark.parametrize("state", [[], 3, {}, {"fingerprint": "mine"}, STATE | {"more": 1}])
def test_the_state_of_another_program_is_no_checkpoint(tmp_path, state):
    checkpoint.save(tmp_path, 3, state)
    with pytest.raises(WeightsError, match="none of ctssl's"):
        checkpoint.load(tmp_path, "mine")


def test_the_checkpoint_before_a_damaged_one_is_used_when_that_is_deleted(tmp_path):
    for step in (2, 3):
        checkpoint.save(tmp_path, step, STATE | {"done": step})
    (tmp_path / "step-000000003.pt").write_bytes(b"half")
    with pytest.raises(WeightsError):
        checkpoint.load(tmp_path, "mine")
    (tmp_path / "step-000000003.pt").unlink()
    assert checkpoint.load(tmp_path, "mine")["done"] == 2


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A job that a SIGTERM stopped after three steps. Never go on with it: copy it."""
    folder = tmp_path_factory.mktemp("stopped")
    job = synthetic.job(synthetic.cohort(folder / "stores"), folder / "out", checkpoint_steps=3)
    real = loop._Training._save

    def save_and_stop(self, history_bytes):
        real(self, history_bytes)
        raise SystemExit

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(loop._Training, "_save", save_and_stop)
        with pytest.raises(SystemExit):
            loop.pretrain(job)
    return job


@pytest.mark.parametrize(
    "change", [os.unlink, lambda path: os.truncate(path, 0), lambda path: os.truncate(path, 50)]
)
def test_a_history_that_lost_lines_is_told_before_days_are_spent(stopped, tmp_path, change):
    """Filled up with zeros it could not be read when the training ends."""
    job = replace(stopped, out=Path(shutil.copytree(stopped.out, tmp_path / "out")))
    change(job.out / loop.CHECKPOINTS / loop.LINES)
    with pytest.raises(WeightsError, match=r"history\.jsonl lacks lines"):
        loop.pretrain(job)
