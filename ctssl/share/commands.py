"""`ctssl embed` and `ctssl export`."""

import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import click

PATH = click.Path(path_type=Path)
LOST_EXIT = 3
"""As `ctssl status`: some scans cannot be used."""


@click.command()
@click.argument("scans", type=PATH, nargs=-1, required=True, metavar="SCAN [SCAN ...]")
@click.option("--model", type=PATH, required=True, help="model.safetensors, or a folder of `ctssl export`.")
@click.option("--out", type=PATH, required=True, help="Table to write: features.parquet.")
@click.option("--atlas", type=PATH, help="Its folder [default: atlas/ beside the model or above it].")
@click.option("--mask", type=PATH, help="Lung mask of your own, of a single scan.")
@click.option("--series-uid", help="Of a single folder with several series; see `ctssl series`.")
@click.option("--keep", is_flag=True, help="Also scans that the limits of quality leave out.")
@click.option("--config", type=PATH, help="How scans are prepared, for a model whose card does not say.")
@click.option("--device", type=click.Choice(["cpu", "cuda", "auto"]), default="cpu", show_default=True)
@click.option("--mask-device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option("--mask-weights", type=PATH, help="lungmask: .pth file, or folder [default: downloaded].")
@click.option("--time-s", type=click.FloatRange(1), default=3600.0, show_default=True, help="Of a stage.")
@click.option("--memory-gb", type=click.FloatRange(0.1), default=16.0, show_default=True, help="Of a stage.")
def embed(scans: tuple[Path, ...], model: Path, out: Path, **options: Any) -> None:
    """Write features of SCANs (files or DICOM folders), prepared as the model's card says."""
    from ctssl.share.embed import check_out, embed_scans
    from ctssl.share.model import load_model
    from ctssl.share.scan import Effort

    given = [name for name in ("mask", "series_uid") if options[name] is not None]
    if given and len(scans) > 1:
        raise click.UsageError(f"--{given[0].replace('_', '-')} goes with a single scan")
    check_out(scans, out)
    loaded = load_model(model, atlas=options.pop("atlas"), device=options.pop("device"))
    effort = Effort(
        time_s=options.pop("time_s"),
        memory_gb=options.pop("memory_gb"),
        mask_device=options.pop("mask_device"),
        mask_weights=str(weights) if (weights := options.pop("mask_weights")) else None,
    )
    before = signal.signal(signal.SIGTERM, _leave)
    try:
        lost = embed_scans(scans, loaded, out, effort=effort, **options)
    finally:
        signal.signal(signal.SIGTERM, before)
    if lost:
        click.echo(f"{len(lost)} of {len(scans)} scans could not be used:", err=True)
        for _, error in lost:
            click.echo(str(error), err=True)
        sys.exit(LOST_EXIT)


def _leave(number: int, frame: FrameType | None) -> None:
    """SIGTERM ends the command as an error would: scratch folders go away."""
    sys.exit(128 + number)


@click.command()
@click.argument("model", type=PATH)
@click.option("--out", type=PATH, required=True, help="Folder to make.")
@click.option("--atlas", type=PATH, help="Its folder [default: atlas/ beside the model or above it].")
@click.option("--licence", help="Of the weights, an identifier as apache-2.0 [default: not stated].")
@click.option("--data-licence", help="Of the scans [default: as the card says].")
@click.option("--cohort-name", help="Of the scans, for tables of other studies [default: as the card says].")
@click.option("--with-ct", is_flag=True, help="Give away the atlas's CT, where the registration needs it.")
def export(model: Path, out: Path, atlas: Path | None, **sharing: Any) -> None:
    """Write a folder to share: the weights of MODEL, its card in two forms, and the atlas."""
    from ctssl.share.export import Sharing, export_model
    from ctssl.share.model import load_model

    click.echo(export_model(load_model(model, atlas=atlas), out, Sharing(**sharing)))
