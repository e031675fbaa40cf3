"""The files of a network: found on this machine, or downloaded where that is allowed."""

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from ...inference.weight_files import WeightFileError, load_state_dict, load_torchscript
from ...xpu_runtime import host, settings
from ...xpu_runtime.log import LOGGER
from . import places
from .download import DownloadError, Source, Tick, fetch
from .method import WeightFile

__all__ = [
    "WeightFileError",
    "WeightsMissingError",
    "load_state_dict",
    "load_torchscript",
    "locate",
]

SWITCH = "COMFYUI_IPEX_DOWNLOAD"

_OFF = ("off", "0", "false", "no")


class WeightsMissingError(FileNotFoundError):
    """A weight file is nowhere on this machine, and was not downloaded."""


def locate(file: WeightFile, *, download: bool = True, progress: Tick | None = None) -> Path:
    """The path of `file`: the first place where it lies, else where it was downloaded to.

    A file of another size may be the same weights, saved again: it serves where nothing may be
    downloaded, and its loader says whether they are.

    `download` is the user's choice on the node. `progress(done, total)` is told about a
    download in bytes (total: None where nobody knows it); without it, the node's own progress
    bar shows it. Raises `WeightsMissingError` with every path that was tried,
    `WeightFileError` where another file is in the way, `ValueError` for an unsafe name, and
    the host's own exception when the user stops the workflow.
    """
    destination = places.destination(file)
    tried = places.places(file)
    there = [path for path in tried if path.is_file()]
    fitting = [path for path in there if file.size in (None, path.stat().st_size)]
    forbidden = _forbidden(download)
    chosen = next(iter(fitting or (there if forbidden else ())), None)
    for path in there[: there.index(chosen) + 1] if chosen else there:
        if path not in fitting:
            _warn_of_size(
                path, file, "is read all the same" if path == chosen else "is passed over"
            )
    if chosen is not None:
        return chosen
    if forbidden:
        raise WeightsMissingError(_missing(file, tried, f"Nothing was downloaded: {forbidden}."))
    if destination.exists() or destination.is_symlink():
        raise WeightFileError(
            destination,
            f"it is not {file.name} of {file.repository}, which has {_size(file)}. It was left as "
            "it is: delete or rename it, and run again",
        )
    try:
        _download(file, destination, progress)
    except DownloadError as error:
        reason = f"The download failed: {error}"
        raise WeightsMissingError(_missing(file, tried, reason)) from error
    return destination


def url_of(file: WeightFile) -> str:
    """Where it can be downloaded; HF_ENDPOINT is respected."""
    from huggingface_hub import constants

    revision, name = quote(file.revision, safe=""), quote(file.name)
    return f"{constants.ENDPOINT}/{file.repository}/resolve/{revision}/{name}"


def _warn_of_size(path: Path, file: WeightFile, what: str) -> None:
    LOGGER.warning(
        "Weights: %s %s: it has %d bytes, and %s of %s has %d.",
        path,
        what,
        path.stat().st_size,
        file.name,
        file.repository,
        file.size,
    )


def _forbidden(wanted: bool) -> str:
    """Why nothing may be downloaded; "" if it may."""
    from huggingface_hub import constants

    if not wanted:
        return "the node's `download` is off"
    if settings.read(SWITCH).lower() in _OFF:
        return f"{SWITCH} is off"
    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    return ""


def _download(file: WeightFile, destination: Path, progress: Tick | None) -> None:
    from huggingface_hub import get_token

    token = get_token()
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    source = Source(url_of(file), file.size, file.sha256, headers)
    LOGGER.info("Weights: downloading %s (%s) to %s", source.url, _size(file), destination)
    show = _on_the_node() if progress is None else progress

    def tick(done: int, total: int | None) -> None:
        host.check_interrupted()
        show(done, total)

    checked = fetch(source, destination, tick)
    LOGGER.info("Weights: %s is there. Checked: %s.", destination, checked)


def _on_the_node() -> Tick:
    """The progress bar of the node that runs."""
    bar = host.progress_bar(1)

    def show(done: int, total: int | None) -> None:
        if total:
            bar.update_absolute(done, total)

    return show


def _size(file: WeightFile) -> str:
    return "an unknown size" if file.size is None else f"{file.size} bytes"


def _missing(file: WeightFile, tried: Sequence[Path], reason: str) -> str:
    lines = [
        f"{file.name} of {file.repository} ({_size(file)}) is not on this machine. {reason}",
        f"Get it from {url_of(file)}",
        f"and put it at {places.destination(file)}.",
        "It was looked for in these places:",
        *(f"  {path}" for path in tried),
        f"  {places.hub_cache()} (Hugging Face)",
    ]
    return "\n".join(lines)
