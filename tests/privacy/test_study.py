"""A whole study of scans with a person in their headers: no word of it in any byte of results and records."""

import csv
import shutil
from pathlib import Path

import pytest
from prepare.chest import scan
from privacy import dicoms, headers
from privacy.planted import BORN, NAME, NUMBER, WORDS, found
from privacy.test_headers import place_of
from workflow.study import Study

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("privacy-study")]

CONFIG = """
manifest: scans.csv
results: results
atlas: {spacing_mm: 5.0, pitch_mm: 100.0, min_lung_fraction: 0.2}
mask: {method: threshold}
registration: {spacing_mm: 12.0, syn_iterations: [5]}
graph: {rho_mm: 120.0}
quality: {exclude_dice: null, exclude_min_jacobian: null}
pretraining: {device: cpu, threads: 1}
limits: {retries: 0}
runs:
  - name: tiny
    method: context-aware
    options: {epochs: 1, patch_batch: 4, graph_batch: 4, graph_steps: 1, bn_groups: 1, queue_size: 8}
evaluation:
  folds: 2
  targets:
    - {name: age, column: age, task: regress}
"""


def slices(folder: Path, person: int) -> None:
    made = scan(person)
    dicoms.write_person(folder, made.hu[::2], place_of(made, every=2))


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Run once; folders and files are called after the person, ids are not."""
    study = Study(tmp_path_factory.mktemp("private") / "study")
    here = study.folder / f"{NAME} {BORN}"
    here.mkdir(parents=True)
    rows = []
    for person in (1, 2, 3):
        slices(here / f"{NUMBER}-{person}", person)
        rows.append([f"scan{person}", here / f"{NUMBER}-{person}", person])
    made = scan(4)
    headers.nifti(here / f"{NAME}.nii.gz", made.hu, place_of(made))
    headers.nrrd(here / f"{NAME}.nrrd", made.hu, place_of(made))
    rows += [["scan4", here / f"{NAME}.nii.gz", 4], ["scan5", here / f"{NAME}.nrrd", 5]]
    for name in ("gap", "odd-spacing"):
        shutil.copytree(here / f"{NUMBER}-1", here / f"{NAME}-{name}")
        dicoms.BROKEN[name](here / f"{NAME}-{name}")
        rows.append([name, here / f"{NAME}-{name}", 6])
    headers.BROKEN["half.nii.gz"](here / f"{NAME}-half.nii.gz", made.hu, place_of(made))
    rows += [["half", here / f"{NAME}-half.nii.gz", 7], ["absent", here / f"{NAME}.mha", 8]]
    with study.table.open("w", newline="") as file:
        table = [["scan", "image", "age"], *([s, Path(i).relative_to(study.folder), a] for s, i, a in rows)]
        csv.writer(file).writerows(table)
    (study.folder / "study.yaml").write_text(CONFIG)
    (study.folder / "printed").write_text(study.snakemake())
    return study


IN_NAMES = {NAME, BORN, NUMBER}
"""They are in paths too, which the user's own table names."""


def test_some_are_used_and_some_are_lost(study):
    lost = {row["scan"] for row in study.failures()}
    assert lost == {"gap", "odd-spacing", "half", "absent"}
    assert (study.results / "tables/probes.md").exists()


def test_no_byte_of_results_and_records_holds_a_word_of_a_header(study):
    words = [word for word in WORDS if word not in IN_NAMES]
    assert found(study.results, words) == []
    assert found(study.folder / ".snakemake", words) == []
    assert not any(word.lower() in (study.folder / "printed").read_text().lower() for word in words)


def test_no_byte_of_results_but_logs_holds_a_name_of_a_file(study):
    """What may be shared: all of the results, logs left out."""
    hits = found(study.results, [*IN_NAMES, str(study.folder)])
    assert hits
    assert {Path(hit).parts[0] for hit in hits} == {"logs"}
