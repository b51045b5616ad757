"""A pretraining as a file, so that another process or a bare node can do it: `python -m ctssl.train FILE`.

Needs torch, numpy, tensorstore and pydantic, no Snakemake. Relative paths start at the file's folder, so that
stores, atlas and file can be carried elsewhere together.
"""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ctssl.config.runs import Pretraining, Run
from ctssl.errors import ConfigError
from ctssl.train.fold import FoldJob
from ctssl.train.job import PretrainJob
from ctssl.train.labels import Labels


@dataclass(frozen=True)
class JobFile:
    """What a pretraining is made from.

    Attributes:
        run: method and options, as text of the settings.
        pretraining: device, threads, precision, ...
        atlas: folder of the atlas.
        stores: folders of the stores.
        packed: folder of a packed copy, which is read in their place; None: there is none.
        digests: scan -> digest of its store, as the cohort's table has them, in the order of the stores.
        subjects: the subject of each store.
        seed: of weights, order and augmentation.
        out: folder of the results.
        about: what else the weights' card says.
        boxes: folders of the boxes of lungs, of a method that cuts its samples from them; one a store.
        cache: folder of whole volumes on other voxels; None: none are kept.
        labels: of supervised training, as ctssl.train.labels has them; None: it is none.
    """

    run: dict[str, Any]
    pretraining: dict[str, Any]
    atlas: str
    stores: Sequence[str]
    packed: str | None
    digests: dict[str, str]
    subjects: Sequence[str]
    seed: int
    out: str
    about: dict[str, Any] = field(default_factory=dict)
    boxes: Sequence[str] = ()
    cache: str | None = None
    labels: dict[str, Any] | None = None

    def write(self, path: Path) -> None:
        """Write the file; paths become relative to its folder."""
        start = path.parent.resolve()

        def relative(there: str) -> str:
            return os.path.relpath(Path(there).resolve(), start)

        moved: dict[str, Any] = {"atlas": relative(self.atlas), "out": relative(self.out)}
        for name in ("packed", "cache"):
            moved[name] = relative(there) if (there := getattr(self, name)) else None
        for name in ("stores", "boxes"):
            moved[name] = [relative(folder) for folder in getattr(self, name)]
        values = asdict(self) | moved
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.part")
        part.write_text(json.dumps(values, indent=1) + "\n")
        part.replace(path)


def read_job(path: Path) -> PretrainJob:
    """The pretraining of a file, its stores open.

    Raises:
        ConfigError: the file is not there or not such a file.
        StoreError: a store is missing, damaged or of another atlas.
    """
    from ctssl.prepare.atlas import read_atlas
    from ctssl.store.boxes import open_box
    from ctssl.store.packed import open_packed
    from ctssl.store.reader import open_named

    try:
        values = JobFile(**json.loads(path.read_text()))
        run, machine = Run(**values.run), Pretraining(**values.pretraining)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(
            f"{path} is no job of pretraining: {error}", "the workflow writes job.json into the run's folder"
        ) from error
    atlas = read_atlas(path.parent / values.atlas)
    if values.packed and values.digests:
        stores = open_packed(path.parent / values.packed, values.digests, atlas=atlas.id)
    else:
        places = [path.parent / store for store in values.stores]
        stores = open_named(places, values.digests, atlas=atlas.id)
    folders = zip(stores, values.boxes, strict=True) if values.boxes else ()
    boxes = {s.scan: open_box(path.parent / box, scan=s.scan, atlas=atlas.id) for s, box in folders}
    made: Callable[..., PretrainJob] = PretrainJob
    if values.labels is not None:
        made = partial(FoldJob, labels=Labels(**values.labels))
    return made(
        run=run,
        pretraining=machine,
        atlas=atlas,
        stores=stores,
        subjects=values.subjects,
        seed=values.seed,
        out=path.parent / values.out,
        boxes=boxes,
        cache=path.parent / values.cache if values.cache else None,
        about=values.about,
    )
