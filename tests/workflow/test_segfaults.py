"""A crash of native code in one scan excludes that scan after the retries, and nothing else."""

import subprocess
from pathlib import Path

import pandas as pd
import pytest
from workflow.study import quiet_environment

pytestmark = [pytest.mark.xdist_group("workflow"), pytest.mark.slow]

FAULTS = Path(__file__).parents[1] / "faults"
CRASHES = {
    "crash-volume": ("volume", "SIGSEGV"),
    "crash-register": ("register", "SIGSEGV"),
    "crash-store": ("store", "SIGSEGV"),
    "abort-volume": ("volume", "SIGABRT"),
}


def test_a_scan_that_crashes_native_code_is_excluded_and_all_else_finishes(study):
    rows = study.rows()
    study.write_rows([*rows, *(rows[0] | {"scan": scan, "subject": scan} for scan in CRASHES)])
    before = study.values()
    done = subprocess.run(
        study.command(),
        cwd=study.folder,
        env={**quiet_environment(), "PYTHONPATH": str(FAULTS)},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:]
    assert "4 of 8 scans excluded, see results/failures.csv" in done.stdout
    lost = {row["scan"]: row for row in study.failures()}
    assert set(lost) == set(CRASHES)
    for scan, (stage, signal) in CRASHES.items():
        assert lost[scan]["stage"] == stage
        assert lost[scan]["reason"] == f"the computation crashed ({signal})"
        assert lost[scan]["advice"]
        log = (study.results / f"logs/{stage}/{scan}.log").read_text()
        assert log.count(f"ctssl stage {stage} ") == 2, "the words of the first attempt stay"
        assert log.count("---- attempt 2 ----\n") == 1
        assert not list((study.results / f"logs/{stage}").glob(".*")), "and nothing but the log"
        left = {path.name for path in (study.results / "stores" / scan).iterdir()}
        assert left - {".snakemake_timestamp"} == {"status.json"}
    good = [name for name in before if name.startswith(("stores/", "registration/", "volumes/"))]
    assert good
    after = study.values()
    assert {name: after[name] for name in good} == {name: before[name] for name in good}
    assert len(pd.read_parquet(study.results / "features/tiny_seed0_all.parquet")) == 4
    assert study.plan() == {}
