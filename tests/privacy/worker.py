"""Runs the stage `volume` of all scans of a study, each as the workflow would, into results/.

`python -m privacy.worker FOLDER` with FOLDER/scans.csv and FOLDER/study.yaml. In a process of its own: jobs
fork. Libraries are imported before, so that each fork has them.
"""

import os
import sys
import traceback
from pathlib import Path

import nibabel  # noqa: F401
import pydicom  # noqa: F401
import SimpleITK  # noqa: F401

from ctssl import cli, config, settings
from ctssl.manifest import read_manifest
from ctssl.prepare import chest  # noqa: F401
from ctssl.prepare.picture import draw_exclusion  # noqa: F401

LIMITS = ["--time-s", "60", "--memory-mb", "3000", "--max-voxels", "10000000"]


def stage(name: str, text: str, log: str, *args: str) -> None:
    """As a rule would call it, in a process of its own."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    sys.argv = ["ctssl", "stage", name, "--settings", text, "--log", f"results/logs/{log}.log"]
    sys.argv += [*args, *LIMITS]
    try:
        cli.main()
    except BaseException:  # as the interpreter would print it; the fork must end here
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def main(folder: Path) -> None:
    os.chdir(folder)
    chosen = config.read(Path("study.yaml"))
    manifest = read_manifest(Path("scans.csv"))
    stage("atlas", settings.atlas(chosen, manifest), "atlas", "--out", "results/atlas")
    for scan in manifest.scans:
        text, out = settings.volume(chosen, manifest, scan), f"results/volumes/{scan}"
        args = ["--scan", scan, "--atlas", "results/atlas", "--out", out, "--attempt", "2", "--tries", "2"]
        stage("volume", text, f"volume/{scan}", *args)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
