"""NIfTI, NRRD and MetaImage files with a person in their headers: sound, and broken."""

import gzip
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
from nibabel.nifti1 import Nifti1Extension
from privacy.planted import BORN, COMMENT, GIVEN, NAME, NUMBER, PLACE, SECRET

from ctssl.prepare.geometry import Place

_WHO = f"{NAME}^{GIVEN} {BORN} {NUMBER}"
_SHORT = {"descrip": 80, "aux_file": 24, "intent_name": 16, "db_name": 18, "data_type": 10}


def nifti(path: Path, hu: np.ndarray, place: Place, **fields) -> None:
    """All fields of text, two extensions, and the name that gzip keeps."""
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = place.steps_mm, place.origin_mm
    image = nibabel.Nifti1Image(hu.transpose(2, 1, 0), np.diag([-1, -1, 1, 1]) @ affine)
    header = image.header
    for name, room in _SHORT.items():
        header[name] = (_WHO if name == "descrip" else NUMBER)[:room].encode()
    header.extensions.append(Nifti1Extension("comment", f"{COMMENT} {_WHO}".encode()))
    header.extensions.append(Nifti1Extension("afni", f"<PatientName>{_WHO} {PLACE}</PatientName>".encode()))
    plain = bytearray(image.to_bytes())
    for name, value in fields.items():
        dtype, offset = nibabel.Nifti1Header.template_dtype.fields[name][:2]
        data = np.array(value, dtype).tobytes()
        plain[offset : offset + len(data)] = data
    if path.name.endswith(".gz"):
        with path.open("wb") as file, gzip.GzipFile(f"{NAME}.nii", "wb", fileobj=file) as packed:
            packed.write(plain)
    else:
        path.write_bytes(plain)


def nrrd(path: Path, hu: np.ndarray, place: Place, *, more: str = "", **fields) -> None:
    """Comments, keys and values, content."""
    steps = " ".join("({:.6f},{:.6f},{:.6f})".format(*step) for step in place.steps_mm.T)
    lines = {
        "type": "short",
        "dimension": 3,
        "space": "left-posterior-superior",
        "sizes": "{} {} {}".format(*hu.shape[::-1]),
        "space directions": steps,
        "endian": "little",
        "encoding": "raw",
        "space origin": "({:.6f},{:.6f},{:.6f})".format(*place.origin_mm),
        "content": _WHO,
    } | {name.replace("_", " "): value for name, value in fields.items()}
    text = f"NRRD0004\n# {COMMENT} {_WHO}\n" + "".join(f"{k}: {v}\n" for k, v in lines.items()) + more
    text += f"DICOM_0010_0010_PatientName:={_WHO}\nnote:={SECRET} {PLACE}\n\n"
    path.write_bytes(text.encode() + hu.astype("<i2").tobytes())


def meta(path: Path, hu: np.ndarray, place: Place, *, more: str = "", **fields) -> None:
    """Comment, Name, ID and fields that MetaImage does not know."""
    lines = {
        "ObjectType": "Image",
        "NDims": 3,
        "Comment": f"{COMMENT} {_WHO}",
        "Name": _WHO,
        "AcquisitionDate": BORN,
        "PatientName": _WHO,
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": "False",
        "TransformMatrix": "1 0 0 0 1 0 0 0 1",
        "Offset": "{:.6f} {:.6f} {:.6f}".format(*place.origin_mm),
        "ElementSpacing": "{:.6f} {:.6f} {:.6f}".format(*place.spacing_mm),
        "DimSize": "{} {} {}".format(*hu.shape[::-1]),
        "ElementType": "MET_SHORT",
    } | fields
    end = lines.pop("ElementDataFile", "LOCAL")
    text = "".join(f"{k} = {v}\n" for k, v in lines.items()) + more + f"ElementDataFile = {end}\n"
    path.write_bytes(text.encode() + hu.astype("<i2").tobytes())


def half(write: Callable[..., None]) -> Callable[..., None]:
    """The file ends in its middle."""

    def cut(path: Path, hu: np.ndarray, place: Place) -> None:
        write(path, hu, place)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    return cut


def altered(write: Callable[..., None], **fields) -> Callable[..., None]:
    return lambda path, hu, place: write(path, hu, place, **fields)


SOUND: dict[str, Callable[..., None]] = {
    "a.nii": nifti,
    "b.nii.gz": nifti,
    "c.nrrd": nrrd,
    "d.mha": meta,
    "bits.nii": altered(nifti, bitpix=7),
    "field.nrrd": altered(nrrd, more=f"{NAME}: {NUMBER}\n"),
    "line.nrrd": altered(nrrd, more=f"{_WHO}\n"),
    "line.mha": altered(meta, more=f"{_WHO}\n"),
    "object.mha": altered(meta, ObjectType=NAME),
}
BROKEN: dict[str, Callable[..., None]] = {
    "half.nii": half(nifti),
    "half.nii.gz": half(nifti),
    "half.nrrd": half(nrrd),
    "half.mha": half(meta),
    "type.nii": altered(nifti, datatype=9999),
    "magic.nii": altered(nifti, magic=NAME[:3].encode()),
    "dim.nii": altered(nifti, dim=[-3, 7, 7, -7, 1, 1, 1, 1]),
    "offset.nii": altered(nifti, vox_offset=1e9),
    "turned.nii": altered(nifti, quatern_b=9.0, sform_code=0, qform_code=1),
    "sizes.nrrd": altered(nrrd, sizes=f"{NAME} {GIVEN} 5"),
    "type.nrrd": altered(nrrd, type=NAME),
    "space.nrrd": altered(nrrd, space=NAME),
    "steps.nrrd": altered(nrrd, space_directions=f"({NAME},0,0) (0,1,0) (0,0,1)"),
    "encoding.nrrd": altered(nrrd, encoding=NAME),
    "file.nrrd": altered(nrrd, data_file=f"{NAME}.raw"),
    "file.mha": altered(meta, ElementDataFile=f"{NAME}.raw"),
    "size.mha": altered(meta, DimSize=f"{NAME} {GIVEN} {NUMBER}"),
    "type.mha": altered(meta, ElementType=NAME),
    "dims.mha": altered(meta, NDims=NAME),
    "long.mha": altered(meta, Comment=f"{NAME} " * 60_000),
}
"""File name -> who writes it, from HU (z, y, x) and a place."""
