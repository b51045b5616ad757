"""Miniature download folders, laid out as the published cohorts lay them out."""

import csv
import gzip
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import SimpleITK as sitk

PHASE1 = "ClinicalData/phase1_Final_10K/phase 1 Pheno/Final10000_Phase1_Rev_28oct16.txt"
VISUAL = "ClinicalData/CT_scan_datasets/CT_visual_scoring/COPDGene_CT_Visual_20JUL17.txt"
PHASE2 = (
    "ClinicalData/P1-P2 First 5K Long Data/Subject-flattened- one row per subject/"
    "First5000_P1P2_Pheno_Flat24sep16.txt"
)

OLD = {
    **{"fev1pp": "FEV1pp_utah", "fev1_fvc": "FEV1_FVC_utah", "gold": "finalGold"},
    **{"cle": "Emph_Severity", "paraseptal": "Emph_Paraseptal", "mmrc": "MMRCDyspneaScor"},
    **{"ae_history": "Exacerbation_Frequency", "future_ae": "Exacerbation_Frequency_P2"},
    **{"age": "Age_Enroll", "sex": "gender", "pack_years": "ATS_PackYears"},
}
"""Column of scans.csv -> what the files that the released code reads call it."""

NEW = {
    **{"fev1pp": "FEV1pp_post_P1", "fev1_fvc": "FEV1_FVC_post_P1", "gold": "finalgold_visit_P1"},
    **{"cle": "CT_Visual_Emph_Severity_P1", "paraseptal": "CT_Visual_Emph_Paraseptal_P1"},
    **{"mmrc": "MMRCDyspneaScor_P1", "ae_history": "Exacerbation_Frequency_P1"},
    **{"future_ae": "Exacerbation_Frequency_P2", "age": "Age_P1", "sex": "gender"},
    **{"pack_years": "ATS_PackYears_P1"},
}
"""The same in newer exports."""

OF_VISUAL, OF_PHASE2 = ("cle", "paraseptal"), ("future_ae",)

SUBJECTS = {
    "12918T": {
        **{"fev1pp": "91.2", "fev1_fvc": "0.78", "gold": "0", "cle": "1", "paraseptal": "0", "mmrc": "0"},
        **{"ae_history": "0", "future_ae": "1", "age": "61.3", "sex": "1", "pack_years": "22.5"},
    },
    "10005Q": {
        **{"fev1pp": "48", "fev1_fvc": "0.51", "gold": "3", "cle": "5", "paraseptal": "2", "mmrc": "4"},
        **{"ae_history": "3", "future_ae": "0", "age": "70", "sex": "2", "pack_years": "60"},
    },
    "19003F": {
        **{"fev1pp": "70.5", "fev1_fvc": "0.81", "gold": "-1", "cle": "0", "paraseptal": "1", "mmrc": "2"},
        **{"ae_history": "1", "future_ae": "", "age": "55", "sex": "2", "pack_years": "31"},
    },
    "10161E": {
        **{"fev1pp": "101", "fev1_fvc": "0.8", "gold": "-2", "cle": "", "paraseptal": "", "mmrc": "0"},
        **{"ae_history": "0", "future_ae": "-1024", "age": "50", "sex": "1", "pack_years": "0"},
    },
}
"""Subject -> column of scans.csv -> cell of the file."""

SCANS = tuple(
    f"{sid}_INSP_STD_{site}_COPD" for sid, site in zip(SUBJECTS, ("NJC", "BWH", "UIA", "NJC"), strict=True)
)


@cache
def _nifti():
    """The bytes of a NIfTI of a few voxels of 1 x 1 x 8 mm."""
    made = sitk.GetImageFromArray(np.full((2, 3, 4), -800, np.int16))
    made.SetSpacing((1.0, 1.0, 8.0))
    with TemporaryDirectory() as folder:
        sitk.WriteImage(made, f"{folder}/a.nii")
        return Path(folder, "a.nii").read_bytes()


def image(path):
    """A tiny NIfTI, packed where its name says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(_nifti()) if path.name.endswith(".gz") else _nifti())


def tab_file(path, rows, encoding="utf-8"):
    """A tab-separated table of phenotypes, with what such files hold besides."""
    path.parent.mkdir(parents=True, exist_ok=True)
    head = ["sid", *list(rows[0])[1:], "birth_date", "last_name", "comment"]
    lines = [head, *([*row.values(), "1948-02-29", "Müller", 'he said "no'] for row in rows)]
    path.write_bytes("\r\n".join("\t".join(line) for line in lines).encode(encoding))


def copdgene(folder, names=OLD, subjects=SUBJECTS, scans=SCANS, encodings=("utf-8", "latin-1", "utf-8-sig")):
    """Images and three tables; `names` are those of the columns."""
    for name in scans:
        image(folder / f"Images/{name}.nii.gz")
    of_phase1 = [c for c in names if c not in OF_VISUAL + OF_PHASE2]
    parts = ((PHASE1, of_phase1), (VISUAL, OF_VISUAL), (PHASE2, OF_PHASE2))
    for (path, columns), encoding in zip(parts, encodings, strict=True):
        rows = [{"sid": sid} | {names[c]: of[c] for c in columns} for sid, of in subjects.items()]
        tab_file(folder / path, rows, encoding)


def mosmed(folder, inside="COVID19_1110/studies", masks="COVID19_1110/masks", counts=(2, 4, 2, 2, 2)):
    """Studies numbered on from CT-0 to CT-4, and masks of the first two of CT-1."""
    number = 0
    for severity, count in enumerate(counts):
        for of_class in range(count):
            number += 1
            image(folder / inside / f"CT-{severity}/study_{number:04}.nii.gz")
            if severity == 1 and of_class < 2:
                image(folder / masks / f"study_{number:04}_mask.nii.gz")


def covid(folder, labels):
    """Two sources of positives and LIDC negatives, and the table of labels."""
    for name in ("coronacases/coronacases_001.nii.gz", "coronacases/coronacases_002.nii.gz", "bell/a/1.nii"):
        image(folder / name)
    for number in (1, 2, 3):
        image(folder / f"LIDC/LIDC-IDRI-{number:04}/scan.nii.gz")
    image(folder / "coronacases/coronacases_001_mask.nii.gz")
    with labels.open("w", newline="") as file:
        csv.writer(file).writerows(
            [
                *(("path", "covid", "subject"), ("coronacases", "positive", "")),
                *(("bell/a/1.nii", "Positive", "bell-7"), ("LIDC", "negative", "")),
            ]
        )


def cells(study):
    """Scan -> column -> cell of a study's scans.csv."""
    with (study / "scans.csv").open(newline="", encoding="utf-8") as file:
        return {row["scan"]: row for row in csv.DictReader(file)}
