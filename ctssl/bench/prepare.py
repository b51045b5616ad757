"""What preparing one full-size scan costs: seconds, memory, bytes read and written, job by job."""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from ctssl import settings
from ctssl.config import Config, read
from ctssl.errors import CohortError
from ctssl.jobs.supervise import USED
from ctssl.log import tell
from ctssl.manifest import Manifest, read_manifest

STEPS = ("volume", "register", "store")
_STUDY = "manifest: {manifest}\nmask: {{method: threshold}}\n"


def bench_prepare(size: tuple[int, int, int], suffix: str, seed: int) -> dict[str, Any]:
    """Costs of one scan by job, and altogether; the atlas, made once for a cohort, stands apart.

    Every job is the workflow's own command, with the settings of config.yaml, masks by threshold, one thread.
    seconds are those of the whole command with its start; peak_mb, read_mb and written_mb those of the
    process that computes.

    Args:
        size: voxels along x, y, z of the scan.
        suffix: .nii.gz, .nii, .nrrd, .mha.
        seed: of the phantom.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        image = _full_size(folder / f"scan{suffix}", size, seed)
        (folder / "scans.csv").write_text(f"scan,image\nscan,{image.name}\n")
        (folder / "study.yaml").write_text(_STUDY.format(manifest=json.dumps(str(folder / "scans.csv"))))
        config = read(folder / "study.yaml")
        manifest = read_manifest(folder / "scans.csv")
        atlas = _job("atlas", settings.atlas(config, manifest), folder, config, [])
        steps = {step: _step(step, config, manifest, folder) for step in STEPS}
        status = [json.loads((folder / step / "status.json").read_text()) for step in STEPS]
        if not all(one["ok"] for one in status):
            raise CohortError(f"the phantom was excluded: {status[-1]['reason']}", "does `make test` pass?")
        return {
            "seconds": round(sum(step["seconds"] for step in steps.values()), 1),
            "peak_mb": max(step["peak_mb"] for step in steps.values()),
            "size": list(size),
            "image_mb": round(image.stat().st_size / 1e6, 1),
            "steps": steps,
            "atlas": atlas,
            "threads": config.registration.threads,
            "numbers": {key: status[1]["numbers"][key] for key in ("dice_right", "dice_left", "valid")},
        }


def _full_size(path: Path, size: tuple[int, int, int], seed: int) -> Path:
    """A phantom's scan resampled to so many voxels, with noise: it takes disk and time as a real one does."""
    import SimpleITK as sitk

    from ctssl.cohorts.phantom.chest import build_chest
    from ctssl.cohorts.phantom.scan import make_scan
    from ctssl.cohorts.phantom.scanner import Scanner
    from ctssl.cohorts.phantom.subject import draw_subject
    from ctssl.prepare.images import array_image

    made = make_scan(draw_subject(seed, 0), Scanner(2.0, 2.0), build_chest(2.0))
    small = array_image(made.hu, made.grid())
    extent_mm = (np.array(small.GetSize()) - 1) * small.GetSpacing()
    resampler = sitk.ResampleImageFilter()
    resampler.SetReferenceImage(small)
    resampler.SetSize(size)
    resampler.SetOutputSpacing((extent_mm / (np.array(size) - 1)).tolist())
    large = resampler.Execute(small)
    rng = np.random.default_rng(seed)
    values = sitk.GetArrayFromImage(large)
    for plane in values:
        plane += np.rint(20 * rng.standard_normal(plane.shape, np.float32)).astype(np.int16)
    noisy = sitk.GetImageFromArray(values)
    noisy.CopyInformation(large)
    sitk.WriteImage(noisy, str(path))
    return path


def _step(step: str, config: Config, manifest: Manifest, folder: Path) -> dict[str, Any]:
    before = {"volume": [], "register": ["volume"], "store": ["volume", "register"]}[step]
    text = {
        "volume": lambda: settings.volume(config, manifest, "scan"),
        "register": lambda: settings.register(config),
        "store": lambda: settings.store(config),
    }[step]()
    names = {"register": "registration"}
    args = ["--scan", "scan", "--atlas", "atlas"]
    args += [word for one in before for word in (f"--{names.get(one, one)}", one)]
    args += ["--picture", "scan.png"] if step == "register" else []
    return _job(step, text, folder, config, args)


def _job(step: str, text: str, folder: Path, config: Config, args: list[str]) -> dict[str, Any]:
    """What one command used."""
    log = folder / f"{step}.log"
    command = [sys.executable, "-c", "from ctssl.cli import main; main()", "stage", step, "--settings", text]
    command += ["--log", str(log), "--out", step, *args]
    command += [
        "--time-s",
        str(config.limits.time_s),
        "--memory-mb",
        str(int(config.limits.memory_gb * 1000)),
    ]
    if step in ("atlas", "volume"):
        command += ["--max-voxels", str(config.limits.max_voxels)]
    start = time.monotonic()
    done = subprocess.run(command, cwd=folder, env=os.environ | {"PYTHONWARNINGS": ""}, check=False)
    seconds = time.monotonic() - start
    said = log.read_text()
    if done.returncode:
        raise CohortError(f"the job {step} failed: {said[-800:]}", "does `make test` pass?")
    used = next(line for line in reversed(said.splitlines()) if line.startswith(USED))
    tell(f"bench prepare: {step} {seconds:.1f} s")
    return json.loads(used.removeprefix(USED)) | {"seconds": round(seconds, 2)}
