"""The jobs of one scan: volume (with mask), register (with landmarks, graph, picture), store.

Each writes one folder with status.json. A scan that was lost before is passed on as lost.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctssl import settings as stage_settings
from ctssl.config.prepare import Registration
from ctssl.errors import ScanError
from ctssl.files import writing_to
from ctssl.jobs import outputs, supervise
from ctssl.jobs.status import Status
from ctssl.log import say, tell
from ctssl.prepare.machine import Machine

if TYPE_CHECKING:
    import numpy as np

    from ctssl.prepare.lungs import Lungs
    from ctssl.prepare.picture import Views
    from ctssl.prepare.registration import Alignment

VOLUME, MASK, SEEN = "volume.nii", "mask.nii.gz", "seen.nii.gz"
LANDMARKS, EDGES = "landmarks.csv", "edges.csv"
_AIR_HU = -1024
_PICTURE_MM = 2.0  # what the atlas's side of a picture is drawn from


@dataclass(frozen=True)
class ScanJob:
    """One stage of one scan.

    Attributes:
        stage: volume, register or store.
        scan: its id.
        settings: the rule's `settings` param.
        out: folder to make; what lies there is removed.
        atlas: folder of the atlas.
        limits: of the computing process.
        last_attempt: a crash in this attempt excludes the scan instead of failing the job.
    """

    stage: str
    scan: str
    settings: str
    out: Path
    atlas: Path
    limits: supervise.Limits
    last_attempt: bool

    def run(self, compute: Callable[[dict[str, Any]], dict[str, Any]], before: Path | None = None) -> Status:
        """The status written: of `compute`, or of the stage before when the scan was lost there.

        Args:
            compute: settings in, numbers out; fills `out`. Runs in a supervised child.
            before: folder of the stage before.
        """
        settings = stage_settings.parse(self.stage, self.settings)
        outputs.remove(self.out)
        self.out.mkdir(parents=True)
        if before is not None:
            earlier = Status.outcome(before, self.scan, self.stage)
            if not earlier.ok:
                earlier.write(self.out)
                return earlier

        def work() -> None:
            with writing_to(self.out):
                self._outcome(compute, settings).write(self.out)

        try:
            supervise.run(f"{self.stage} {self.scan}", work, self.limits)
        except supervise.Crash as crash:
            if not self.last_attempt:
                raise
            Status.excluded(self.scan, self.stage, ScanError(crash.message, crash.advice)).write(self.out)
        status = Status.read(self.out)
        if not status.ok:
            _clear(self.out, keep=status)
            tell(f"{self.scan} is excluded at {status.stage}: {status.reason}")
        return status

    def _outcome(
        self, compute: Callable[[dict[str, Any]], dict[str, Any]], settings: dict[str, Any]
    ) -> Status:
        try:
            return Status(self.scan, True, self.stage, numbers=compute(settings))
        except ScanError as error:
            return Status.excluded(self.scan, self.stage, error)


def volume(job: ScanJob, machine: Machine) -> None:
    """Write the scan and its lung mask on the atlas's axes and spacing, cut to the lungs' box."""
    job.run(lambda settings: _volume(job, settings, machine))


def register(job: ScanJob, volume: Path, picture: Path) -> None:
    """Write transforms, landmarks and edges of a scan, and its picture."""
    status = job.run(lambda settings: _register(job, settings, volume, picture), before=volume)
    if not status.ok and not picture.exists():
        from ctssl.prepare.picture import draw_exclusion

        draw_exclusion(picture, status.scan, f"{status.stage}: {status.reason}. {status.advice}")


def store(job: ScanJob, volume: Path, registration: Path) -> None:
    """Write the patch store of a scan."""
    job.run(lambda settings: _store(job, settings, volume, registration), before=registration)


def _volume(job: ScanJob, settings: dict[str, Any], machine: Machine) -> dict[str, Any]:
    import numpy as np

    from ctssl.prepare.atlas import read_atlas
    from ctssl.prepare.chest import Frame, read_chest
    from ctssl.prepare.images import write_array

    if settings["exclude"]:
        raise ScanError(f"the manifest excludes it: {settings['exclude_reason'] or 'no reason given'}")
    atlas = read_atlas(job.atlas)
    frame = Frame(atlas.axes, atlas.spacing_mm, margin_voxels=atlas.patch_voxels)
    chest = read_chest(settings, frame, machine)
    say(f"{job.scan}: {chest.grid.shape[::-1]} voxels of {atlas.spacing_mm} mm hold the lungs")
    write_array(job.out / VOLUME, chest.hu, chest.grid)
    write_array(job.out / MASK, chest.mask, chest.grid)
    if chest.seen is not None:
        write_array(job.out / SEEN, chest.seen.astype(np.uint8), chest.grid)
    return chest.numbers


def _register(job: ScanJob, settings: dict[str, Any], volume: Path, picture: Path) -> dict[str, Any]:
    import pandas as pd

    from ctssl.prepare.atlas import read_atlas
    from ctssl.prepare.graph import scan_edges
    from ctssl.prepare.landmarks import valid_landmarks
    from ctssl.prepare.picture import caption, draw_scan
    from ctssl.prepare.registration import register

    chosen = Registration(**settings["registration"])
    inside = settings["store"]["min_inside_fraction"]
    atlas = read_atlas(job.atlas)
    scan, target = _scan_lungs(volume), _atlas_lungs(job.atlas)
    aligned = register(scan, target, atlas.landmarks_mm, chosen, job.out)
    landmarks, edge = aligned.landmarks_mm, atlas.patch_voxels
    valid = aligned.shown & valid_landmarks(landmarks, scan.grid, inside, edge=edge, seen=scan.seen)
    edges = scan_edges(landmarks, valid, atlas, **settings["graph"])
    table = pd.DataFrame(landmarks, columns=["x_mm", "y_mm", "z_mm"])
    table.assign(valid=valid.astype(int)).to_csv(job.out / LANDMARKS, index_label="landmark")
    pd.DataFrame(edges, columns=["first", "second"]).to_csv(job.out / EDGES, index=False)
    numbers = {**aligned.numbers, "landmarks": len(valid), "valid": int(valid.sum()), "edges": len(edges)}
    views = _views(scan, target, aligned, valid, near_mm=edge * atlas.spacing_mm / 2)
    draw_scan(picture, views, caption(job.scan, Status.read(volume).numbers | numbers))
    if numbers["valid"] < 2:
        raise ScanError(
            f"only {numbers['valid']} of {len(valid)} landmarks lie in the field of view",
            "the scan shows too little of the lungs to be used",
        )
    return numbers


def _scan_lungs(volume: Path) -> "Lungs":
    from ctssl.prepare.images import read_array
    from ctssl.prepare.lungs import Lungs

    mask, grid = read_array(volume / MASK)
    seen = read_array(volume / SEEN)[0] > 0 if (volume / SEEN).exists() else None
    return Lungs(mask, grid, seen=seen, hu=read_array(volume / VOLUME)[0])


def _atlas_lungs(folder: Path) -> "Lungs":
    from ctssl.prepare import atlas
    from ctssl.prepare.images import read_array
    from ctssl.prepare.lungs import Lungs

    mask, grid = read_array(folder / atlas.MASK)
    return Lungs(mask, grid, hu=read_array(folder / atlas.CT)[0] if (folder / atlas.CT).exists() else None)


def _views(
    scan: "Lungs", target: "Lungs", aligned: "Alignment", valid: "np.ndarray", near_mm: float
) -> "Views":
    """What the picture of a scan shows; the atlas's side on every second voxel or so."""
    from ctssl.prepare.picture import Views
    from ctssl.prepare.transforms import warp_to_atlas

    step = max(1, round(_PICTURE_MM / target.grid.spacing_mm))
    grid, to_scan = target.grid.every(step), [aligned.files["warp"], aligned.files["affine"]]
    thin = (slice(None, None, step),) * 3
    assert scan.hu is not None, "read with the volume"
    return Views(
        hu=scan.hu,
        mask=scan.mask,
        grid=scan.grid,
        landmarks_mm=aligned.landmarks_mm,
        valid=valid,
        near_mm=near_mm,
        atlas_hu=None if target.hu is None else target.hu[thin],
        atlas_mask=target.mask[thin],
        warped_hu=warp_to_atlas(scan.hu, scan.grid, grid, to_scan, labels=False, outside=_AIR_HU),
        warped_mask=warp_to_atlas(scan.mask, scan.grid, grid, to_scan, labels=True, outside=0),
        atlas_grid=grid,
    )


