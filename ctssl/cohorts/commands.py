"""`ctssl cohort`: download folders of published cohorts, and tables, become studies."""

from pathlib import Path

import click

FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)
FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
to_option = click.option(
    "--to", type=click.Path(path_type=Path), required=True, help="Where config.yaml and scans.csv go."
)
missing_option = click.option(
    "--missing", multiple=True, metavar="[COLUMN=]TEXT", help="A word for a label that is not known."
)
_LEFT_OUT = ("fev1pp", "fev1_fvc", "gold", "cle", "paraseptal", "ae_history", "future_ae", "mmrc")


@click.group()
def cohort() -> None:
    """Write config.yaml and scans.csv for a published cohort, or for a table of scans."""


@cohort.command()
@click.argument("folder", type=FOLDER)
@click.option("--pheno", type=FOLDER, help="Folder with the tables of phenotypes [default: FOLDER].")
@to_option
@click.option("--gold-classes", default="0,1,2,3,4", show_default=True, help="Labels; also -1, -2.")
@click.option("--all-scans", is_flag=True, help="Every kernel and dose of a subject, not one.")
@click.option("--without", multiple=True, type=click.Choice(_LEFT_OUT), help="A label that no table has.")
@missing_option
def copdgene(
    folder: Path,
    pheno: Path | None,
    to: Path,
    gold_classes: str,
    all_scans: bool,
    without: tuple[str, ...],
    missing: tuple[str, ...],
) -> None:
    """Write a study of COPDGene: FOLDER holds scans named as 12918T_INSP_STD_NJC_COPD.nii.gz."""
    from ctssl.cohorts.copdgene import Choices, write_copdgene

    classes = tuple(stage.strip() for stage in gold_classes.split(","))
    known = {str(stage) for stage in range(-2, 5)}
    if len(set(classes)) < 2 or not known.issuperset(classes):
        raise click.UsageError("--gold-classes are two or more of -2 (never smoked), -1 (PRISm), 0 to 4")
    click.echo(write_copdgene(folder, pheno or folder, to, Choices(classes, all_scans, without, missing)))


@cohort.command()
@click.argument("folder", type=FOLDER)
@to_option
def mosmed(folder: Path, to: Path) -> None:
    """Write a study of MosMedData COVID19_1110: FOLDER holds studies/CT-0 to CT-4 and masks."""
    from ctssl.cohorts.mosmed import write_mosmed

    click.echo(write_mosmed(folder, to))


@cohort.command("covid19-ct")
@click.argument("folder", type=FOLDER)
@click.option("--labels", type=FILE, required=True, help="csv: path of a scan or folder, covid, subject.")
@click.option("--numbered", is_flag=True, help="Ids that tell nothing of file names: scan0001, ...")
@to_option
def covid19_ct(folder: Path, labels: Path, numbered: bool, to: Path) -> None:
    """Write a study of COVID-19 CTs: FOLDER holds a folder for each source of scans."""
    from ctssl.cohorts.covid import write_covid

    click.echo(write_covid(folder, labels, to, numbered=numbered))


@cohort.command()
@click.argument("file", type=FILE)
@click.option("--image-column", required=True, help="Paths; relative ones start at the table's folder.")
@click.option("--subject-column", default="", help="Ids of people [default: every scan is a subject].")
@click.option("--scan-column", default="", help="Ids of scans [default: from the names of files].")
@click.option("--mask-column", default="", help="Paths of lung masks (1 right, 2 left).")
@click.option("--label", "labels", multiple=True, metavar="COLUMN", help="A label; NAME=COLUMN renames it.")
@click.option("--numbered", is_flag=True, help="Ids that tell nothing of file names: scan0001, ...")
@missing_option
@to_option
def table(
    file: Path,
    image_column: str,
    subject_column: str,
    scan_column: str,
    mask_column: str,
    labels: tuple[str, ...],
    numbered: bool,
    missing: tuple[str, ...],
    to: Path,
) -> None:
    """Write a study of the scans in FILE, a csv: only columns that are named here are taken over."""
    from ctssl.cohorts.listed import Columns, write_listed

    if numbered and scan_column:
        raise click.UsageError("--numbered makes ids, so it goes without --scan-column")
    named = {}
    for text in labels:
        name, equals, column = text.partition("=")
        if not name.strip() or (equals and not column.strip()):
            raise click.UsageError(f"--label {text!r} is neither COLUMN nor NAME=COLUMN")
        if name in named:
            raise click.UsageError(f"--label {name} comes twice")
        named[name] = column if equals else name
    columns = Columns(image_column, subject_column, scan_column, mask_column, named)
    click.echo(write_listed(file, columns, to, numbered=numbered, missing=missing))
