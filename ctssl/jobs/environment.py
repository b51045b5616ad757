"""What the Snakefile sets before it starts jobs."""

import base64
import os
import sys
from pathlib import Path


def use_own_command() -> None:
    """Let rules call the `ctssl` of the environment that snakemake runs in, activated or not."""
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


def warn_without_memory(output: str) -> None:
    """Say so when an output is there that snakemake, run in this folder, has no memory of.

    Its memory of settings lies in .snakemake of the folder it runs in, one file an output path. Results
    that were moved, or made by a snakemake in another folder, are taken as they are: no trigger but time
    works on them, and it says nothing (seen on 9.27).
    """
    record = Path(".snakemake/metadata", base64.urlsafe_b64encode(output.encode()).decode())
    if Path(output).exists() and not record.exists():
        print(
            f"warning: {Path(output).parent} was made elsewhere or moved. What is missing is made, but "
            "settings, labels and images that changed since then are not noticed here. Run in the folder, "
            "and with the `results` path, that it was made with, or start a new results folder.",
            file=sys.stderr,
        )
