import pytest
from click.testing import CliRunner
from cohorts.downloads import cells, image

from ctssl import config
from ctssl.cli import cli
from ctssl.manifest import read_manifest

TABLE = """\
patient;file;born;stage;fev;lungs
p1;ct/a.nii.gz;1948-02-29;2;0,8;ct/a_lungs.nii.gz
p1;ct/b.nii.gz;1948-02-29;NA;-1;
p2;ct/c.nii.gz;1950-01-01;.;77;
"""


def write(folder, *options, code=0, table=TABLE):
    """What `ctssl cohort table` says; three images are there."""
    folder.mkdir(exist_ok=True)
    for name in ("a", "b", "c"):
        image(folder / f"ct/{name}.nii.gz")
    (folder / "any.csv").write_text(table)
    words = ["cohort", "table", str(folder / "any.csv"), "--to", str(folder / "study"), *options]
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == code, (done.output, done.exception)
    return done.output if code != 1 else str(done.exception)


ASKED = ("--image-column", "file", "--subject-column", "patient")


def test_what_is_named_is_taken_over_and_nothing_else(tmp_path):
    said = write(tmp_path, *ASKED, "--label", "gold=stage", "--label", "fev", "--missing", ".")
    read = read_manifest(tmp_path / "study/scans.csv")
    assert read.scans == ["a", "b", "c"]
    assert [row.subject for row in read.rows] == ["p1", "p1", "p2"]
    assert [row.image for row in read.rows] == [tmp_path / f"ct/{name}.nii.gz" for name in "abc"]
    assert [row.labels for row in read.rows] == [
        {"gold": "2", "fev": "0,8"},
        {"gold": "", "fev": "-1"},
        {"gold": "", "fev": "77"},
    ]
    assert "1948" not in said + (tmp_path / "study/scans.csv").read_text()
    assert "left behind: born, lungs" in said
    assert config.read(tmp_path / "study/config.yaml").manifest == tmp_path / "study/scans.csv"


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("name", ["file", "File", "FILE"])
def test_the_column_of_images_says_what_separates_in_any_case(tmp_path, name, separator):
    table = f"who,{name}\np1,ct/a.nii.gz\n".replace(",", separator)
    write(tmp_path, "--image-column", name, table=table)
    assert list(cells(tmp_path / "study")) == ["a"]


def test_a_file_that_is_no_table_is_not_called_a_manifest(tmp_path):
    said = write(tmp_path, *ASKED, code=1, table='patient;file\np1;"ct/a.nii.gz\n')
    assert said.startswith(f"the table {tmp_path / 'any.csv'} cannot be read: line 2: a quote")
    assert "manifest" not in said
    assert "ctssl init" not in said


def test_masks_ids_and_images_that_are_not_there(tmp_path):
    table = TABLE.replace("c.nii.gz", "gone.nii.gz").replace("patient", "id").replace("p1;ct/b", "p3;ct/b")
    said = write(
        tmp_path, "--image-column", "file", "--scan-column", "id", "--mask-column", "lungs", table=table
    )
    rows = cells(tmp_path / "study")
    assert list(rows) == ["p1", "p3", "p2"]
    assert rows["p1"]["mask"] == str(tmp_path / "ct/a_lungs.nii.gz")
    assert (rows["p3"]["mask"], rows["p3"]["subject"]) == ("", "p3")
    assert f"1 images are not there, as {tmp_path / 'ct/gone.nii.gz'}" in said


def test_numbers_tell_nothing_of_names(tmp_path):
    write(tmp_path, "--image-column", "file", "--numbered")
    assert list(cells(tmp_path / "study")) == ["scan0001", "scan0002", "scan0003"]


