import os

import pytest

from ctssl.errors import ManifestError
from ctssl.manifest import read_manifest, stamp


def write(folder, text: str, **options):
    path = folder / "scans.csv"
    path.write_text(text, **options)
    return path


def faults(folder, text: str) -> str:
    with pytest.raises(ManifestError) as fault:
        read_manifest(write(folder, text))
    assert fault.value.advice
    return fault.value.message


def test_rows_come_in_order_with_paths_beside_the_table(tmp_path):
    table = (
        "age,scan,subject,image,mask,exclude,exclude_reason\n"
        "61,b,p1,b.nii,masks/b.nii,,\n"
        " 70 , a ,,/data/a.nii,,YES,moved\n"
    )
    manifest = read_manifest(write(tmp_path, table))
    assert manifest.scans == ["b", "a"]
    assert manifest.label_columns == ("age",)
    first, second = manifest.rows
    assert (first.image, first.mask) == (tmp_path / "b.nii", tmp_path / "masks/b.nii")
    assert (first.subject, first.exclude) == ("p1", False)
    assert (str(second.image), second.mask) == ("/data/a.nii", None)
    assert (second.subject, second.exclude, second.exclude_reason) == ("a", True, "moved")
    assert manifest.column("age") == {"b": "61", "a": "70"}
    assert manifest.row("a") is second


def test_only_scan_and_image_are_needed(tmp_path):
    row = read_manifest(write(tmp_path, "scan,image\na,a.nii\n")).row("a")
    assert (row.subject, row.mask, row.exclude, row.labels) == ("a", None, False, {})


def test_without_images_a_table_needs_none(tmp_path):
    manifest = read_manifest(write(tmp_path, "scan,age\na,3\n"), images=False)
    assert manifest.row("a").image is None
    assert manifest.column("age") == {"a": "3"}
    given = read_manifest(write(tmp_path, "scan,image\na,a.nii\nb,\n"), images=False)
    assert [row.image for row in given.rows] == [tmp_path / "a.nii", None]
    with pytest.raises(ManifestError, match="column 'scan' is missing") as fault:
        read_manifest(write(tmp_path, "age\n3\n"), images=False)
    assert "image must" not in fault.value.advice


def test_a_byte_order_mark_and_windows_lines_do_no_harm(tmp_path):
    table = write(tmp_path, "scan,image,name\r\na,a.nii,Jürgen\r\n", encoding="utf-8-sig", newline="")
    assert table.read_bytes().startswith(b"\xef\xbb\xbf")
    assert read_manifest(table).row("a").labels == {"name": "Jürgen"}


@pytest.mark.parametrize("flag", ["1", "true", "Yes", "TRUE"])
def test_ways_to_say_yes(tmp_path, flag):
    assert read_manifest(write(tmp_path, f"scan,image,exclude\na,a.nii,{flag}\n")).row("a").exclude


def test_missing_and_double_columns_are_listed(tmp_path):
    said = faults(tmp_path, "scans,subject,age,age\na,b,1,2\n")
    assert "column 'scan' is missing" in said
    assert "column 'image' is missing" in said
    assert "column 'age' comes twice" in said


def test_all_faults_of_rows_are_listed_with_their_lines(tmp_path):
    table = [
        "scan,subject,image,exclude",
        "ok,p1,ok.nii,",  # 2
        "../up,p1,a.nii,",  # 3
        "with space,p1,a.nii,",  # 4
        "$(x),p1,a.nii,",  # 5
        "OK,p1,a.nii,",  # 6, twin of 2
        "",  # 7
        "s8,p 8,a.nii,",  # 8
        "s9,p9,,",  # 9
        "s10,p10,a.nii,maybe",  # 10
        "s11,p11",  # 11
        "s12,p12,a.nii,,more",  # 12
        ",p13,a.nii,",  # 13
        "-rf,p14,a.nii,",  # 14
        f"{'x' * 101},p15,a.nii,",  # 15
        "ok,p16,a.nii,",  # 16, twin of 2
    ]
    said = faults(tmp_path, "\n".join(table) + "\n")
    for line, word in {
        3: "scan '../up'",
        4: "scan 'with space'",
        5: "scan '$(x)'",
        6: "scan 'OK' is already on line 2",
        8: "subject 'p 8'",
        9: "the image is missing",
        10: "exclude is yes or no, not 'maybe'",
        11: "expected 4 fields",
        12: "expected 4 fields",
        13: "scan ''",
        14: "scan '-rf'",
        15: "1 to 100 letters",
        16: "scan 'ok' is already on line 2",
    }.items():
        assert any(f"line {line}:" in one and word in one for one in said.splitlines()), (line, said)
    assert "line 2:" not in said


def test_many_faults_are_cut_short(tmp_path):
    said = faults(tmp_path, "scan,image\n" + ".,\n" * 50)
    assert len(said.splitlines()) == 32
    assert "and" in said.splitlines()[-1]


@pytest.mark.parametrize("content", ["", "scan,image\n"])
def test_an_empty_table_is_a_fault(tmp_path, content):
    assert "no rows" in faults(tmp_path, content) or "missing" in faults(tmp_path, content)


@pytest.mark.parametrize("content", [None, b"scan,image\n\xff\xfe,a.nii\n"])
def test_an_unreadable_table_is_one_message(tmp_path, content):
    path = tmp_path / "scans.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ManifestError, match="cannot be read") as fault:
        read_manifest(path)
    assert "ctssl init" in fault.value.advice


