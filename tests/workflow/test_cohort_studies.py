"""Download folders of published cohorts become studies that the workflow runs."""

import csv
import shutil
from collections import Counter
from pathlib import Path

import pytest
from cohorts import downloads
from workflow.study import Study

from ctssl import config
from ctssl.cohorts.copdgene import Choices, write_copdgene
from ctssl.cohorts.covid import write_covid
from ctssl.cohorts.mosmed import write_mosmed

MICRO = """
atlas:
  {source: builtin, spacing_mm: 4.0, pitch_mm: 100.0, min_lung_fraction: 0.2, mask: null, landmarks: null,
  landmark_points: null}
mask: {method: threshold}
registration: {spacing_mm: 10.0, syn_iterations: [10]}
graph: {rho_mm: 120.0}
quality: {warn_dice: 0.8}
pretraining: {device: cpu, threads: 1}
runs:
  - name: context-aware
    method: context-aware
    options: {epochs: 1, patch_batch: 4, graph_batch: 4, graph_steps: 1, bn_groups: 1, queue_size: 8}
baselines: [laa-950]
evaluation: {folds: 2, confounders: []}
"""


class Downloaded(Study):
    """A study whose config is what the reader of a cohort wrote, and for tests a micro one after it."""

    overlays: tuple[str, ...] = ()

    def command(self, *args: str, recipe: str | None = None) -> list[str]:
        *most, _ = super().command(*args, recipe=recipe)
        return [*most, "config.yaml", *self.overlays]

    def micro(self) -> "Downloaded":
        (self.folder / "micro.yaml").write_text(MICRO)
        self.overlays = ("micro.yaml",)
        return self


def copdgene(folder: Path) -> Downloaded:
    downloads.copdgene(folder / "in")
    write_copdgene(folder / "in", folder / "in", folder / "study", Choices())
    return Downloaded(folder / "study")


def mosmed(folder: Path) -> Downloaded:
    downloads.mosmed(folder / "in", counts=(1, 1, 1, 0, 1))
    write_mosmed(folder / "in", folder / "study")
    return Downloaded(folder / "study")


def test_the_study_of_copdgene_is_planned_from_any_folder(tmp_path):
    jobs = copdgene(tmp_path).plan()
    read = config.read(tmp_path / "study/config.yaml")
    assert {rule: jobs[rule] for rule in ("volume", "register", "store")} == dict.fromkeys(
        ("volume", "register", "store"), 4
    )
    trained = [run for run in read.runs if not run.options.supervised]
    supervised = [run for run in read.runs if run.options.supervised]
    assert jobs["pretrain"] == len(trained) == 5
    assert jobs["fold"] == 5 * 8 * len(supervised) == 80


def test_the_study_of_mosmed_is_planned_from_any_folder(tmp_path):
    jobs = mosmed(tmp_path).plan()
    assert (jobs["store"], jobs["pretrain"], jobs["fold"]) == (4, 5, 5)


def test_the_study_of_covid_pretrains_nothing(tmp_path):
    downloads.covid(tmp_path / "in", tmp_path / "labels.csv")
    write_covid(tmp_path / "in", tmp_path / "labels.csv", tmp_path / "study")
    study = Downloaded(tmp_path / "study")
    for run in config.read(study.folder / "config.yaml").runs:
        if run.weights is not None:
            path = study.folder / run.weights
            path.parent.mkdir(parents=True)
            path.with_suffix(".json").write_text("{}")
            path.write_bytes(b"")
    jobs = study.plan()
    assert (jobs["store"], jobs["pretrain"], jobs["features"]) == (6, 0, 6)


@pytest.mark.slow
@pytest.mark.parametrize("layout", [copdgene, mosmed])
def test_a_miniature_cohort_runs_to_its_tables(layout, untouched, tmp_path):
    study = layout(tmp_path).micro()
    images = sorted(row["image"] for row in untouched.rows())
    for row, image in zip(study.rows(), images, strict=True):
        shutil.copy(untouched.folder / image, row["image"])
    study.snakemake()
    assert study.plan() == Counter()
    with (study.results / "tables/probes.csv").open(newline="") as file:
        found = {row["target"] for row in csv.DictReader(file)}
    assert found == {target.name for target in config.read(study.folder / "config.yaml").evaluation.targets}
