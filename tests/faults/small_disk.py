"""One stage of a finished study on a disk that is too small for it; run in a mount namespace of its own.

Reads a JSON object from stdin: study (folder), stage, shares (of what the stage writes that are free).
Prints a JSON list of what happened for each share: code, said (on the terminal) and ready (status.json says
ok) of the run on the full disk; code and values of the same command once there is room.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from workflow.study import Study, quiet_environment

OUTPUTS = {
    **dict.fromkeys(("atlas", "volume", "store", "enough", "run_settings"), ("out",)),
    **dict.fromkeys(("baseline", "splits", "figures", "features"), ("out",)),
    "probe": ("out", "final"),
    "register": ("out", "picture"),
    "cohort": ("failures", "quality", "scans", "sheet"),
    "pretrain": ("weights",),
    "tables": ("csv", "markdown"),
}
"""Options of each stage that name what it writes."""

ROOM = 64 << 20
COMMAND = [sys.executable, "-c", "from ctssl.cli import main; main()"]


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def first_log(results: Path, stage: str) -> Path:
    """A log of this stage; its first line is the command."""
    for log in sorted((results / "logs").rglob("*.log")):
        if log.read_text().startswith(f"ctssl stage {stage} "):
            return log
    raise AssertionError(f"no log of {stage}")


def written(stage: str, command: list[str], folder: Path) -> list[Path]:
    """What the stage writes, its log too."""
    options = (*OUTPUTS[stage], "log")
    paths = [folder / command[command.index(f"--{name}") + 1] for name in options]
    if stage == "pretrain":
        paths += [paths[0].parent, paths[0].parents[2] / "scans.txt"]
    if stage == "probe":
        paths += [path.with_suffix(".csv") for path in paths[:2]]
    if stage == "features":
        paths.append(folder / "results/cache")
    return paths


def remove(paths: list[Path]) -> None:
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)  # snakemake does


def free(folder: Path) -> int:
    about = os.statvfs(folder)
    return about.f_bavail * about.f_frsize


def run(command: list[str], folder: Path) -> tuple[int, str]:
    done = subprocess.run(
        [*COMMAND, *command[1:]],
        cwd=folder,
        env=quiet_environment(),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        timeout=300,
    )
    return done.returncode, done.stdout


def ready(paths: list[Path]) -> bool:
    status = paths[0] / "status.json"
    try:
        return bool(json.loads(status.read_text())["ok"])
    except (OSError, ValueError):
        return False


def attempt(study: Study, stage: str, share: float, saved: Path) -> dict[str, object]:
    folder, results = study.folder, study.results
    mount("-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", str(results))
    try:
        shutil.copytree(saved, results, dirs_exist_ok=True)
        command = shlex.split(first_log(results, stage).read_text().splitlines()[0])
        before, paths = free(results), written(stage, command, folder)
        remove(paths)
        needed = free(results) - before
        with (results / "filler").open("wb") as filler:
            filler.write(bytes(free(results) - int(needed * share)))
        code, said = run(command, folder)
        found = {"share": share, "code": code, "said": said, "ready": ready(paths)}
        (results / "filler").unlink()
        again, then = run(command, folder)
        return {**found, "again": again, "then": then, "values": study.values()}
    finally:
        subprocess.run(["umount", str(results)], check=True)


def main() -> None:
    request = json.load(sys.stdin)
    study = Study(Path(request["study"]))
    with TemporaryDirectory() as saved:
        mount("--bind", str(study.results), saved)
        found = [attempt(study, request["stage"], share, Path(saved)) for share in request["shares"]]
        subprocess.run(["umount", saved], check=True)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
