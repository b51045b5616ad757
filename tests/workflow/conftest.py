from pathlib import Path

import pytest
from workflow.study import Study

from ctssl.cohorts.phantom.cohort import CohortPlan, write_cohort
from ctssl.cohorts.phantom.scanner import Scanner

CONFIG = """
manifest: scans.csv
results: results
atlas: {spacing_mm: 4.0, pitch_mm: 100.0, min_lung_fraction: 0.2}
mask: {method: threshold}
registration: {spacing_mm: 10.0, syn_iterations: [10]}
graph: {rho_mm: 120.0}
quality: {warn_dice: 0.8}
pretraining: {device: cpu, threads: 1, checkpoint_steps: 3}
limits: {retries: 1}
runs:
  - name: tiny
    method: context-aware
    options: {epochs: 1, patch_batch: 4, graph_batch: 4, graph_steps: 1, bn_groups: 1, queue_size: 8}
evaluation:
  folds: 2
  targets:
    - {name: fev1pp, column: fev1pp, task: regress}
    - {name: severe, column: severe, task: classify}
"""


@pytest.fixture(scope="session")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Four micro scans and a config, nothing run yet. Never change it: copy it."""
    folder = Path(tmp_path_factory.mktemp("untouched")) / "study"
    write_cohort(folder, CohortPlan(4, 3, Scanner(spacing_mm=5.0, slice_mm=6.0)))
    (folder / "study.yaml").write_text(CONFIG)
    return Study(folder)


@pytest.fixture(scope="session")
def finished(untouched: Study, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The micro study, run once. Never change it: copy it."""
    study = untouched.copy(Path(tmp_path_factory.mktemp("finished")) / "study")
    study.snakemake()
    return study


@pytest.fixture
def fresh(untouched: Study, tmp_path: Path) -> Study:
    return untouched.copy(tmp_path / "study")


@pytest.fixture
def study(finished: Study, tmp_path: Path) -> Study:
    return finished.copy(tmp_path / "study")
