"""What each stage means, as one integer a stage.

Snakemake cannot see an edit in an imported module. Raise a stage's number when its results change
for the same input and settings: everything made by that stage and below it is then made again.
"""

RECIPES: dict[str, int] = {
    "atlas": 3,
    "volume": 3,
    "register": 2,
    "store": 2,
    "box": 1,
    "pack": 1,
    "cohort": 3,
    "enough": 1,
    "pretrain": 3,
    "features": 2,
    "baseline": 1,
    "splits": 1,
    "splits_by": 1,
    "probe": 2,
    "probe_by": 1,
    "probe_inside": 1,
    "fold": 1,
    "join": 2,
    "tables": 2,
    "paper": 1,
    "tables_by": 1,
    "confounder": 1,
    "alone": 1,
    "confounding": 1,
    "pairs": 1,
    "curve": 1,
    "curves": 1,
    "figures": 1,
}
