"""Files of the Hugging Face Hub, whole and checked or not at all.

huggingface_hub finds files in its cache, knows the addresses and the user's token. It does not
do the transfer: the versions that hosts have of it differ in whether progress can be seen, its
Xet transfers cannot be interrupted, none compares what arrived with a digest, and a file that
is there already is overwritten.
"""

import hashlib
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .partial_download import WAIT, PartialDownload, exclusive

CHUNK = 1 << 20

SECONDS = 30.0
"""The longest that a server may be silent."""

MOST_UNSTATED = 8 << 30
"""Bytes of a file whose size neither we nor the server state."""

PAUSES = (1.0, 4.0)
"""Seconds before another try, after a connection that broke or a server that was busy."""

Tick = Callable[[int, int | None], None]
"""(bytes so far, bytes in all if known). What it raises ends the download; the part is kept."""


class DownloadError(RuntimeError):
    """Why a file could not be had."""


class _BrokenError(Exception):
    """A transfer that may go on in another try."""


@dataclass(frozen=True)
class Source:
    """Where a file comes from, and what is known about it."""

    url: str
    size: int | None = None
    sha256: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    """For the first server alone, not for those that it names: they may hold a token."""


@dataclass(frozen=True)
class Stated:
    """What the server says about the file. The Hub's own names differ from HTTP's."""

    size: int | None
    sha256: str | None
    etag: str | None
    """Strong ones only: others do not tell whether bytes are the same."""


def fetch(source: Source, destination: Path, tick: Tick) -> str:
    """Write the file to `destination`, and return how it was checked, in words.

    Two processes may ask for the same file at once: one of them fetches it. A part that an
    interrupted download left is continued if the server still has the same file. Raises
    `DownloadError`, and whatever `tick` raises.
    """
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        with exclusive(destination, lambda: tick(0, source.size)):
            if destination.is_file():
                return "by another process"
            return _fetch(source, destination, tick)
    except OSError as error:
        raise DownloadError(
            f"{destination} cannot be written: {error.strerror or error}."
        ) from error


def _fetch(source: Source, destination: Path, tick: Tick) -> str:
    part = PartialDownload(destination, source.url)
    stated = _received(source, part, tick)
    size, sha256 = source.size or stated.size, source.sha256 or stated.sha256
    if size is not None and part.length != size:
        arrived = part.length
        part.drop()
        raise DownloadError(f"{arrived} bytes arrived instead of {size}; they were deleted.")
    if sha256 is not None:
        digest = _sha256_of(part.path, tick)
        if digest != sha256:
            part.drop()
            raise DownloadError(
                f"what arrived is another file: its sha256 is {digest}, not {sha256}. It was "
                "deleted."
            )
    part.finish()
    whose = "pinned here" if source.sha256 else "that the server states"
    if sha256 is not None:
        return f"size and the sha256 {whose}"
    return "nothing but the size" if size is not None else "nothing: the server states no size"


def _received(source: Source, part: PartialDownload, tick: Tick) -> Stated:
    """Everything is in the part now, as far as the server says."""
    tries = 0
    while True:
        before = part.length
        try:
            return _receive(source, part, tick)
        except _BrokenError as error:
            busy = isinstance(error.__cause__, urllib.error.HTTPError)
            if tries == len(PAUSES) or (part.length == before == 0 and not busy):
                raise DownloadError(str(error)) from error
            tries = 0 if part.length > before else tries + 1
        _sleep(PAUSES[max(0, tries - 1)], lambda: tick(part.length, source.size))


def _receive(source: Source, part: PartialDownload, tick: Tick) -> Stated:
    if urlsplit(source.url).scheme not in ("http", "https"):
        raise DownloadError(f"{source.url} is no web address. HF_ENDPOINT must start with https.")
    linked = _Redirects()
    with _answer(source, part, linked) as response:
        stated = _stated(linked.headers, response)
        start = _start_of(response)
        if start != part.length:
            part.drop()
            if start:
                raise _BrokenError("the server sent another part of the file than was asked for")
        _agree(source, stated)
        size = source.size or stated.size
        _need_space(part.path.parent, None if size is None else size - part.length)
        part.note(stated.etag)
        with part.open() as file:
            while data := _read(response):
                file.write(data)
                _check_length(part, size)
                tick(part.length, size)
    if size is not None and part.length < size:
        raise _BrokenError(f"the connection broke after {part.length} of {size} bytes")
    return stated


def _check_length(part: PartialDownload, size: int | None) -> None:
    """Raise `DownloadError` when more arrives than was stated, or more than any file has."""
    if part.length > (MOST_UNSTATED if size is None else size):
        part.drop()
        than = f"the file's {size} bytes" if size else f"{MOST_UNSTATED >> 30} GiB, unstated"
        raise DownloadError(f"the server sends more than {than}. What arrived was deleted.")


