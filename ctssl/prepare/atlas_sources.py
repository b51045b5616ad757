"""The four sources of an atlas: built in, a file, one scan, a template of several scans."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ctssl.config.prepare import Atlas as AtlasSettings
from ctssl.config.prepare import Registration
from ctssl.errors import ScanError
from ctssl.log import Progress, say
from ctssl.prepare.atlas import Anatomy, Atlas, anatomy_of, builtin_atlas, landmarked, write_atlas
from ctssl.prepare.machine import Machine

AXES = "LPS"
"""Of every atlas but one that comes from a file, which keeps the file's."""


def build_atlas(folder: Path, settings: Mapping[str, Any], machine: Machine) -> Atlas:
    """The atlas that the settings ask for, written into a folder.

    Args:
        folder: gets atlas.json, mask.nii.gz and, where they are known, ct.nii.gz and lobes.nii.gz.
        settings: `atlas`, the config section; for the sources scan and template also `scans` (scan, image
            and mask_image of each), `volume`, `mask`; for a template `registration`.
        machine: how scans are read here.

    Raises:
        ConfigError: a file cannot be used, or there are no landmarks.
        ScanError: a scan cannot be used; names it.
    """
    chosen = AtlasSettings(**settings["atlas"])
    about: dict[str, Any] = {"source": chosen.source}
    if chosen.source == "builtin":
        assert chosen.min_lung_fraction is not None, "the config sees to that"
        atlas, chest = builtin_atlas(
            spacing_mm=chosen.spacing_mm,
            patch_voxels=chosen.patch_voxels,
            pitch_mm=chosen.pitch_mm,
            min_lung_fraction=chosen.min_lung_fraction,
        )
        write_atlas(folder, atlas, anatomy_of(chest), about)
        return atlas
    given: dict[str, Any] = {}
    if chosen.source == "file":
        from ctssl.prepare.atlas_file import read_files

        anatomy, given = read_files(chosen, machine.max_voxels)
        about["files"] = given["files"]
    elif chosen.source == "scan":
        anatomy = _scan(settings, chosen, machine)
        about["scans"] = list(chosen.scans)
    else:
        anatomy = _template(settings, chosen, machine, folder)
        about["scans"] = list(chosen.scans)
    atlas = landmarked(
        anatomy,
        patch_voxels=chosen.patch_voxels,
        pitch_mm=chosen.pitch_mm,
        min_lung_fraction=chosen.min_lung_fraction,
        **given,
    )
    write_atlas(folder, atlas, anatomy, about)
    return atlas


def _scan(settings: Mapping[str, Any], chosen: AtlasSettings, machine: Machine) -> Anatomy:
    [scan] = settings["scans"]
    chest = _whole_chest(scan, settings, chosen, machine)
    return Anatomy(chest.grid, chest.mask, chest.hu)


def _template(settings: Mapping[str, Any], chosen: AtlasSettings, machine: Machine, folder: Path) -> Anatomy:
    from ctssl.prepare.registration import Lungs
    from ctssl.prepare.template import Member, make_template

    folder.mkdir(parents=True, exist_ok=True)
    members = []
    with TemporaryDirectory(dir=folder, prefix=".template-") as scratch:
        with Progress("template", len(settings["scans"]), "scans read") as progress:
            for number, scan in enumerate(settings["scans"]):
                chest = _whole_chest(scan, settings, chosen, machine)
                lungs = Lungs(chest.mask, chest.grid)
                members.append(Member.written(scan["scan"], Path(scratch) / str(number), chest.hu, lungs))
                progress.advance()
        return make_template(members, Registration(**settings["registration"]), chosen.patch_voxels)


def _whole_chest(
    scan: Mapping[str, Any], settings: Mapping[str, Any], chosen: AtlasSettings, machine: Machine
) -> Any:
    """The scan as the job volume reads it, when it shows whole lungs.

    Raises:
        ScanError: names the scan.
    """
    from ctssl.prepare.chest import Frame, read_chest
    from ctssl.prepare.registration import Lungs

    frame = Frame(AXES, chosen.spacing_mm, margin_voxels=chosen.patch_voxels)
    try:
        chest = read_chest({**scan, "volume": settings["volume"], "mask": settings["mask"]}, frame, machine)
        faces = Lungs(chest.mask, chest.grid).cut_faces()
        if faces:
            cut = " and ".join(faces)
            raise ScanError(f"its field of view cuts the lungs at the {cut}", "an atlas shows whole lungs")
    except ScanError as error:
        raise ScanError(
            f"the atlas cannot be made from scan {scan['scan']}: {error.message}",
            f"{error.advice}; or name another scan in atlas.scans" if error.advice else "name another scan",
        ) from error
    say(f"{scan['scan']}: {chest.numbers['right_l']} l right, {chest.numbers['left_l']} l left lung")
    return chest
