"""A folder to share: weights, their card for programs and for people, and the atlas that scans need."""

import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ctssl.cards import read_card
from ctssl.errors import ConfigError, StoreError, WeightsError
from ctssl.escaping import in_markdown_template
from ctssl.log import tell
from ctssl.preparation import Preparation, of_card
from ctssl.prepare import atlas as atlases
from ctssl.share.model import SharedModel, load_model
from ctssl.train import weights

README, TEMPLATE = "README.md", "card.md.j2"
TAGS = ["medical", "chest-ct", "computed-tomography", "lung", "self-supervised", "feature-extraction"]
NOT_STATED = "not stated"

_IDENTIFIER = re.compile(r"[a-z0-9][a-z0-9.-]*")
_SOURCES = {
    "builtin": "the canonical chest of the phantom, which is nobody",
    "file": "read from a file",
    "scan": "the lungs of one scan of the cohort",
    "template": "the mean of several scans of the cohort",
    "": "name one (`--atlas`) to embed scans",
}


@dataclass(frozen=True)
class Sharing:
    """What the one who shares a model decides.

    Attributes:
        licence: of the weights; None: not stated.
        data_licence: of the scans; None: as the card says.
        cohort_name: of the scans, which tables of other studies tell; None: as the card says.
        with_ct: the atlas's CT may be given away.
    """

    licence: str | None = None
    data_licence: str | None = None
    cohort_name: str | None = None
    with_ct: bool = False


