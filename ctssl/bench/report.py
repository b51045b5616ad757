"""How a benchmark says what it measured, and on what."""

import json
import os
import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import click

TIMED = ("numpy", "tensorstore", "zarr", "torch", "antspyx", "snakemake")
"""Packages whose version may change what a benchmark measures."""

CPUINFO = Path("/proc/cpuinfo")


def report(values: dict[str, Any], out: Path | None) -> None:
    """Print one JSON object with the machine and versions, and write it into a file when one is named."""
    text = json.dumps({**values, "machine": machine(), "versions": versions()}, indent=1)
    click.echo(text)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text + "\n")


def machine() -> str:
    """The processor's name, or its kind where the system does not tell the name; architecture; CPUs."""
    listed = CPUINFO.read_text() if CPUINFO.exists() else ""  # Linux; on ARM without a name
    named = re.search(r"^model name\s*: (.*\S)", listed, re.MULTILINE)
    name = named[1] if named else platform.processor() or "unnamed processor"
    return f"{name}, {platform.machine()}, {os.cpu_count()} CPUs"


def versions() -> dict[str, str]:
    """Of python and of those packages that are installed; none is imported."""
    found = {"python": platform.python_version()}
    for package in TIMED:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # a benchmark needs few of them
            continue
    return found