def _store(job: ScanJob, settings: dict[str, Any], volume: Path, registration: Path) -> dict[str, Any]:
    import numpy as np
    import pandas as pd

    from ctssl import __version__
    from ctssl.prepare.atlas import read_atlas
    from ctssl.prepare.densitometry import densitometry
    from ctssl.prepare.images import read_array
    from ctssl.prepare.landmarks import extract_patches, lung_fraction
    from ctssl.store.layout import AIR_HU, StoreArrays
    from ctssl.store.writer import write_store

    atlas = read_atlas(job.atlas)
    hu, grid = read_array(volume / VOLUME)
    mask, _ = read_array(volume / MASK)
    table = pd.read_csv(registration / LANDMARKS)
    centres, valid = table[["x_mm", "y_mm", "z_mm"]].to_numpy(), table["valid"].to_numpy(bool)
    edge = atlas.patch_voxels
    patches = np.full((len(valid), edge, edge, edge), AIR_HU, np.int16)
    patches[valid] = extract_patches(hu, grid, centres[valid], edge=edge, outside=AIR_HU)
    fraction = np.zeros(len(valid), np.float32)
    fraction[valid] = lung_fraction(mask, grid, centres[valid], edge=edge)
    edges = pd.read_csv(registration / EDGES).to_numpy(np.int64)
    card = {
        "scan": job.scan,
        "atlas": atlas.id,
        "spacing_mm": atlas.spacing_mm,
        "axes": atlas.axes,
        "ctssl": __version__,
        "recipe": settings["recipe"],
        "measures": densitometry(hu, mask, grid.spacing_mm),
    }
    card = write_store(job.out, StoreArrays(patches, valid, centres, fraction, edges), card)
    return {"digest": card["digest"], **card["measures"]}


def _clear(folder: Path, keep: Status) -> None:
    """Leave nothing but the status: half-made data must not be taken for data."""
    shutil.rmtree(folder)
    folder.mkdir()
    keep.write(folder)