def test_a_misspelt_label_column_gets_the_nearest_and_a_short_list(tmp_path):
    names = [f"f{number}" for number in range(1000)]
    path = write(tmp_path, f"scan,image,fev1,{','.join(names)}\na,a.nii,2{',' * 1000}\n")
    with pytest.raises(ManifestError, match="did you mean 'fev1'") as fault:
        read_manifest(path).column("fev_1")
    assert len(fault.value.message) < 400


def test_repairs_are_said_once_a_reading(tmp_path, capsys):
    read_manifest(write(tmp_path, "scan;image\na;a.nii\n"))
    assert capsys.readouterr().err.count("semicolons") == 1
    read_manifest(write(tmp_path, "scan,image\na,a.nii\n"))
    assert capsys.readouterr().err == ""


def test_separators_are_the_same_with_and_without_images(tmp_path):
    for head in ("scan;age", "scan\tage", "scan,age"):
        separator = head[4]
        path = write(tmp_path, f"{head}\na{separator}7\n")
        assert read_manifest(path, images=False).column("age") == {"a": "7"}


def test_an_unknown_label_column_names_those_there_are(tmp_path):
    manifest = read_manifest(write(tmp_path, "scan,image,age\na,a.nii,3\n"))
    with pytest.raises(ManifestError, match=r"no label column 'gold'; it has age"):
        manifest.column("gold")


def changes(path, change) -> bool:
    before = stamp(path)
    assert before != "missing"
    assert stamp(path) == before
    change()
    return stamp(path) != before


def touch(path) -> None:
    about = path.stat()
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns + 1))


def test_stamp_of_a_missing_image(tmp_path):
    assert stamp(tmp_path / "a.nii") == "missing"
    assert stamp(tmp_path / "a.mhd") == "missing"
    assert stamp(None) == "missing"
    (tmp_path / "empty").mkdir()
    assert stamp(tmp_path / "empty") == "missing"


def test_stamp_of_what_cannot_be_looked_at_is_that_of_a_missing_image(tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for path in ("loop", "loop/a.nii", "x" * 300, "x/" * 3000, "loop/a.mhd"):
        assert stamp(tmp_path / path) == "missing"


def test_stamp_of_names_that_are_not_utf_8_and_of_folders_in_a_circle(tmp_path):
    folder = tmp_path / "scan"
    folder.mkdir()
    slice_ = folder / os.fsdecode(b"\xe4.dcm")
    slice_.write_text("1")
    (folder / "again").symlink_to(folder)
    assert changes(folder, lambda: touch(slice_))


def test_stamp_changes_with_size_or_time_of_a_file(tmp_path):
    path = tmp_path / "a.nii"
    path.write_text("one")
    assert changes(path, lambda: touch(path))
    time = path.stat().st_mtime_ns

    def longer() -> None:
        path.write_text("three")
        os.utime(path, ns=(time, time))

    assert changes(path, longer)


def test_stamp_of_a_folder_sees_every_slice(tmp_path):
    folder = tmp_path / "scan"
    (folder / "inner").mkdir(parents=True)
    for name in ("1", "2", "inner/3"):
        (folder / name).write_text(name)
    assert changes(folder, lambda: touch(folder / "inner/3"))
    assert changes(folder, lambda: (folder / "2").unlink())
    assert changes(folder, lambda: (folder / "4").write_text("new"))
    assert changes(folder, lambda: (folder / "1").rename(folder / "0"))


@pytest.mark.parametrize("name", ["a.mhd", "a[1].mhd", "a.nhdr"])
def test_stamp_of_a_detached_header_sees_the_data(tmp_path, name):
    header = tmp_path / name
    raw = header.with_suffix(".raw")
    header.write_text("header")
    raw.write_text("data")
    (tmp_path / "ab.raw").write_text("another scan's")
    assert changes(header, lambda: touch(raw))
    assert not changes(header, lambda: touch(tmp_path / "ab.raw"))
    assert changes(header, raw.unlink)


def test_a_moved_study_keeps_its_stamps(tmp_path):
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.nii").write_text("same")
        os.utime(tmp_path / folder / "a.nii", ns=(5, 5))
    assert stamp(tmp_path / "here/a.nii") == stamp(tmp_path / "there/a.nii")


def test_a_scan_may_be_kept_and_a_series_chosen(tmp_path):
    table = "scan,image,keep,keep_reason,series_uid\na,a,yes,looked fine,1.2.840.5\nb,b,,,\n"
    first, second = read_manifest(write(tmp_path, table)).rows
    assert (first.keep, first.keep_reason, first.series_uid) == (True, "looked fine", "1.2.840.5")
    assert (second.keep, second.keep_reason, second.series_uid) == (False, "", None)
    assert read_manifest(write(tmp_path, table)).label_columns == ()


def test_keeping_needs_a_reason_and_no_exclusion(tmp_path):
    table = "scan,image,exclude,keep,keep_reason,series_uid\n"
    said = faults(tmp_path, table + "a,a,,yes,,\nb,b,yes,yes,good,\nc,c,,maybe,,\nd,d,,,,x/y\n")
    for fault in (
        "line 2: keep needs a keep_reason",
        "line 3: keep and exclude cannot both be yes",
        "line 4: keep is yes or no, not 'maybe'",
        "line 5: series_uid 'x/y'",
    ):
        assert fault in said


def test_a_separator_at_the_end_of_every_row_is_no_cell(tmp_path):
    manifest = read_manifest(write(tmp_path, "scan,image,gold\na,a.nii,1,\nb,b.nii,2,\n"))
    assert manifest.column("gold") == {"a": "1", "b": "2"}
    assert "line 3: expected 3 fields, but there are 4" in faults(
        tmp_path, "scan,image,gold\na,a.nii,1\nb,b,2,\n"
    )
