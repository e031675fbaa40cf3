"""Weight files from a server that behaves and misbehaves like the Hugging Face Hub."""

import hashlib
import logging
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import hub
import pytest
from comfyui_ipex.nodes.preprocess import download, weights
from comfyui_ipex.nodes.preprocess.method import WeightFile
from comfyui_ipex.nodes.preprocess.weights import WeightFileError, WeightsMissingError, locate
from comfyui_ipex.xpu_runtime import host
from huggingface_hub import constants

DATA = bytes(range(256)) * 4096

FILE = WeightFile(
    "owner/Annotators",
    "sub/net.pth",
    "0123456789012345678901234567890123456789",
    len(DATA),
    hashlib.sha256(DATA).hexdigest(),
)

UNPINNED = replace(FILE, size=None, sha256=None)


class StoppedError(Exception):
    """Stands for the host's own exception."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[hub.Hub]:
    """The Hub, with a connection that is read in small pieces."""
    with hub.serving(DATA) as running:
        monkeypatch.setattr(constants, "ENDPOINT", running.address)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(download, "CHUNK", 1 << 16)
        monkeypatch.setattr(download, "PAUSES", (0.0, 0.0))
        yield running


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where annotators lie; no other place has any."""
    folders = {"annotators": [str(tmp_path / "annotators")], "controlnet": []}
    monkeypatch.setattr(host, "model_folders", lambda kind: folders[kind])
    monkeypatch.setattr(host, "pack_folders", lambda: [])
    monkeypatch.setattr(host, "check_interrupted", lambda: None)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.delenv("AUX_ANNOTATOR_CKPTS_PATH", raising=False)
    monkeypatch.delenv("COMFYUI_IPEX_DOWNLOAD", raising=False)
    return tmp_path / "annotators"


def nothing(done: int, total: int | None) -> None:
    """No progress bar."""


def fetched(file: WeightFile = FILE) -> Path:
    """The file, if it arrived whole."""
    path = locate(file, progress=nothing)
    assert path.read_bytes() == DATA
    return path


def leftovers(folder: Path) -> list[str]:
    """Files beside weights, but for the locks."""
    return [p.name for p in folder.rglob(".*") if p.is_file() and p.suffix != ".lock"]


def test_a_file_arrives_at_its_place_once_with_progress_and_without_leftovers(
    server: hub.Hub, folder: Path
) -> None:
    seen: list[tuple[int, int | None]] = []
    path = locate(FILE, progress=lambda done, total: seen.append((done, total)))
    assert path == folder / "owner" / "Annotators" / "sub" / "net.pth"
    assert path.read_bytes() == DATA
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert len({done for done, _ in seen}) > 10
    assert seen[-1] == (len(DATA), len(DATA))
    assert not leftovers(folder)
    (asked,) = server.asked
    assert asked[0] == f"/bytes/owner/Annotators/resolve/{FILE.revision}/sub/net.pth"
    fetched()
    assert len(server.asked) == 1, "what is there was fetched again"