def _answer(source: Source, part: PartialDownload, linked: "_Redirects") -> HTTPResponse:
    request = urllib.request.Request(source.url, headers={"Accept-Encoding": "identity"})
    for name, value in source.headers.items():
        request.add_unredirected_header(name, value)
    etag = part.etag()
    if etag is None:
        part.drop()
    else:
        request.add_header("Range", f"bytes={part.length}-")
        request.add_header("If-Range", etag)
    try:
        response = urllib.request.build_opener(linked).open(request, timeout=SECONDS)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # the part is as long as the file, or longer
            part.drop()
        if error.code in (416, 429) or error.code >= 500:
            raise _BrokenError(_refusal(error)) from error
        raise DownloadError(_refusal(error)) from error
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise _BrokenError(f"{source.url} cannot be reached: {reason}") from error
    assert isinstance(response, HTTPResponse)
    return response


def _refusal(error: urllib.error.HTTPError) -> str:
    meaning = {
        401: ": the repository does not exist, or asks for a token (huggingface-cli login)",
        403: ": the repository asks you to accept its licence on its page, or a proxy refuses",
        404: ": this revision of the repository has no such file",
        429: ": too many requests",
    }.get(error.code, "")
    return f"the server refused with {error.code} {error.reason}{meaning}"


def _check_scheme(url: str, before: str) -> None:
    """Raise `DownloadError` unless `url` is https, or http where that was asked for already."""
    scheme = urlsplit(url).scheme
    if scheme != "https" and not scheme == before == "http":
        raise DownloadError(
            f"the server sends on to a {scheme or 'nameless'} address, which is not as safe as "
            f"{before}. Nothing was fetched."
        )


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, and keeps what the Hub says in its own one about the file."""

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}

    def redirect_request(
        self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: Any
    ) -> Any:
        """The request that follows. Raises `DownloadError` where it would be less safe."""
        _check_scheme(newurl, urlsplit(req.full_url).scheme)
        self.headers |= _linked(headers)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _linked(headers: Any) -> dict[str, str]:
    lower = {name.lower(): value for name, value in headers.items()}
    return {name: value for name, value in lower.items() if name.startswith("x-linked-")}


def _stated(linked: Mapping[str, str], response: HTTPResponse) -> Stated:
    found = {**linked, **_linked(response.headers)}
    etag = response.headers.get("ETag")
    digest = found.get("x-linked-etag", "").strip('"').lower()
    size = found.get("x-linked-size")
    length = response.headers.get("Content-Length")
    if size is None and length is not None:
        size = str(_start_of(response) + int(length))
    return Stated(
        size=int(size) if size is not None and size.isdecimal() else None,
        # Files that are not in large-file storage have a shorter digest, of git's own kind.
        sha256=digest if len(digest) == 64 else None,
        etag=etag if etag is not None and etag.startswith('"') else None,
    )


def _start_of(response: HTTPResponse) -> int:
    """The place in the file of the first byte that comes."""
    if response.status != 206:
        return 0
    unit, _, rest = response.headers.get("Content-Range", "").partition(" ")
    first = rest.partition("-")[0]
    return int(first) if unit == "bytes" and first.isdecimal() else 0


def _agree(source: Source, stated: Stated) -> None:
    """Raise before the transfer if the server has another file."""
    for name in ("size", "sha256"):
        pinned, says = getattr(source, name), getattr(stated, name)
        if pinned is not None and says is not None and pinned != says:
            raise DownloadError(
                f"the server has another file: its {name} is {says}, not {pinned}. Nothing was "
                "fetched."
            )


def _need_space(folder: Path, need: int | None) -> None:
    free = shutil.disk_usage(folder).free
    if need is not None and need > free:
        raise DownloadError(
            f"{folder} has {free / 1e6:.0f} MB free, and {need / 1e6:.0f} MB are needed. Make "
            "room, or name another folder for `annotators` in extra_model_paths.yaml."
        )


def _read(response: HTTPResponse) -> bytes:
    """`CHUNK` bytes, or fewer after `WAIT` seconds: users can interrupt what comes slowly, too."""
    found = bytearray()
    end = time.monotonic() + WAIT
    try:
        while len(found) < CHUNK and (data := response.read1(CHUNK - len(found))):
            found += data
            if time.monotonic() > end:
                break
    except (OSError, HTTPException) as error:
        raise _BrokenError(f"the connection broke: {error}") from error
    return bytes(found)


def _sha256_of(path: Path, tick: Tick) -> str:
    digest, size = hashlib.sha256(), path.stat().st_size
    with path.open("rb") as file:
        while data := file.read(CHUNK):
            digest.update(data)
            tick(size, size)
    return digest.hexdigest()


def _sleep(seconds: float, check: Callable[[], None]) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        check()
        time.sleep(min(left, WAIT))
