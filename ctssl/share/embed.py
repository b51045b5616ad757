"""Features of scans that no workflow has seen, prepared as the model's card says."""

import os
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from ctssl.config import read
from ctssl.errors import ConfigError, CtsslError, ScanError
from ctssl.log import tell
from ctssl.preparation import Preparation, of_card, of_config
from ctssl.share.model import SharedModel, in_float32, load_model
from ctssl.share.scan import BOX, STORE, Effort, Request, prepare

if TYPE_CHECKING:
    import numpy as np

_BY_HAND = (
    "name the config that its scans were prepared with (--config FILE; in Python config=FILE), or embed "
    "patches with model.embed_patches"
)


def embed(
    scan: str | Path,
    model: SharedModel | str | Path,
    *,
    mask: str | Path | None = None,
    series_uid: str | None = None,
    keep: bool = False,
    config: str | Path | None = None,
    effort: Effort | None = None,
) -> "np.ndarray":
    """(D,) float32 features of one scan: what the workflow's table has for it.

    Reads the scan, masks its lungs, registers them to the atlas and cuts the patches in a process of its
    own, in a folder under TMPDIR that goes away; takes about as long as the workflow. Says on stderr where
    it is.

    Args:
        scan: NIfTI, NRRD or MetaImage file, or a folder with a DICOM series.
        model: of `load_model`, or its path.
        mask: a lung mask of your own: 0, 1 right, 2 left.
        series_uid: of a folder with several series; `ctssl series FOLDER` lists them.
        keep: embed it even if the limits of quality on the card would leave it out.
        config: a config of ctssl that says how scans are prepared, for a card that does not.
        effort: limits, and weights of lungmask.

    Raises:
        ScanError: the scan cannot be used; says why and what to do.
        StoreError: the model's atlas was not found.
        WeightsError: the model is damaged, or of a version that prepares scans in another way.
        ConfigError: the card does not say how scans are prepared.
        MachineFault: the machine is at fault: no disk, no right to read, no weights of lungmask.
    """
    from ctssl.evaluate.features import embed_scan
    from ctssl.store.boxes import open_box
    from ctssl.store.reader import open_store

    model = model if isinstance(model, SharedModel) else load_model(model)
    effort = effort or Effort()
    name, known = _name(scan), preparation_of(model, effort, config, masked=mask is not None)
    request = Request(
        scan=name,
        image=str(scan),
        series_uid=series_uid,
        mask=None if mask is None else str(mask),
        preparation=known.model_dump(mode="json"),
        atlas=str(model.needed_atlas()),
        box=model.boxes,
        effort=effort,
    )
    if not os.path.exists(scan):  # noqa: PTH110 (a folder that may not be looked into is no exception here)
        raise ScanError(f"{name} does not exist, or may not be looked at", "correct the path")
    with TemporaryDirectory(prefix="ctssl-embed-") as scratch:
        numbers = prepare(request, Path(scratch))
        _judge(name, numbers, known, keep)
        store, box = open_store(Path(scratch) / STORE), None
        if model.boxes:
            box = open_box(Path(scratch) / BOX, scan=name, atlas=store.card["atlas"])
        with in_float32():
            return embed_scan(model.embedder, store, model.device, box)


