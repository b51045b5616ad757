"""What the Snakefile sets before it starts jobs."""

import os
import sys
from pathlib import Path


def use_own_command() -> None:
    """Let rules call the `ctssl` of the environment that snakemake runs in, activated or not."""
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
