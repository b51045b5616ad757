"""All cases of the page docs/inputs-tables.md."""

from inputs_tables import atlases, cells, commands, configs, manifests
from inputs_tables.page import INTRO, ROOT
from observed import Page

CASES = {
    "The form of a manifest": manifests.FORMS,
    "Where a manifest lies": manifests.PLACES,
    "Ids": cells.IDS,
    "Paths and reasons": cells.PATHS,
    "The form of a config": configs.FORMS,
    "Values of a config": configs.VALUES,
    "Lists of landmarks": atlases.LISTS,
    "Cards of an atlas": atlases.CARDS,
    "Folders for `ctssl init`": commands.FOLDERS,
    "Command lines, with a file, a pipe and an empty folder in FOLDER": commands.LINES,
}
PAGE = Page(
    ROOT / "docs/inputs-tables.md",
    INTRO,
    {heading: [case.name for case in cases] for heading, cases in CASES.items()},
)
