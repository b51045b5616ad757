"""Jobs of supervised networks: training one inside one fold, and joining what all folds predict."""

import csv
import operator
from collections.abc import Sequence
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctssl import settings as stage_settings
from ctssl.cards import read_card
from ctssl.config.evaluation import Target
from ctssl.config.methods import OPTIONS
from ctssl.config.runs import Pretraining, Run
from ctssl.errors import StoreError
from ctssl.jobs.boxes import folder_of, open_boxes, with_boxes
from ctssl.jobs.probes import chosen_cases, only_first, order_of
from ctssl.jobs.rows import check_unchanged, some_rows
from ctssl.jobs.study import VOLUMES, job_file, store_path, train_job
from ctssl.log import tell
from ctssl.manifest import read_manifest

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from ctssl.evaluate.folds import FoldPlan

WEIGHTS = "model.safetensors"


def fold(
    text: str,
    seed: int,
    fold: int,
    atlas: Path,
    scans: Path,
    splits: Path,
    machine: dict[str, Any],
    out: Path,
    packed: Path | None = None,
    about: dict[str, Any] | None = None,
) -> None:
    """Train a network on one fold's training part, and predict the fold's test scans.

    Args:
        text: the rule's settings.
        seed: of the training and of who is held out.
        fold: which one is tested.
        atlas: folder.
        scans: the cohort's table.
        splits: the file of the folds.
        machine: what of `pretraining` results do not depend on.
        out: the record to write; tables, weights and history lie beside it.
        packed: card of a packed copy, which is trained from in place of the stores.
        about: what else the weights' card says.
    """
    from ctssl.evaluate.folds import HELD, TEST, TRAIN, plan_fold, predicted, write_fold

    settings = stage_settings.parse("fold", text)
    run, target = Run(**settings["run"]), Target(**settings["target"])
    rows, chosen, _, _ = _labelled(settings, scans, splits, target)
    made_of = _made_of(settings, scans, [chosen[scan] for scan in rows.scan])
    plan = plan_fold(rows, fold, target, run.options.validation_parts, seed)  # type: ignore[attr-defined]
    for note in plan.notes:
        tell(f"{run.name} {target.name} fold {fold}: {note}")
    values, record = None, {}
    if plan.network:
        part = plan.of(TRAIN, HELD)
        own = [chosen[scan] for scan in part.scan]
        pretraining = Pretraining(**machine, precision=settings["precision"])
        path, labels = out.with_name("job.json"), _labels(plan, part, run, target)
        job_file(settings, pretraining, own, seed, atlas, scans, path, packed, about, labels).write(path)
        train_job(path, pretraining)
        tested = [chosen[scan] for scan in plan.of(TEST).scan]
        values = _predict(out.with_name(WEIGHTS), atlas, scans, tested, pretraining)
        record = {"held_out": len(plan.of(HELD)), **_epochs(out.with_name("history.csv"))}
    else:  # those of other labels
        for name in (WEIGHTS, "model.json", "history.csv"):
            out.with_name(name).unlink(missing_ok=True)
    found = predicted(plan, values) if plan.network or plan.notes else None
    write_fold(out, fold, plan, found, record, made_of)


def join(text: str, records: Sequence[Path], scans: Path, splits: Path, out: Path) -> None:
    """Write what the predictions of all folds say together, as of a probe."""
    from ctssl.evaluate.folds import read_fold
    from ctssl.evaluate.joining import joined
    from ctssl.evaluate.labels import read_labels
    from ctssl.evaluate.probes import write_probe

    settings = stage_settings.parse("join", text)
    target = Target(**settings["target"])
    rows, chosen, lost, notes = _labelled(settings, scans, splits, target)
    made_of = _made_of(settings, scans, [chosen[scan] for scan in rows.scan])
    order = labels = None
    if settings.get("scans_of_subject") == "mean":
        manifest = read_manifest(Path(settings["manifest"]), images=False)
        order, labels = order_of(manifest), read_labels(manifest.labelled(target.column), target)
    read, told = [read_fold(path) for path in records], [*only_first(settings), *notes]
    write_probe(out, joined(rows, lost, read, _folds(splits), target, made_of, told, order, labels))


