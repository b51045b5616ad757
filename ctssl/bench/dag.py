"""How long snakemake takes to plan a study of many scans (`snakemake -n`), beside a bare workflow."""

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from ctssl.errors import CohortError

ROOT = Path(__file__).parents[2]

_BARE = """
scans = [f"scan{i:05}" for i in range(%d)]
rule all:
    input: "last"
rule first:
    output: "first/{scan}"
    shell: "touch {output}"
rule second:
    input: "first/{scan}"
    output: "second/{scan}"
    shell: "touch {output}"
rule third:
    input: "second/{scan}"
    output: "third/{scan}"
    shell: "touch {output}"
rule last:
    input: expand("third/{scan}", scan=scans)
    output: "last"
    shell: "touch {output}"
"""


def bench_dag(scans: int) -> dict[str, Any]:
    """seconds, jobs, peak_memory_mb of planning our workflow; bare_seconds of a four-rule one beside it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "images").mkdir()
        lines = ["scan,subject,image,label"]
        for number in range(scans):
            (folder / "images" / f"{number}.nii.gz").touch()
            lines.append(f"scan{number:05},subject{number:05},images/{number}.nii.gz,{number % 2}")
        (folder / "scans.csv").write_text("\n".join(lines) + "\n")
        (folder / "bare.smk").write_text(_BARE % scans)
        (folder / "study.yaml").write_text(
            f"manifest: {folder / 'scans.csv'}\nresults: {folder / 'results'}\n"
            "runs: [{name: context-aware, method: context-aware}]\n"
            "evaluation: {targets: [{name: label, column: label, task: classify}]}\n"
        )
        bare = _plan(["--snakefile", "bare.smk"], folder)
        ours = _plan(
            ["--snakefile", str(ROOT / "Snakefile"), "--configfile", str(folder / "study.yaml")], folder
        )
    return {"scans": scans, **ours, "bare_seconds": bare["seconds"], "bare_jobs": bare["jobs"]}


def _plan(args: list[str], folder: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--dry-run", "--quiet", "rules", *args]
    log = folder / "log"
    start = time.monotonic()
    with log.open("w") as file:
        process = subprocess.Popen(command, cwd=folder, stdout=file, stderr=subprocess.STDOUT)
        _, code, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - start
    found = re.search(r"^total\s+(\d+)", log.read_text(), re.MULTILINE)
    if code or not found:
        raise CohortError(f"snakemake could not plan: {log.read_text()[-800:]}", "does `make test` pass?")
    peak_mb = usage.ru_maxrss / (1024 if sys.platform == "linux" else 1024**2)
    return {"seconds": round(seconds, 2), "jobs": int(found[1]), "peak_memory_mb": round(peak_mb)}
