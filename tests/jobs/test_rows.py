import os

from ctssl.jobs.rows import read_rows, write_rows


def test_names_that_are_not_utf_8_are_written_as_escapes(tmp_path):
    """One such name in a reason would end the whole cohort."""
    name = os.fsdecode(b"latin-\xe4.dcm")
    write_rows(tmp_path / "a.csv", ["scan", "reason"], [{"scan": "a", "reason": f"{name} in \u80ba"}])
    assert read_rows(tmp_path / "a.csv") == [{"scan": "a", "reason": "latin-\\udce4.dcm in \u80ba"}]
