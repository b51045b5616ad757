"""Odd and broken ids, paths and reasons in a manifest: what they are called, and what they get."""

from inputs_tables.manifests import bad, good
from inputs_tables.page import Case


def image(name: str, path: str, words: str) -> Case:
    """A table with one image, whose path is refused."""
    return bad(name, words, f'scan,image\na,"{path}"\n')


def image_taken(name: str, path: str) -> Case:
    """A table with one image, whose path is taken letter for letter."""
    quoted = path.replace('"', '""')
    words = "the path is taken letter for letter; no shell and no Snakemake looks into it"
    return good(name, "as it is", words, f'scan,image\na,"{quoted}"\n', [("a", "a", path, {})])


def scan_id(name: str, text: str, words: str = "an id has 1 to 100 letters") -> Case:
    """A table with an id that is refused."""
    return bad(name, words, f'scan,image\n"{text}",a.nii\n')


IDS = [
    scan_id("an id with ../", "../up"),
    scan_id("an id with a slash", "a/b"),
    scan_id("an id with a blank", "a b"),
    scan_id("an id with an umlaut", "Jürgen"),
    scan_id("an id with other digits", "\u0661\u0662"),
    scan_id("an id of 200 letters", "x" * 200),
    scan_id("an id of 100,000 letters", "x" * 100_000),
    scan_id("an id that starts with a dash", "-rf"),
    scan_id("an id that starts with a dot", ".hidden"),
    scan_id("one dot as id", "."),
    scan_id("two dots as id", ".."),
    scan_id("an id with a command", "$(touch pwned)"),
    scan_id("an id with a wildcard", "{scan}"),
    scan_id("an id with a star", "a*"),
    scan_id("no id", ""),
    bad("a subject with ../", "subject '../p'", "scan,subject,image\na,../p,a.nii\n"),
    bad("an id twice", "line 3: scan 'a' is already on line 2", "scan,image\na,a.nii\na,b.nii\n"),
    bad(
        "ids that differ in case alone",
        "line 3: scan 'A' is already on line 2",
        "scan,image\na,a.nii\nA,b.nii\n",
    ),
    good(
        "an id that Windows would not take (con)",
        "as it is",
        "results belong to Linux",
        "scan,image\ncon,a.nii\n",
        [("con", "con", "a.nii", {})],
    ),
]
PATHS = [
    *(
        image_taken(f"an image path with {what}", path)
        for what, path in {
            "a command": "$(touch pwned)/`touch pwned`.nii",
            "wildcards of Snakemake": "{scan}/{input}/{{x}}.nii",
            "quotes and semicolons": 'it\'s "a"; rm -rf x; &&.nii',
            "stars and brackets": "*[a-z]?.nii",
            "letters of many tongues and blanks": "Ärzte/肺 CT/\u200fرئة.nii",
            "a dash in front": "-rf.nii",
            "backslashes": "a\\nb\\.nii",
        }.items()
    ),
    image("an image path with ~", "~/a.nii", "starts with ~, which is not expanded"),
    image("an image path with ~someone", "~anna/a.nii", "starts with ~, which is not expanded"),
    image("an image path with $HOME", "$HOME/a.nii", "starts with a variable, which is not expanded"),
    image("an image path with ${DATA}", "${DATA}/a.nii", "starts with a variable, which is not expanded"),
    image("an address as image", "https://example.org/a.nii.gz", "is an address on the net"),
    image("a path of Windows", "C:\\data\\a.nii", "is a path of Windows"),
    image("a network path of Windows", "\\\\server\\data\\a.nii", "is a path of Windows"),
    image("an image name of 300 letters", "x" * 300 + ".nii", "longer than file systems allow"),
    image("an image path of 5000 letters", "x/" * 2500 + "a.nii", "longer than file systems allow"),
    image("the manifest's own folder as image", ".", "or a folder that holds it"),
    image("the root of the disk as image", "/", "or a folder that holds it"),
    image("the manifest as image", "scans.csv", "the image is the manifest"),
    bad("no image", "line 2: the image is missing", "scan,image\na,\n"),
    bad(
        "a reason of 2000 letters",
        "exclude_reason has more than 1000 characters",
        f"scan,image,exclude_reason\na,a.nii,{'x' * 2000}\n",
    ),
]
