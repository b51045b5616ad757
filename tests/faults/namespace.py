"""Mounts that only a test's own process and its children see."""

import subprocess
from pathlib import Path

import pytest

NAMESPACE = ["unshare", "-rm"]


def need_mounts(folder: Path) -> None:
    """Skips the test where such mounts are not allowed; `folder` is empty."""
    try:
        tried = subprocess.run(
            [*NAMESPACE, "mount", "-t", "tmpfs", "tmpfs", str(folder)], capture_output=True, check=False
        )
    except FileNotFoundError:
        pytest.skip("a small disk is a mount in a namespace of its own: there is no unshare")
    if tried.returncode:
        pytest.skip("a small disk is a mount in a namespace of its own: this machine does not allow it")
