"""Files that are no published weights: a named error with advice, nothing run, nothing written."""

import io
import os
import pickle
import zipfile
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from golden import fill
from imports import checkpoints
from imports.checkpoints import refused

from ctssl.errors import ConfigError, WeightsError
from ctssl.imports.importing import import_weights


@pytest.fixture
def patch(tmp_path):
    return checkpoints.patch_file(tmp_path)


def changed(folder, change, name="a.pth"):
    """A file of the patch encoder, its tensors changed."""
    state = fill.state("context_aware_patch")
    change(state)
    return checkpoints.saved(folder / name, checkpoints.moco(state))


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9, 0.999])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_that_is_cut(tmp_path, share, zipped):
    path = tmp_path / "a.pth"
    checkpoints.saved(path, fill.state("context_aware_patch"), _use_new_zipfile_serialization=zipped)
    os.truncate(path, int(path.stat().st_size * share))
    fault = refused(tmp_path, path)
    assert str(path) in fault.message
    assert "fetch it again" in fault.advice


class Runs:
    """Unpickling this makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple:
        return Path.touch, (self.marker,)


@pytest.mark.parametrize("zipped", [True, False, None])
def test_a_pickle_with_code_is_not_run(tmp_path, zipped):
    path, marker = tmp_path / "a.pth", tmp_path / "ran"
    if zipped is None:
        path.write_bytes(pickle.dumps({"state_dict": Runs(marker)}))
    else:
        content = {"state_dict": fill.state("context_aware_graph"), "opt": Runs(marker)}
        checkpoints.saved(path, content, _use_new_zipfile_serialization=zipped)
    fault = refused(tmp_path, path)
    assert isinstance(fault, WeightsError)
    assert not marker.exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickled_optimiser_is_refused_with_the_way_out(tmp_path, zipped):
    """As the trainings of VoCo save it."""
    layer = torch.nn.Linear(2, 2)
    content = {"state_dict": layer.state_dict(), "optimizer": torch.optim.AdamW(layer.parameters())}
    path = checkpoints.saved(tmp_path / "a.pt", content, _use_new_zipfile_serialization=zipped)
    fault = refused(tmp_path, path, method="voco")
    assert "an object of torch.optim.adamw.AdamW" in fault.message
    assert "weights_only=False" in fault.advice
    assert "tensors.pth" in fault.advice


def archive(path, compression=zipfile.ZIP_STORED, **entries):
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, data in entries.items():
            file.writestr(f"a/{name.replace('_pkl', '.pkl')}", data)
    return path


def test_zip_bombs(tmp_path):
    bomb = archive(tmp_path / "a.pt", zipfile.ZIP_DEFLATED, data_pkl=bytes(1 << 26), version=b"3\n")
    assert bomb.stat().st_size < 1 << 20
    assert "compressed" in refused(tmp_path, bomb).message
    stored = archive(tmp_path / "b.pt", data_pkl=bytes((1 << 26) + 1), version=b"3\n")
    assert "more than 64 MB" in refused(tmp_path, stored).message
    program = archive(tmp_path / "c.pt", data_pkl=b"x", constants_pkl=b"x", version=b"3\n")
    assert "a program" in refused(tmp_path, program).message


def test_an_archive_whose_entries_lie_on_each_other(tmp_path):
    path = archive(tmp_path / "a.pt", data_pkl=bytes(5000), more=b"")
    data = bytearray(path.read_bytes())
    place = data.rindex(b"PK\x01\x02")
    data[place + 20 : place + 28] = (5000).to_bytes(4, "little") * 2  # the sizes of the second entry
    path.write_bytes(data)
    assert "promises more bytes" in refused(tmp_path, path).message


def test_tensors_that_promise_more_values_than_there_are(tmp_path):
    """A single value, said to be a million millions of them."""
    huge = torch.zeros(1).expand(10**12)
    path = changed(tmp_path, lambda state: state.update({"conv1.bias": huge}))
    assert "promises more values" in refused(tmp_path, path).message
    assert refused(tmp_path, checkpoints.saved(tmp_path / "b.pt", {"queue": huge}))


def test_a_storage_that_promises_terabytes(tmp_path):
    data = io.BytesIO()
    torch.save({"a": torch.zeros(3)}, data, _use_new_zipfile_serialization=False)
    old, path = data.getvalue(), tmp_path / "a.pth"
    number = old.rindex(b"K\x03")  # of the storage; K is a byte, \x8a a long one
    path.write_bytes(old[:number] + b"\x8a\x06" + (1 << 44).to_bytes(6, "little") + old[number + 2 :])
    refused(tmp_path, path)


@pytest.mark.parametrize(
    "content", [[1, 2], "text", torch.zeros(3), {}, {"state_dict": {}}, {"a": 1}, {3: torch.zeros(1)}]
)
def test_what_holds_no_tensors_by_name(tmp_path, content):
    fault = refused(tmp_path, checkpoints.saved(tmp_path / "a.pth", content))
    assert "should hold tensors by name" in fault.message


@pytest.mark.parametrize(
    "tensor", [torch.eye(3).to_sparse(), torch.zeros(2, dtype=torch.complex64), "text", None]
)
def test_entries_that_are_no_plain_tensor(tmp_path, tensor):
    path = changed(tmp_path, lambda state: state.update({"conv1.bias": tensor}))
    assert "conv1.bias" in refused(tmp_path, path).message


@pytest.mark.parametrize(
    "make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/zero"), lambda path: None]
)
def test_what_is_no_file(tmp_path, make):
    path = tmp_path / "a.pth"
    make(path)
    assert str(path) in refused(tmp_path, path).message


@pytest.mark.parametrize(
    ("case", "method", "seems"),
    [
        ("context_aware_patch", "drasclr", "context-aware"),
        ("context_aware_patch", "models-genesis", "context-aware"),
        ("drasclr", "context-aware", "drasclr"),
        ("drasclr", "pcrl", "drasclr"),
        ("context_aware_patch", "medicalnet", "context-aware"),
        ("models_genesis_running", "drasclr", "models-genesis"),
        ("pcrl", "models-genesis", "pcrl"),
    ],
)
def test_the_wrong_method(tmp_path, case, method, seems):
    path = checkpoints.saved(tmp_path / "a.pth", checkpoints.moco(fill.state(case)))
    fault = refused(tmp_path, path, method=method)
    assert f"--method {seems}" in str(fault)


def test_half_of_the_tensors(tmp_path):
    lost = list(fill.state("context_aware_patch"))[::2]

    def lose(state):
        for name in lost:
            del state[name]

    fault = refused(tmp_path, changed(tmp_path, lose))
    assert "missing: encoder." in fault.message
    assert f"and {len(lost) - 40} more" in fault.message
    assert "unexpected" not in fault.message


@pytest.mark.parametrize(
    "name", ["conv4.weight", "fc.2.bias", "bn3.running_var", "downsample2.4.num_batches_tracked"]
)
def test_one_tensor(tmp_path, name):
    fault = refused(tmp_path, changed(tmp_path, lambda state: state.pop(name)))
    assert f"missing: encoder.{name}" in fault.message


@pytest.mark.parametrize(
    ("name", "tensor", "words"),
    [
        (
            *("conv2.weight", torch.zeros(8, 8, 3, 3)),
            "of another shape: encoder.conv2.weight (8x8x3x3 for 8x8x3x3x3)",
        ),
        ("conv2.bias", torch.full((8,), torch.nan), "not finite: encoder.conv2.bias"),
        ("conv2.bias", torch.zeros(8, dtype=torch.int64), "of another type: encoder.conv2.bias"),
        ("conv9.bias", torch.zeros(8), "unexpected: encoder.conv9.bias"),
        ("\x1b[2Jconv", torch.zeros(8), r"unexpected: encoder.?[2Jconv"),
        ("x" * 10**6, torch.zeros(8), "unexpected: encoder.xxx"),
    ],
)
def test_a_tensor_that_does_not_fit(tmp_path, name, tensor, words):
    fault = refused(tmp_path, changed(tmp_path, lambda state: state.update({name: tensor})))
    assert words in fault.message


def test_two_encoders_in_one_file(tmp_path):
    state = fill.state("context_aware_patch")
    path = checkpoints.saved(tmp_path / "a.pth", state | checkpoints.prefixed(state, "module.encoder_q."))
    assert "twice" in refused(tmp_path, path).message


def test_tensors_beside_the_weights_that_nobody_knows(tmp_path):
    content = checkpoints.moco(fill.state("context_aware_patch")) | {"net2": {"a": torch.zeros(2)}}
    assert "1 tensors in net2" in refused(tmp_path, checkpoints.saved(tmp_path / "a.pth", content)).message


def test_a_graph_network_in_both_forms(tmp_path, patch):
    def double(state):
        return state | checkpoints.old_graph(state)

    assert "twice" in str(refused(tmp_path, patch, checkpoints.graph_file(tmp_path, double)))


def test_files_that_do_not_belong_together(tmp_path, patch):
    graph = checkpoints.graph_file(tmp_path)
    for files in ([graph], [patch, patch], [graph, graph], [patch, graph, graph]):
        assert "files of a patch encoder" in refused(tmp_path, *files).message
    other = checkpoints.saved(tmp_path / "b.pth", {"conv1._routing_fn.fc.weight": torch.zeros(8, 3)})
    assert "2 files came" in refused(tmp_path, other, other, method="drasclr").message


def test_a_namespace_of_options_is_taken(tmp_path):
    content = checkpoints.moco(fill.state("context_aware_patch")) | {"opt": Namespace(lr=0.1, gpus=[0, 1])}
    path = checkpoints.saved(tmp_path / "a.pth", content)
    import_weights([path], "context-aware", tmp_path / "model.safetensors")


def test_lists_that_hold_themselves_a_million_times(tmp_path):
    deep = [torch.zeros(1)]
    for _ in range(40):
        deep = [deep, deep]
    content = checkpoints.moco(fill.state("context_aware_patch")) | {"optimizer": deep}
    path = checkpoints.saved(tmp_path / "a.pth", content)
    assert "optimizer state (1 tensors)" in import_weights(
        [path], "context-aware", tmp_path / "m.safetensors"
    )


@pytest.mark.parametrize("name", ["model.pt", "model", "model.json"])
def test_an_out_of_another_kind(tmp_path, patch, name):
    with pytest.raises(ConfigError, match=r"\.safetensors"):
        import_weights([patch], "context-aware", tmp_path / name)


def test_nothing_is_written_over(tmp_path, patch):
    (tmp_path / "model.json").write_text("mine")
    with pytest.raises(ConfigError, match="is there already"):
        import_weights([patch], "context-aware", tmp_path / "model.safetensors")
    assert (tmp_path / "model.json").read_text() == "mine"