def export_model(model: SharedModel, out: Path, sharing: Sharing) -> str:
    """A line on what the folder holds: model.safetensors, model.json, README.md, atlas/.

    No names of scans or subjects are in it, and of the atlas only what preparation needs.

    Args:
        model: of `load_model`.
        out: folder to make; there all at once, or not.
        sharing: licences, and whether a CT may be given away.

    Raises:
        ConfigError: the folder is there and not empty, or a CT would be given away unasked.
        StoreError: the atlas was not found, or lacks what preparation needs.
        WeightsError: the card lacks what a stranger must know.
    """
    out = out.absolute()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out} is there already", "name a new folder")
    known = of_card(model.card, model.path)
    source = model.atlas_folder if model.card.get("atlas") is None else model.needed_atlas()
    card = _card(model.card, sharing)
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        part.mkdir()
        about = _write_atlas(source, part / "atlas", known, sharing) if source else ""
        axes = atlases.read_atlas(source).axes if source else ""
        (part / weights.CARD).write_text(json.dumps(card, indent=1, sort_keys=True) + "\n")
        (part / README).write_text(_page(card, known, (about, axes), model.path))
        shutil.copyfile(model.path, part / weights.TENSORS)
        load_model(part, atlas=part / "atlas" if source else None)  # whole, and of one piece
        if out.exists():
            out.rmdir()
        part.replace(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    size_mb = (out / weights.TENSORS).stat().st_size / 1e6
    held = [f"{weights.TENSORS} ({size_mb:.1f} MB)", weights.CARD, README, *(["atlas/"] if source else [])]
    return f"{out}: {', '.join(held)}"


def _page(card: dict[str, Any], known: Preparation | None, atlas: tuple[str, str], path: Path) -> str:
    """`readme` of weights at a path, and of an atlas's source and axes.

    Raises:
        WeightsError: their card lacks what it tells.
    """
    from jinja2 import UndefinedError

    try:
        return readme(card, known, *atlas)
    except (UndefinedError, KeyError, TypeError, ValueError) as error:
        raise WeightsError(
            f"the card of {path} lacks what a stranger must know, or has it in another form: {error}",
            "fetch weights and card again, or train anew with this version",
        ) from error


def readme(card: dict[str, Any], known: Preparation | None, atlas_source: str, axes: str = "") -> str:
    """The model card in Markdown, with the front matter that Hugging Face reads.

    Args:
        card: what goes into model.json.
        known: how scans are prepared, or None.
        atlas_source: a key of atlas.source, or another word; empty: no atlas goes with it.
        axes: of the atlas that goes with it, for a card that has none.
    """
    import yaml
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    templates = FileSystemLoader(Path(__file__).parent)
    page = Environment(
        loader=templates, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    text = page.get_template(TEMPLATE).render(
        card={name: _words(value) for name, value in card.items()},
        window=" to ".join(str(bound) for bound in card["window_hu"]),
        summary={name: _quartiles(values) for name, values in (card.get("cohort") or {}).items()},
        known=known,
        registration=known.registering["registration"] if known else {},
        held=bool(atlas_source),
        axes=_words(card.get("axes") or axes),
        whole=_sides(card["options"].get("volume_voxels")),
        windows=_sides(card["options"].get("crop_voxels")),
        imported=[
            {"name": _words(file["file"]), "sha256": file["sha256"]} for file in card.get("imported") or []
        ],
        atlas_source=_SOURCES.get(atlas_source, "made elsewhere"),
    )
    front = yaml.safe_dump(_front_matter(card), sort_keys=False, allow_unicode=True, width=1000)
    return f"---\n{front}---\n\n{text.strip()}\n"


def _front_matter(card: dict[str, Any]) -> dict[str, Any]:
    licence = card["licence"]
    if licence == NOT_STATED:
        stated = {"license": "unknown"}
    elif _IDENTIFIER.fullmatch(licence.lower()):
        stated = {"license": licence.lower()}
    else:
        stated = {"license": "other", "license_name": licence}
    return {**stated, "library_name": "ctssl", "pipeline_tag": "feature-extraction", "tags": TAGS}


def _card(card: dict[str, Any], sharing: Sharing) -> dict[str, Any]:
    """The card as it was, with its licences, the name of its cohort, and for what it is not."""
    named = {} if sharing.cohort_name is None else {"cohort_name": " ".join(sharing.cohort_name.split())}
    data = card.get("data_licence") if sharing.data_licence is None else sharing.data_licence
    return {
        **card,
        "licence": _one_line(sharing.licence or card.get("licence")),
        "data_licence": _one_line(data),
        **named,
        "use": "research; not for clinical use",
    }


def _write_atlas(source: Path, out: Path, known: Preparation | None, sharing: Sharing) -> str:
    """Where the atlas comes from; writes its card without names, its mask, and its CT where it is needed."""
    from ctssl.prepare.images import read_array

    atlas = atlases.read_atlas(source)
    kind = str(read_card(source / atlases.CARD).get("source"))
    about = {"source": kind if kind in _SOURCES else "elsewhere"}
    if not (source / atlases.MASK).exists():
        if known is not None:
            raise StoreError(
                f"the atlas in {source} has no {atlases.MASK}, which registration needs",
                "run the workflow, which makes it, or copy it again",
            )
        atlases.write_card(out, atlas, about)
        return kind
    lungs, grid = read_array(source / atlases.MASK)
    hu = None
    if known is not None and known.registering["registration"]["ct_weight"] > 0:
        if kind != "builtin" and not sharing.with_ct:
            raise ConfigError(
                "registration for this model uses the CT of its atlas, which is a person's",
                "--with-ct does so, where you may; or train with registration.ct_weight: 0",
            )
        hu = read_array(source / atlases.CT)[0]
    if kind in ("scan", "template"):
        tell(f"the atlas that goes with the model is {_SOURCES[kind]}")
    atlases.write_atlas(out, atlas, atlases.Anatomy(grid, lungs, hu), about)
    return kind


def _one_line(text: str | None) -> str:
    return " ".join((text or NOT_STATED).split())


def _words(value: Any) -> Any:
    """A value for the page: texts cannot be taken for Markdown."""
    return in_markdown_template(value) if isinstance(value, str) else value


def _sides(voxels: Any) -> str:
    """Of an option; empty when the method has it not."""
    if not voxels:
        return ""
    return " x ".join(str(int(side)) for side in (voxels if isinstance(voxels, list) else [voxels] * 3))


def _quartiles(values: list[float]) -> str:
    low, middle, high = values
    return f"{middle:g} ({low:g} to {high:g})"
