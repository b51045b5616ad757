"""LAA-950, the clinical baseline: one number per scan, written like any run's features."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from ctssl.errors import StoreError
from ctssl.store.reader import Store

MEASURE = "laa_950_percent"


def write_laa950(stores: Sequence[Store], subjects: Sequence[str], out: Path) -> None:
    """Nothing; writes the parquet with columns scan, subject, f000 (LAA-950 in percent).

    Args:
        stores: one per scan; the percentage stands in each card's measures.
        subjects: the subject of each store.
        out: the parquet file.

    Raises:
        StoreError: a card lacks the measure.
    """
    rows = [(s.scan, subject, _measure(s)) for s, subject in zip(stores, subjects, strict=True)]
    out.parent.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame(rows, columns=["scan", "subject", "f000"])
    table.astype({"scan": str, "subject": str, "f000": float}).to_parquet(
        out, index=False, write_page_checksum=True
    )


def _measure(store: Store) -> float:
    value = store.card.get("measures", {}).get(MEASURE)
    if value is None:
        raise StoreError(
            f"the card of store {store.path} should have the measure {MEASURE}, but has none",
            "delete this directory and run the workflow again: it makes the store anew; of stores that were "
            "made elsewhere without the measure, take laa-950 out of `baselines` in the config",
        )
    return float(value)
