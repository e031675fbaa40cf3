"""Servers and folders that mean harm: a download is whole and checked, or an error."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import hub
import pytest
from comfyui_ipex.nodes.preprocess import download
from comfyui_ipex.nodes.preprocess.download import DownloadError, Source, fetch

DATA = bytes(range(256)) * 1024

DIGEST = hashlib.sha256(DATA).hexdigest()


def nothing(done: int, total: int | None) -> None:
    """No progress bar."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[hub.Hub]:
    """A server with one file."""
    with hub.serving(DATA) as running:
        monkeypatch.setattr(download, "PAUSES", ())
        monkeypatch.setattr(download, "CHUNK", 1 << 14)
        yield running


def source(server: hub.Hub) -> Source:
    """The file, of which everything is known."""
    return Source(f"{server.address}/owner/repo/resolve/main/net.pth", len(DATA), DIGEST)


def leftovers(folder: Path) -> list[str]:
    """What is in a folder but for locks."""
    return [path.name for path in folder.iterdir() if path.suffix != ".lock"]


@pytest.mark.parametrize("address", ["file:///etc/passwd", "ftp://127.0.0.1:9/x", "data:,x"])
def test_a_redirect_to_another_kind_of_address_is_refused(
    server: hub.Hub, tmp_path: Path, address: str
) -> None:
    server.sends_on_to = address
    with pytest.raises(DownloadError, match=r"address|not allowed"):
        fetch(source(server), tmp_path / "net.pth", nothing)
    assert leftovers(tmp_path) == []


def test_a_redirect_never_leads_from_https_to_http() -> None:
    download._check_scheme("https://hub.example/x", "http")
    download._check_scheme("http://hub.example/x", "http")
    for address in ("http://hub.example/x", "HTTP://hub.example/x", "ftp://hub.example/x"):
        with pytest.raises(DownloadError, match="not as safe as https"):
            download._check_scheme(address, "https")


@pytest.mark.parametrize("address", ["file:///etc/passwd", "data:,x", "ftp://127.0.0.1:9/x", "x"])
def test_an_endpoint_that_is_no_web_address_is_refused(tmp_path: Path, address: str) -> None:
    with pytest.raises(DownloadError, match="no web address"):
        fetch(Source(address), tmp_path / "net.pth", nothing)
    assert leftovers(tmp_path) == []


def test_more_bytes_than_the_file_has_are_not_stored(server: hub.Hub, tmp_path: Path) -> None:
    server.goes_on = 64 << 20
    with pytest.raises(DownloadError, match=f"sends more than the file's {len(DATA)} bytes"):
        fetch(source(server), tmp_path / "net.pth", nothing)
    assert leftovers(tmp_path) == []


def test_a_file_of_unknown_size_ends_somewhere(
    server: hub.Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "MOST_UNSTATED", 1 << 20)
    server.states, server.goes_on = False, 64 << 20
    unknown = replace(source(server), size=None, sha256=None)
    with pytest.raises(DownloadError, match="unstated"):
        fetch(unknown, tmp_path / "net.pth", nothing)
    assert leftovers(tmp_path) == []


def test_a_server_that_sends_a_little_at_a_time_can_be_left(
    server: hub.Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "CHUNK", 1 << 20)
    monkeypatch.setattr(download, "WAIT", 0.05)
    server.pause = 0.02

    class StoppedError(Exception):
        """The user has pressed the button."""

    def stop(done: int, total: int | None) -> None:
        if 0 < done < len(DATA):
            raise StoppedError

    with pytest.raises(StoppedError):
        fetch(source(server), tmp_path / "net.pth", stop)
    assert not (tmp_path / "net.pth").exists()


def test_bytes_with_another_digest_are_deleted(server: hub.Hub, tmp_path: Path) -> None:
    server.data, server.states = bytes(len(DATA)), False
    with pytest.raises(DownloadError, match="another file: its sha256"):
        fetch(source(server), tmp_path / "net.pth", nothing)
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("ending", ["part", "part.json", "lock"])
def test_links_beside_the_destination_are_not_written_through(
    server: hub.Hub, tmp_path: Path, ending: str
) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious", encoding="utf-8")
    folder = tmp_path / "annotators"
    folder.mkdir()
    (folder / f".net.pth.{ending}").symlink_to(victim)
    fetch(source(server), folder / "net.pth", nothing)
    assert (folder / "net.pth").read_bytes() == DATA
    assert victim.read_text(encoding="utf-8") == "precious"
