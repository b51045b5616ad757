"""Fetching from a package index: a small one of our own, on this machine."""

import io
import json
import tarfile
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.error import HTTPError

import pytest

from ctssl.cohorts import samples
from ctssl.errors import CohortError
from ctssl.manifest import read_manifest

IMAGES = {"lung1": b"first image", "lung2": b"second image"}


def archive() -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as file:
        for scan, content in IMAGES.items():
            member = tarfile.TarInfo(f"pyradiomics-3.0.1/data/{scan}_image.nrrd")
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
    return packed.getvalue()


class Index:
    """What it serves, and what it was asked for."""

    def __init__(self) -> None:
        self.archive = archive()
        self.link = "{root}/files/pyradiomics-3.0.1.tar.gz"
        self.listing: bytes | None = b"{files}"
        self.asked: list[str] = []
        index = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                index.asked.append(self.path)
                files = {"files": [{"filename": "pyradiomics-3.0.1.tar.gz", "url": index.address()}]}
                listing = json.dumps(files).encode() if index.listing == b"{files}" else index.listing
                answers = {
                    "/simple/pyradiomics/": listing,
                    "/files/pyradiomics-3.0.1.tar.gz": index.archive,
                }
                answer = answers.get(self.path)
                self.send_response(200 if answer is not None else 404)
                self.end_headers()
                self.wfile.write(answer or b"")

            def log_message(self, *_) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.root = f"http://127.0.0.1:{self.server.server_port}"
        Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def address(self) -> str:
        return self.link.format(root=self.root)


@pytest.fixture
def index(monkeypatch):
    here = Index()
    monkeypatch.delenv("PIP_INDEX_URL", raising=False)
    monkeypatch.setattr(samples, "INDEX", f"{here.root}/simple")
    monkeypatch.setattr(samples, "ARCHIVE_SHA256", sha256(here.archive).hexdigest())
    monkeypatch.setattr(samples, "IMAGES", {n: sha256(c).hexdigest() for n, c in IMAGES.items()})
    yield here
    here.server.shutdown()
    here.server.server_close()


def test_images_and_manifest_are_written_and_the_second_call_asks_for_nothing(index, tmp_path):
    folder = tmp_path / "real"
    samples.fetch_samples(folder)
    manifest = read_manifest(folder / "scans.csv")
    assert {row.scan: row.image.read_bytes() for row in manifest.rows} == IMAGES
    assert not (folder / samples.ARCHIVE).exists()
    assert index.asked == ["/simple/pyradiomics/", "/files/pyradiomics-3.0.1.tar.gz"]
    samples.fetch_samples(folder)
    assert len(index.asked) == 2


def test_a_damaged_image_is_fetched_again(index, tmp_path):
    samples.fetch_samples(tmp_path)
    (tmp_path / "lung1_image.nrrd").write_bytes(b"damaged")
    samples.fetch_samples(tmp_path)
    assert (tmp_path / "lung1_image.nrrd").read_bytes() == IMAGES["lung1"]


def test_an_archive_that_a_person_put_there_is_used(index, tmp_path):
    (tmp_path / samples.ARCHIVE).write_bytes(index.archive)
    samples.fetch_samples(tmp_path)
    assert (tmp_path / "lung2_image.nrrd").read_bytes() == IMAGES["lung2"]
    assert index.asked == []


def test_a_table_that_the_user_edited_is_kept(index, tmp_path):
    samples.fetch_samples(tmp_path)
    text = "scan,subject,image,age\nlung1,one,lung1_image.nrrd,60\n"
    (tmp_path / "scans.csv").write_text(text)
    samples.fetch_samples(tmp_path)
    assert (tmp_path / "scans.csv").read_text() == text


def test_the_environment_names_another_index_whose_links_are_relative(index, tmp_path, monkeypatch):
    monkeypatch.setattr(samples, "INDEX", "http://127.0.0.1:1/nowhere")
    monkeypatch.setenv("PIP_INDEX_URL", f"{index.root}/simple/")
    index.link = "../../files/pyradiomics-3.0.1.tar.gz"
    samples.fetch_samples(tmp_path)
    assert (tmp_path / "lung1_image.nrrd").read_bytes() == IMAGES["lung1"]


def test_a_wrong_checksum_is_an_error_and_leaves_nothing(index, tmp_path):
    index.archive += b"x"
    with pytest.raises(CohortError, match="another checksum") as fault:
        samples.fetch_samples(tmp_path)
    assert fault.value.advice
    assert list(tmp_path.iterdir()) == []


def test_an_archive_that_is_gone_is_an_error(index, tmp_path):
    index.link = "{root}/files/gone.tar.gz"
    with pytest.raises(CohortError, match=r"could not be fetched.*404") as fault:
        samples.fetch_samples(tmp_path)
    close(fault.value.__cause__)


def close(error) -> None:
    """A refusal by http is an open answer too."""
    if isinstance(error, HTTPError):
        error.close()


@pytest.mark.parametrize("listing", [None, b"<html>", b"[]", b'{"files": null}'])
def test_an_index_without_a_listing_is_an_error(index, tmp_path, listing):
    index.listing = listing
    with pytest.raises(CohortError, match="gave no list") as fault:
        samples.fetch_samples(tmp_path)
    assert samples.ARCHIVE in fault.value.advice
    close(fault.value.__cause__)


def test_an_index_that_does_not_list_the_archive_is_an_error(index, tmp_path, monkeypatch):
    monkeypatch.setattr(samples, "ARCHIVE", "pyradiomics-9.tar.gz")
    with pytest.raises(CohortError, match=r"does not list pyradiomics-9\.tar\.gz"):
        samples.fetch_samples(tmp_path)


def test_an_unreachable_index_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:1/simple")
    with pytest.raises(CohortError, match="gave no list") as fault:
        samples.fetch_samples(tmp_path)
    assert fault.value.advice
