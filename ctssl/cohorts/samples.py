"""Two real public chest CTs, from the source archive of pyradiomics on the Python package index.

The archive is only read, never built or installed. Its licence is BSD-3.
"""

import csv
import json
import os
import tarfile
from hashlib import sha256
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urljoin
from urllib.request import Request, urlopen

from ctssl.errors import CohortError
from ctssl.log import Progress, tell

INDEX = "https://pypi.org/simple"
ARCHIVE = "pyradiomics-3.0.1.tar.gz"
ARCHIVE_SHA256 = "47c57f441d6cb7973fa3b2ea48d3948df78e3348e1c69e1e2ff19001601fc2f5"
_MOST_BYTES = 64 << 20  # more than the archive and the index's list have
IMAGES = {
    "lung1": "379fa48bf34cfa961e6f5ec19c0c38757a30b9aa884212ef28dc29b5061c64ed",
    "lung2": "aa2b94eec79127ed786798ac8dc3c013010e1692d5787bebfae1a1e9685a4651",
}
"""Scan to the sha256 of its image. lung1's field of view ends mid-lung."""


def fetch_samples(folder: Path) -> None:
    """Nothing; writes the images and scans.csv. What is there and has the right checksum is kept.

    Raises:
        CohortError: the index cannot be reached, or a checksum is wrong.
    """
    images = {scan: folder / f"{scan}_image.nrrd" for scan in IMAGES}
    if not all(_has(path, IMAGES[scan]) for scan, path in images.items()):
        folder.mkdir(parents=True, exist_ok=True)
        archive = folder / ARCHIVE
        if not _has(archive, ARCHIVE_SHA256):
            _download(_address(), archive)
        _unpack(archive, images)
        archive.unlink()
    table = folder / "scans.csv"
    if not table.exists():
        with table.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["scan", "subject", "image"])
            writer.writerows([scan, scan, path.name] for scan, path in images.items())
    tell(f"samples: {', '.join(images)} are in {folder}")


def _address() -> str:
    """Where the index says the archive lies (the JSON form of its simple API)."""
    index = os.environ.get("PIP_INDEX_URL", INDEX).rstrip("/")
    request = Request(f"{index}/pyradiomics/", headers={"Accept": "application/vnd.pypi.simple.v1+json"})
    try:
        with urlopen(request, timeout=60) as answer:
            links = {file["filename"]: file["url"] for file in json.loads(answer.read(_MOST_BYTES))["files"]}
        address = urljoin(request.full_url, links.get(ARCHIVE, ""))  # mirrors may give a relative one
    except (*_NETWORK, LookupError, TypeError, RecursionError) as error:
        raise CohortError(f"the Python package index {index} gave no list: {error}", _OFFLINE) from error
    if ARCHIVE not in links:
        raise CohortError(f"the Python package index {index} does not list {ARCHIVE}", _OFFLINE)
    return address


_NETWORK = (URLError, TimeoutError, ConnectionError, ValueError)
_OFFLINE = (
    f"check the network, or put {ARCHIVE} into the folder yourself; on another machine with Python 3.11, "
    "`pip download pyradiomics==3.0.1 --no-deps --no-binary :all:` fetches it"
)


def _download(url: str, path: Path) -> None:
    part = path.with_suffix(".part")
    try:
        with urlopen(url, timeout=60) as answer, part.open("wb") as file:
            length = answer.headers.get("Content-Length") or ""
            with Progress("samples", int(length) >> 20 if length.isdecimal() else 0, "MB") as progress:
                while file.tell() < _MOST_BYTES and (block := answer.read(1 << 20)):
                    file.write(block)
                    progress.advance()
    except _NETWORK as error:
        raise CohortError(f"{ARCHIVE} could not be fetched: {error}", _OFFLINE) from error
    if not _has(part, ARCHIVE_SHA256):
        part.unlink()
        raise CohortError(f"{ARCHIVE} has another checksum than expected", "try again; if it stays, tell us")
    part.rename(path)


def _unpack(archive: Path, images: dict[str, Path]) -> None:
    with tarfile.open(archive) as file:
        for scan, path in images.items():
            member = file.extractfile(f"{ARCHIVE.removesuffix('.tar.gz')}/data/{scan}_image.nrrd")
            assert member is not None, "the archive's checksum is known, so its members are"
            path.write_bytes(member.read())
            assert _has(path, IMAGES[scan]), "the archive's checksum is known, so its members' are"


def _has(path: Path, checksum: str) -> bool:
    return path.exists() and sha256(path.read_bytes()).hexdigest() == checksum
