"""The job that packs a cohort's stores for slow file systems."""

from pathlib import Path

from ctssl import settings as stage_settings
from ctssl.jobs.rows import some_rows
from ctssl.log import tell


def pack(text: str, scans: Path, out: Path) -> None:
    """Bring the packed copy up to date; its card `out` lies inside.

    Raises:
        CohortError: there is no scan.
        StoreError: a store is damaged, or not the one that the table of scans names.
    """
    from ctssl.store.packed import pack as pack_stores
    from ctssl.store.reader import open_named

    stage_settings.parse("pack", text)
    rows = some_rows(scans)
    digests = {row["scan"]: row["store"] for row in rows}
    stores = open_named([scans.parent / row["path"] for row in rows], digests)
    added = pack_stores(out.parent, stores)
    tell(f"pack: {added} scans added, {len(stores)} in use")