def embed_scans(
    scans: Sequence[Path], model: SharedModel, out: Path, **options: Any
) -> list[tuple[str, CtsslError]]:
    """The scans that could not be used, each with why; the others' features are written as a table.

    Columns scan and subject (the path as given, both), f000, f001, ...: the form of the workflow's tables.
    What is done is written also when a fault of the machine, or the user, ends it early. No scan, no table.

    Args:
        scans: files or folders.
        model: of `load_model`.
        out: file to write, replaced as a whole.
        options: of `embed`.

    Raises:
        ConfigError: `out` cannot be written, or a scan is named twice.
        MachineFault: the machine is at fault.
    """
    from ctssl.evaluate.features import how_made, write_table

    check_out(scans, out)
    effort, masked = options.get("effort") or Effort(), options.get("mask") is not None
    preparation_of(model, effort, options.get("config"), masked=masked)
    model.needed_atlas()
    lost: list[tuple[str, CtsslError]] = []
    rows: list[tuple[str, str, np.ndarray]] = []
    try:
        for number, scan in enumerate(scans, 1):
            if len(scans) > 1:
                tell(f"scan {number} of {len(scans)}")
            try:
                rows.append((_name(scan), _name(scan), embed(scan, model, **options)))
            except ScanError as error:
                lost.append((_name(scan), error))
    finally:
        if rows:
            part = out.with_name(f".{out.name}.{os.getpid()}.part")
            try:
                write_table(part, rows, how_made(model.card))
                part.replace(out)
            finally:
                part.unlink(missing_ok=True)
            tell(f"{out}: features of {len(rows)} of {len(scans)} scans")
    return lost


def check_out(scans: Sequence[Path], out: Path) -> None:
    """Nothing, when the table can be written and the scans be told apart: minutes before it is known else.

    Raises:
        ConfigError: it cannot, or they cannot.
    """
    if out.suffix != ".parquet":
        raise ConfigError(f"a table of features is a .parquet file, not {out.name}", "end its name so")
    if out.is_dir() or any(out.resolve() == scan.resolve() for scan in scans):
        what = "a folder" if out.is_dir() else "one of the scans"
        raise ConfigError(f"the table cannot be written: {out} is {what}", "name another file")
    twice = sorted({str(scan) for scan in scans if list(scans).count(scan) > 1})
    if twice:
        raise ConfigError(f"scans are named twice: {', '.join(twice[:5])}", "name each once")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=out.parent, prefix=".ctssl-"):
            pass
    except OSError as error:
        raise ConfigError(
            f"{out.parent} cannot be written: {error.strerror}", "name another place"
        ) from error


def preparation_of(
    model: SharedModel, effort: Effort, config: str | Path | None, *, masked: bool
) -> Preparation:
    """How scans are prepared for a model, when this version can do it so.

    Args:
        model: of `load_model`.
        effort: names weights of lungmask.
        config: for a card that does not say how.
        masked: a mask is given.

    Raises:
        ConfigError: neither card nor config says how, or both do; or lungmask's weights are not named.
        WeightsError: this version prepares scans in another way.
    """
    known = of_card(model.card, model.path)
    if known is None:
        if config is None:
            raise ConfigError(
                f"the card of {model.path} does not say how its scans were prepared: it was imported, or its "
                "stores came from elsewhere",
                _BY_HAND,
            )
        known = of_config(read(Path(config)))
    elif config is not None:
        raise ConfigError(
            f"the card of {model.path} says how scans are prepared, and so does {config}",
            "leave out the config: features are comparable when scans are prepared as the card says",
        )
    known.check_recipes(str(model.card.get("ctssl"))[:20], boxes=model.boxes)
    if known.mask.own_weights and effort.mask_weights is None and not masked:
        raise ConfigError(
            "the lungs were masked by lungmask with weights of the study's own",
            "name them (--mask-weights FILE; in Python effort=Effort(mask_weights=FILE)), or give masks",
        )
    return known


def _judge(name: str, numbers: dict[str, Any], known: Preparation, keep: bool) -> None:
    """Says what the limits of quality say of a scan.

    Raises:
        ScanError: they leave it out, and nobody keeps it.
    """
    from ctssl.prepare.quality import verdict

    judged, reasons = verdict(numbers, known.quality)
    if judged == "exclude" and not keep:
        raise ScanError(
            f"{name} is left out by the limits of quality: {'; '.join(reasons)}",
            "a lung mask of your own may mend it (--mask); or keep it (--keep; in Python keep=True), where "
            "that is right as it is",
        )
    for reason in reasons:
        tell(f"{name}: {reason}")


def _name(scan: str | Path) -> str:
    """The path as it was given, also where its bytes are no text."""
    return os.fsencode(scan).decode("utf-8", "backslashreplace")
