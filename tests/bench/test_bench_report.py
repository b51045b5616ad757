"""A benchmark's JSON names the machine and the versions it ran with."""

import json
import platform

import pytest

from ctssl.bench import report as module
from ctssl.bench.report import machine, report, versions


def test_a_report_is_printed_and_written_with_its_machine(tmp_path, capsys):
    report({"rate": 2.5}, tmp_path / "new" / "out.json")
    written = (tmp_path / "new" / "out.json").read_text()
    assert capsys.readouterr().out == written
    values = json.loads(written)
    assert values == {"rate": 2.5, "machine": machine(), "versions": versions()}
    report({}, None)
    assert json.loads(capsys.readouterr().out).keys() == {"machine", "versions"}


@pytest.mark.parametrize(
    ("listed", "name"),
    [
        ("processor\t: 0\nmodel\t\t: 1\nmodel name\t: A CPU: 9 @ 2 GHz \n" * 2, "A CPU: 9 @ 2 GHz"),
        ("processor\t: 0\nmodel name\t:\nCPU architecture: 8\n", "a kind"),
        ("", "a kind"),
        (None, "a kind"),
    ],
)
def test_a_machine_is_named_by_its_processor(listed, name, monkeypatch, tmp_path):
    if listed is not None:
        (tmp_path / "cpuinfo").write_text(listed)
    monkeypatch.setattr(module, "CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(platform, "processor", lambda: "a kind")
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    monkeypatch.setattr(module.os, "cpu_count", lambda: 3)
    assert machine() == f"{name}, riscv64, 3 CPUs"


def test_versions_are_those_that_are_imported_and_absent_packages_are_left_out(monkeypatch):
    import numpy
    import torch

    monkeypatch.setattr(module, "TIMED", ("numpy", "no-such-package", "torch"))
    assert versions() == {
        "python": platform.python_version(),
        "numpy": numpy.__version__,
        "torch": torch.__version__,
    }


def test_what_decides_store_and_training_speed_is_named():
    assert {"python", "tensorstore", "zarr", "torch"} <= versions().keys()
