"""A micro study on disk that tests run, change and run again."""

import csv
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).parents[2]
SNAKEMAKE = [sys.executable, "-m", "snakemake"]
WITH_RECIPE = """
import sys
from ctssl.recipes import RECIPES
RECIPES[sys.argv.pop(1)] += 1
from snakemake.cli import main
main()
"""


TEXTS = (
    *("probes/", "predictions/", "tables/", "splits/"),
    *("quality/quality", "quality/index", "failures", "scans"),
)


class Study:
    """A folder with scans.csv, study.yaml, images and, once run, results."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.results = folder / "results"
        self.table = folder / "scans.csv"

    def copy(self, to: Path) -> "Study":
        shutil.copytree(self.folder, to, copy_function=shutil.copy2)
        return Study(to)

    def command(self, *args: str, recipe: str | None = None) -> list[str]:
        start = [sys.executable, "-c", WITH_RECIPE, recipe] if recipe else SNAKEMAKE
        common = [
            "--snakefile",
            str(ROOT / "Snakefile"),
            "--workflow-profile",
            str(ROOT / "profiles/default"),
        ]
        return [*start, *args, *common, "--cores", "2", "--configfile", "study.yaml"]

    def snakemake(
        self, *args: str, recipe: str | None = None, ok: bool = True, python_path: Path | str = ""
    ) -> str:
        """What snakemake printed; it must succeed, or with ok=False fail."""
        done = subprocess.run(
            self.command(*args, recipe=recipe),
            cwd=self.folder,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            env={**quiet_environment(), "PYTHONPATH": str(python_path)},
        )
        assert (done.returncode == 0) == ok, done.stdout[-6000:]
        return done.stdout

    def plan(self, recipe: str | None = None) -> Counter:
        """How many jobs of each rule the next run would start."""
        said = self.snakemake("--dry-run", recipe=recipe)
        if "Nothing to be done" in said:
            return Counter()
        table = said.split("Job stats:")[1].split("total")[0]
        return Counter(
            {name: int(n) for name, n in re.findall(r"^(\w+)\s+(\d+)\s*$", table, re.M) if name != "all"}
        )

    def ctssl(self, *args: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-c", "from ctssl.cli import main; main()", *args],
            cwd=self.folder,
            text=True,
            capture_output=True,
            check=False,
            env=quiet_environment(),
        )

    def rows(self) -> list[dict[str, str]]:
        with self.table.open(newline="") as file:
            return list(csv.DictReader(file))

    def write_rows(self, rows: list[dict[str, str]]) -> None:
        with self.table.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)

    def failures(self) -> list[dict[str, str]]:
        with (self.results / "failures.csv").open(newline="") as file:
            return list(csv.DictReader(file))

    def change(self, old: str, new: str) -> None:
        config = self.folder / "study.yaml"
        text = config.read_text()
        assert old in text
        config.write_text(text.replace(old, new))

    def values(self) -> dict[str, str]:
        """Every result that two equal runs must share, as text or digest."""
        found = {}
        for path in sorted(self.results.rglob("*")):
            name = str(path.relative_to(self.results))
            if path.name == "store.json":
                found[name] = json.loads(path.read_text())["digest"]
            elif path.name in (
                "landmarks.csv",
                "edges.csv",
                "volume.nii",
                "model.safetensors",
                "history.csv",
            ):
                found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
            elif path.suffix == ".parquet":
                found[name] = pd.read_parquet(path).to_csv()
            elif path.is_file() and name.startswith(TEXTS):
                found[name] = path.read_text()
        return found


def quiet_environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": "", "PYTHONWARNINGS": "", "PYTEST_XDIST_WORKER": ""}
