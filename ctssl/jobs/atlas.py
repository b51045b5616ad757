"""The job that makes the atlas."""

from pathlib import Path

from ctssl import settings as stage_settings
from ctssl.errors import CtsslError
from ctssl.files import writing_to
from ctssl.jobs import outputs, supervise
from ctssl.log import tell
from ctssl.prepare.machine import Machine


def make(text: str, out: Path, machine: Machine, limits: supervise.Limits) -> None:
    """Make the atlas that the settings ask for; what lies in the folder is removed.

    Without an atlas there is no study: whatever is wrong fails the job, also what would exclude a scan.

    Args:
        text: the rule's `settings` param.
        out: the atlas's folder.
        machine: how scans are read here.
        limits: of the computing process.
    """
    settings = stage_settings.parse("atlas", text)
    outputs.remove(out)

    def work() -> None:
        from ctssl.prepare.atlas_sources import build_atlas

        try:
            with writing_to(out):
                atlas = build_atlas(out, settings, machine)
        except CtsslError as error:
            tell(f"atlas: {error}")  # the log alone is too quiet for what stops everything
            raise
        count = len(atlas.landmarks_mm)
        tell(f"atlas {atlas.id}: {count} landmarks, patches of {atlas.patch_voxels} x {atlas.spacing_mm} mm")

    supervise.run("atlas", work, limits)