def _labelled(
    settings: dict[str, Any], scans: Path, splits: Path, target: Target
) -> tuple["pd.DataFrame", dict[str, dict[str, str]], int, tuple[str, ...]]:
    """Labelled scans that count (scan, subject, fold, truth); scan -> its row; how many cannot; notes.

    With `scans_of_subject: mean` all of them count: a network sees scans, and what it says is averaged.
    """
    import pandas as pd

    from ctssl.evaluate.cases import Cases
    from ctssl.evaluate.labels import join_labels, read_labels

    manifest = read_manifest(Path(settings["manifest"]), images=False)
    check_unchanged(settings["labels"], stage_settings.labelled_digest(manifest, target.column), manifest)
    rows, options = some_rows(scans), OPTIONS[settings["run"]["method"]]
    if options.boxes:
        rows = with_boxes(scans, rows)
    labels = read_labels(manifest.labelled(target.column), target)
    if options.landmarks:  # type: ignore[attr-defined]
        rows = _with_landmarks(scans, [row for row in rows if row["scan"] in labels.index])
    table = pd.DataFrame({name: [row[name] for row in rows] for name in ("scan", "subject")}, dtype=object)
    cases = chosen_cases(settings, manifest, Cases(table, labels), target, later=True)
    joint, lost = join_labels(cases.features, cases.labels, _folds(splits))
    return joint, {row["scan"]: row for row in rows}, lost, cases.notes


def _with_landmarks(scans: Path, rows: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """The rows whose scan shows a landmark; who shows none is told."""
    from ctssl.store.reader import open_named

    stores = open_named([store_path(scans, r) for r in rows], {r["scan"]: r["store"] for r in rows})
    shown = [bool(store.valid.any()) for store in stores]
    for store in compress(stores, map(operator.not_, shown)):
        tell(f"{store.scan} shows no landmark and is left out")
    return list(compress(rows, shown))


def _made_of(settings: dict[str, Any], scans: Path, rows: Sequence[dict[str, str]]) -> dict[str, str]:
    """Scan -> digest of its store, and after it that of its box where the method sees boxes."""
    boxed = OPTIONS[settings["run"]["method"]].boxes
    return {r["scan"]: f"{r['store']} {_box_digest(scans, r)}" if boxed else r["store"] for r in rows}


def _box_digest(scans: Path, row: dict[str, str]) -> str:
    from ctssl.store.boxes import CARD

    card = folder_of(scans, row) / CARD
    try:
        return str(read_card(card)["digest"])
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError) as error:
        raise StoreError(
            f"{card} of scan {row['scan']} cannot be read: {error}",
            "delete its folder and run the workflow again, or copy it again if it was made elsewhere",
        ) from error


def _folds(splits: Path) -> dict[str, int]:
    from ctssl.evaluate.splits import read_splits

    return read_splits(splits)


def _labels(plan: "FoldPlan", part: "pd.DataFrame", run: Run, target: Target) -> dict[str, Any]:
    """The labels of the training part, as ctssl.train.labels has them."""
    from ctssl.evaluate.folds import HELD

    number = {name: i for i, name in enumerate(plan.classes)}
    return {
        "target": target.name,
        "classes": plan.classes,
        "values": [float(number.get(value, value)) for value in part.truth],
        "held": (part.part == HELD).tolist(),
        "weighted": run.options.class_weights,  # type: ignore[attr-defined]
    }


def _predict(
    weights: Path, atlas: Path, scans: Path, rows: list[dict[str, str]], machine: Pretraining
) -> "np.ndarray":
    """(n, 1) numbers or (n, classes) probabilities of scans, one at a time and in float32."""
    import numpy as np
    import torch

    from ctssl.prepare.atlas import read_atlas
    from ctssl.store.reader import open_named
    from ctssl.train import weights as model_weights
    from ctssl.train.device import claim, exact_float32
    from ctssl.train.held import whole_scan
    from ctssl.train.labels import Task

    torch.set_num_threads(machine.threads)
    exact_float32()
    chest = read_atlas(atlas)
    model = model_weights.load(weights, chest)
    task = Task(**model.card["task"])
    stores = open_named([store_path(scans, r) for r in rows], {r["scan"]: r["store"] for r in rows})
    boxes = open_boxes(scans, rows, chest.id) if hasattr(model.embedder, "cut") else {}
    with claim(machine.device) as device:
        network = model.embedder.to(device)
        batches = (whole_scan(network, s, boxes.get(s.scan), scans.parent / VOLUMES) for s in stores)
        outputs = [network.predict(batch.to(device))[0].cpu().numpy() for batch in batches]
    return task.values(np.stack(outputs))


def _epochs(history: Path) -> dict[str, int]:
    """How many epochs were done, and which of them, from 1, was kept; nothing where none was held out."""
    with history.open(newline="") as file:
        losses = [float(row["validation_loss"]) for row in csv.DictReader(file) if row.get("validation_loss")]
    return {"epochs": len(losses), "kept_epoch": 1 + losses.index(min(losses))} if losses else {}