def test_what_checked_the_file_stands_in_the_log(
    server: hub.Hub, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    fetched().unlink()
    assert "Checked: size and the sha256 pinned here" in caplog.text
    fetched(UNPINNED).unlink()
    assert "Checked: size and the sha256 that the server states" in caplog.text
    server.states = False
    fetched(UNPINNED)
    assert "Checked: nothing: the server states no size" in caplog.text


def test_a_connection_that_breaks_goes_on_where_it_broke(server: hub.Hub, folder: Path) -> None:
    server.breaks_after = [100_000, 50_000]
    fetched()
    assert server.sent == len(DATA)
    assert [headers.get("Range") for _, headers in server.asked] == [
        None,
        "bytes=100000-",
        "bytes=150000-",
    ]
    assert not leftovers(folder)


def test_a_server_without_parts_starts_over(server: hub.Hub) -> None:
    server.breaks_after = [100_000]
    server.ranges = False
    fetched()
    assert server.sent == 100_000 + len(DATA)


def test_a_file_that_stays_truncated_is_an_error_and_the_next_run_goes_on(
    server: hub.Hub, folder: Path
) -> None:
    server.breaks_after = [100_000, 0, 0, 0]
    with pytest.raises(WeightsMissingError, match="broke after 100000 of 1048576 bytes"):
        locate(FILE, progress=nothing)
    assert not [p for p in folder.rglob("*.pth") if not p.name.startswith(".")]
    fetched()
    assert server.sent == len(DATA)


def test_a_part_of_another_file_is_not_continued(server: hub.Hub) -> None:
    server.breaks_after = [100_000, 0, 0, 0]
    with pytest.raises(WeightsMissingError):
        locate(FILE, progress=nothing)
    server.etag = '"two"'
    fetched()
    assert server.sent == 100_000 + len(DATA)


def test_a_part_of_another_revision_is_not_continued(server: hub.Hub) -> None:
    server.breaks_after = [100_000, 0, 0, 0]
    with pytest.raises(WeightsMissingError):
        locate(replace(FILE, revision="main"), progress=nothing)
    fetched()
    assert "Range" not in server.asked[-1][1]


def test_an_interrupt_keeps_the_part(server: hub.Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop() -> None:
        if server.asked and len(server.asked) == 1:
            raise StoppedError

    monkeypatch.setattr(host, "check_interrupted", stop)
    with pytest.raises(StoppedError):
        locate(FILE, progress=nothing)
    monkeypatch.setattr(host, "check_interrupted", lambda: None)
    fetched()
    assert server.asked[-1][1]["Range"] == f"bytes={1 << 16}-"


@pytest.mark.parametrize("states", [True, False])
def test_other_bytes_than_pinned_are_refused_and_not_kept(
    server: hub.Hub, folder: Path, states: bool
) -> None:
    server.states = states
    with pytest.raises(WeightsMissingError, match="another file: its sha256 is"):
        locate(replace(FILE, sha256="0" * 64), progress=nothing)
    assert not [path for path in folder.rglob("*.pth*") if path.suffix != ".lock"]
    noticed = (
        "its size is .* Nothing was fetched" if states else "sends more than the file's 7 bytes"
    )
    with pytest.raises(WeightsMissingError, match=noticed):
        locate(replace(FILE, size=7), progress=nothing)
    assert not leftovers(folder)


@pytest.mark.parametrize(
    ("status", "words"),
    [(401, "token"), (403, "licence"), (404, "no such file"), (503, "503")],
)
def test_a_refusal_says_what_it_means(server: hub.Hub, status: int, words: str) -> None:
    server.refuses = [status] * 3
    with pytest.raises(WeightsMissingError, match=words):
        locate(FILE, progress=nothing)
    server.refuses = [503, 429]
    fetched()


def test_a_server_that_is_not_there_is_an_error_at_once(
    server: hub.Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(download, "PAUSES", (600.0,))
    with pytest.raises(WeightsMissingError, match="cannot be reached"):
        locate(FILE, progress=nothing)


def test_no_switch_that_forbids_it_is_passed_over(
    server: hub.Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(WeightsMissingError, match="`download` is off"):
        locate(FILE, download=False)
    monkeypatch.setenv("COMFYUI_IPEX_DOWNLOAD", "off")
    with pytest.raises(WeightsMissingError, match="COMFYUI_IPEX_DOWNLOAD is off"):
        locate(FILE)
    monkeypatch.delenv("COMFYUI_IPEX_DOWNLOAD")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsMissingError, match="HF_HUB_OFFLINE is set"):
        locate(FILE)
    assert not server.first_seen


def test_a_wrong_file_is_passed_over_with_a_warning_and_never_overwritten(
    server: hub.Hub, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = folder / "owner" / "Annotators" / "sub" / "net.pth"
    wrong.parent.mkdir(parents=True)
    wrong.write_bytes(b"short")
    with pytest.raises(WeightFileError, match=r"net\.pth cannot be used: .*delete or rename it"):
        locate(FILE)
    assert wrong.read_bytes() == b"short"
    assert "passed over: it has 5 bytes" in caplog.text
    wrong.rename(folder / "net.pth")
    fetched()


def test_links_are_not_written_through(server: hub.Hub, folder: Path, tmp_path: Path) -> None:
    place = folder / "owner" / "Annotators" / "sub"
    place.mkdir(parents=True)
    (place / ".net.pth.part").symlink_to(tmp_path / "elsewhere")
    fetched().unlink()
    (place / "net.pth").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(WeightFileError):
        locate(FILE, progress=nothing)
    assert not (tmp_path / "elsewhere").exists()


def test_a_full_disk_is_noticed_before_the_transfer(
    server: hub.Hub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = download.shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(WeightsMissingError, match=r"1 MB are needed\. Make room"):
        locate(FILE, progress=nothing)
    assert not leftovers(folder)


def test_two_at_once_fetch_it_once(server: hub.Hub) -> None:
    threads = [threading.Thread(target=fetched) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    fetched()
    assert len(server.asked) == 1


def test_the_token_goes_to_the_hub_alone(server: hub.Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    fetched()
    assert server.first_seen["Authorization"] == "Bearer secret"
    assert "Authorization" not in server.asked[0][1]


@pytest.mark.parametrize(
    ("repository", "name"),
    [
        ("owner/..", "net.pth"),
        ("../owner", "net.pth"),
        ("/etc/owner", "net.pth"),
        ("owner/repo", "../net.pth"),
        ("owner/repo", "/net.pth"),
        ("owner/repo", "a/../../net.pth"),
        ("owner/repo", "a\\net.pth"),
        ("owner/repo", "C:net.pth"),
        ("owner/repo", ""),
    ],
)
def test_names_that_lead_elsewhere_are_refused(repository: str, name: str) -> None:
    with pytest.raises(ValueError, match="no safe name"):
        locate(WeightFile(repository, name, "main"))


def test_the_nodes_own_progress_bar_shows_a_download(
    server: hub.Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[tuple[int, int]] = []

    class Bar:
        def update_absolute(self, done: int, total: int) -> None:
            shown.append((done, total))

    monkeypatch.setattr(host, "progress_bar", lambda total: Bar())
    weights.locate(FILE)
    assert shown[-1] == (len(DATA), len(DATA))