@pytest.mark.parametrize(
    ("options", "table", "fault"),
    [
        ((*ASKED, "--label", "stag"), TABLE, "the column 'stag' is missing"),
        ((*ASKED, "--label", "mask=lungs"), TABLE, "'mask' is no label in scans.csv"),
        ((*ASKED, "--label", "fev"), TABLE.replace("77", "-1024"), "line 4: fev is '-1024', an old sign"),
        *(
            ((*ASKED, "--label", "fev"), TABLE.replace("77", sign), f"line 4: fev is {sign!r}, an old sign")
            for sign in ("-1024.0", "-1024.00", "-1024,0", "-01024", "-999", "-9999", "-99", "-9", "-9.0")
        ),
        (ASKED, TABLE.replace("ct/b.nii.gz", ""), "line 3: the image is missing"),
        (ASKED, TABLE.replace("p2", "p 2"), "line 4: patient 'p 2': an id has letters"),
        ((*ASKED, "--scan-column", "patient"), TABLE, "line 3: scan p1 is already on line 2"),
        (ASKED, TABLE.replace("p2;", ""), "line 4: expected 6 fields, but there are 5"),
        (ASKED, TABLE.splitlines()[0], "there are no rows"),
        (ASKED, TABLE.replace("p2", ""), "line 4: patient is empty, so whose scan this is is not known"),
        (ASKED, TABLE.replace("p2", "NA"), "line 4: patient is 'NA', so whose scan this is is not known"),
        (ASKED, TABLE.replace("p1;ct/b", "none;ct/b"), "line 3: patient is 'none'"),
        (ASKED, TABLE.replace("ct/c", "./ct/../ct/a"), "line 4: the image is already on line 2"),
        ((*ASKED, "--label", "Mask=lungs"), TABLE, "'Mask' is no label in scans.csv"),
    ],
)
def test_faults_are_named_with_their_line(tmp_path, options, table, fault):
    assert fault in write(tmp_path, *options, table=table, code=1)
    assert not (tmp_path / "study").exists()


def test_a_sentinel_may_be_said_to_mean_missing(tmp_path):
    table = TABLE.replace("77", "-1024")
    write(tmp_path, *ASKED, "--label", "fev", "--missing=-1024", table=table)
    assert cells(tmp_path / "study")["c"]["fev"] == ""


def test_a_word_may_hold_in_one_label(tmp_path):
    table = TABLE.replace("77", "2")
    said = write(
        tmp_path, *ASKED, "--label", "gold=stage", "--label", "fev", "--missing", "fev=2", table=table
    )
    found = cells(tmp_path / "study")
    assert (found["a"]["gold"], found["c"]["fev"]) == ("2", "")
    assert "--missing fev=2: 1 cell(s)" in said
    other = tmp_path / "other"
    said = write(other, *ASKED, "--label", "fev", "--missing", "fevv=2", table=table, code=1)
    assert "'fevv' is no label here" in said


@pytest.mark.parametrize(("near", "sign"), [("-5", "-9"), ("-120.5", "-9"), ("-51", "-99")])
def test_a_small_number_among_its_like_is_a_label(tmp_path, near, sign):
    table = TABLE.replace("77", sign).replace("0,8", near)
    write(tmp_path, *ASKED, "--label", "fev", table=table)
    assert cells(tmp_path / "study")["c"]["fev"] == sign


def test_signs_do_not_vouch_for_each_other(tmp_path):
    table = TABLE.replace("77", "-9").replace("0,8", "-99")
    said = write(tmp_path, *ASKED, "--label", "fev", table=table, code=1)
    assert "line 2: fev is '-99'" in said
    assert "line 4: fev is '-9'" in said


@pytest.mark.parametrize("label", ["gold=", "=stage", "", " = "])
def test_a_label_needs_a_name_and_a_column(tmp_path, label):
    said = write(tmp_path, *ASKED, "--label", label, code=2)
    assert f"--label {label!r} is neither COLUMN nor NAME=COLUMN" in said


def test_ids_from_names_of_files_are_said_to_be_so(tmp_path):
    assert "Their ids come from the names of files" in write(tmp_path / "1", *ASKED)
    assert "names of files" not in write(tmp_path / "2", *ASKED, "--numbered")
    table = TABLE.replace("p1;ct/b", "p3;ct/b")
    assert "names of files" not in write(tmp_path / "3", *ASKED, "--scan-column", "patient", table=table)


def test_options_that_contradict(tmp_path):
    said = write(tmp_path, *ASKED, "--numbered", "--scan-column", "patient", code=2)
    assert "--numbered makes ids, so it goes without --scan-column" in said
    said = write(tmp_path, *ASKED, "--label", "fev", "--label", "fev=stage", code=2)
    assert "--label fev comes twice" in said
