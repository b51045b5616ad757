"""A model in the hands of a user: weights, card, atlas; features of patches."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ctssl.cards import read_card
from ctssl.errors import StoreError, WeightsError
from ctssl.prepare import atlas as atlases
from ctssl.share.patches import check_coordinates, check_patches
from ctssl.train import weights
from ctssl.train.device import pick_device

if TYPE_CHECKING:
    import numpy as np
    import torch

_EDGE = 32  # of a patch, where the card says nothing: that of all published weights
_ABOVE = 6  # folders above the weights that may hold the atlas: results/runs/RUN/seed0/all/model.safetensors


@dataclass(frozen=True)
class SharedModel:
    """Weights in their network, with what is known of them.

    Attributes:
        path: of model.safetensors.
        card: what model.json says.
        embedder: the network, in evaluation mode.
        atlas_folder: where its atlas lies; None: it was not found.
        device: where the network computes.
    """

    path: Path
    card: dict[str, Any]
    embedder: Any
    atlas_folder: Path | None
    device: "torch.device"

    @property
    def atlas(self) -> atlases.Atlas:
        """The atlas.

        Raises:
            StoreError: it was not found.
        """
        return atlases.read_atlas(self.needed_atlas())

    @property
    def coordinates(self) -> "np.ndarray":
        """(N, 3) float32 places of the landmarks, x, y, z in [0, 1], as `embed_patches` takes them.

        Those that the network was trained with, where they are kept with its weights; else the atlas's.

        Raises:
            StoreError: the atlas was not found.
        """
        own = getattr(self.embedder, "coordinates", None)
        return self.atlas.coordinates().astype("float32") if own is None else own.cpu().numpy().copy()

    @property
    def boxes(self) -> bool:
        """Whether it embeds what is cut from the box of the lungs, and no patches around landmarks."""
        return hasattr(self.embedder, "cut")

    @property
    def patch_voxels(self) -> int:
        """Edge of the patches it was trained on."""
        return int(self.card.get("patch_voxels") or _EDGE)

    def needed_atlas(self) -> Path:
        """The atlas's folder.

        Raises:
            StoreError: it was not found; says where it can be had.
        """
        if self.atlas_folder is None and self.card.get("atlas") is None:
            raise StoreError(
                f"{self.path} has no atlas of its own, and a scan needs one to be prepared",
                f"name the folder of an atlas of {self.card.get('spacing_mm')} mm (--atlas; in Python "
                "load_model(..., atlas=FOLDER))",
            )
        if self.atlas_folder is None and "imported" in self.card:
            raise StoreError(
                f"{self.path} was imported, without its atlas {self.card['atlas']}",
                "make a study with config/copdgene-atlas.yaml, whose results folder has it, and name that "
                "folder's atlas (--atlas; in Python load_model(..., atlas=FOLDER))",
            )
        if self.atlas_folder is None:
            raise StoreError(
                f"the atlas {self.card.get('atlas')} of {self.path} is neither in a folder atlas/ beside it "
                "nor in the results folder above it",
                "export the model where it was trained (`ctssl export`): the folder holds its atlas; or name "
                "the atlas's folder (--atlas; in Python load_model(..., atlas=FOLDER))",
            )
        return self.atlas_folder

    def embed_patches(self, patches_hu: Any, coords: Any) -> Any:
        """(B, D) float32 features of patches, before any pooling: an array of an array, else a tensor.

        A tensor comes back on the device that `patches_hu` is on.

        Args:
            patches_hu: (B, E, E, E) HU, axes z, y, x along the atlas's axes and at its spacing (see `card`);
                E is `patch_voxels`.
            coords: (B, 3) x, y, z of the patches' places in the atlas, on the scale of `coordinates`. Every
                method takes them, also one whose features do not depend on the place.

        Raises:
            TypeError: no array or tensor of numbers.
            ValueError: another shape, NaN, infinity, or no HU.
            WeightsError: the method has no features of patches.
        """
        import torch

        if not hasattr(self.embedder, "embed_patches"):
            raise WeightsError(
                f"the method {self.card['method']} of {self.path} embeds whole scans, not patches",
                "use ctssl.embed with the scan, or a model of a patch method",
            )
        patches = check_patches(patches_hu, self.patch_voxels)
        places, count = check_coordinates(coords, len(patches)), len(patches)
        if not count:  # convolutions in groups cannot do without
            patches, places = patches.new_zeros(1, *patches.shape[1:]), places.new_zeros(1, 3)
        with in_float32(), torch.no_grad():
            found = self.embedder.embed_patches(patches.to(self.device), places.to(self.device))
        found = found[:count].float()
        return found.to(patches.device) if isinstance(patches_hu, torch.Tensor) else found.cpu().numpy()


def load_model(
    path: str | Path,
    *,
    atlas: str | Path | None = None,
    device: Literal["cpu", "cuda", "auto"] = "cpu",
) -> SharedModel:
    """The model in a .safetensors file with its card beside it, or in a folder that `ctssl export` made.

    Args:
        path: of the file, or the folder.
        atlas: its atlas's folder; None: `atlas/` beside the file or in a folder above it, where the id is
            the card's (of weights of no atlas: beside it, where the spacing is). Where there is none,
            patches can be embedded and scans cannot.
        device: cpu, cuda or auto.

    Raises:
        WeightsError: a file is missing or changed, does not fit this version, or is of another atlas.
        StoreError: the named folder holds no atlas.
    """
    path = Path(path)
    path = path / weights.TENSORS if path.is_dir() else path
    if not path.exists():
        raise WeightsError(
            f"{path} cannot be read: there is no such file",
            f"name a .safetensors file, or a folder that holds {weights.TENSORS}",
        )
    model = weights.load(path, None)
    if atlas is None:
        folder = find_atlas(path, model.card)
    else:
        folder = Path(atlas)
        weights.check_atlas(path, model.card, atlases.read_atlas(folder))
    where = pick_device(device)
    return SharedModel(path, model.card, model.embedder.to(where), folder, where)


def find_atlas(path: Path, card: dict[str, Any]) -> Path | None:
    """The folder `atlas` beside weights, or in a folder above them, that holds the atlas on their card.

    Weights of no atlas take one of their spacing right beside them, where `ctssl export` puts it.
    """
    key, above = ("id", _ABOVE) if card.get("atlas") is not None else ("spacing_mm", 1)
    wanted = card.get("atlas") or card.get("spacing_mm")
    for home in dict.fromkeys([*path.absolute().parents[:above], *path.resolve().parents[:above]]):
        try:
            if read_card(home / "atlas" / atlases.CARD).get(key) == wanted:
                return home / "atlas"
        except (OSError, ValueError):  # another folder of that name is none of ours
            continue
    return None


@contextmanager
def in_float32() -> Iterator[None]:
    """Nothing; meanwhile a GPU computes float32 in float32, not in TF32. The caller's choice comes back."""
    import torch

    kept = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = kept
