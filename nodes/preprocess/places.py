"""Where a weight file may already lie on this machine."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from ...xpu_runtime import host
from ...xpu_runtime.log import LOGGER
from .method import WeightFile

FOLDER = "annotators"

OTHER_PACK = "comfyui_controlnet_aux"
"""The best-known pack of preprocessors: its folder below custom_nodes, in lower case."""

OTHER_PACK_VARIABLE = "AUX_ANNOTATOR_CKPTS_PATH"

# Of A1111's ControlNet extension, from the folders that ComfyUI's example of an
# extra_model_paths.yaml names for its ControlNets.
_A1111 = {
    ("models", "controlnet"): "extensions/sd-webui-controlnet/annotator/downloads",
    ("sd-webui-controlnet", "models"): "sd-webui-controlnet/annotator/downloads",
}

_REPOSITORY = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*", re.ASCII)
_PART = re.compile(r"[\w-][\w .+-]*", re.ASCII)


def destination(file: WeightFile) -> Path:
    """Where a download puts it: in the first of the host's folders for annotators.

    Raises `ValueError` if the file's name or repository could lead out of that folder.
    """
    parts = file.name.split("/")
    if not _REPOSITORY.fullmatch(file.repository) or not all(map(_PART.fullmatch, parts)):
        raise ValueError(f"{file.repository}/{file.name} is no safe name of a file.")
    return Path(host.model_folders(FOLDER)[0], file.repository, *parts)


def places(file: WeightFile) -> list[Path]:
    """Every path at which the file may lie, the likeliest first, each once."""
    return list(dict.fromkeys([*_in_folders(file), *_in_hub_cache(file)]))


def _in_folders(file: WeightFile) -> Iterator[Path]:
    own = Path(file.repository, file.name)
    base = Path(file.name).name
    roots = [Path(root) for root in host.model_folders(FOLDER)]
    yield from (root / own for root in roots)
    for root in roots:
        yield root / base
        if file.a1111_folder:
            yield root / file.a1111_folder / base
    yield from (root / own for root in _other_pack())
    if file.a1111_folder:
        yield from (root / file.a1111_folder / base for root in _a1111())


def _other_pack() -> Iterator[Path]:
    """The other pack's folders of weights: they hold <owner>/<repository>/<file>."""
    for folder in map(Path, host.pack_folders()):
        if not folder.is_dir():
            continue
        for pack in sorted(folder.iterdir()):
            if pack.name.lower() == OTHER_PACK:
                yield pack / "ckpts"
                configured = _configured(pack / "config.yaml")
                if configured:
                    yield pack / configured
    named = os.environ.get(OTHER_PACK_VARIABLE, "").strip()
    if named:
        yield Path(named)


def _configured(path: Path) -> str:
    """The folder that the other pack's configuration names; "" if there is none."""
    import yaml

    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return ""
    except (OSError, ValueError, yaml.YAMLError) as error:
        LOGGER.warning("Weights: %s cannot be read (%s).", path, error)
        return ""
    value = found.get("annotator_ckpts_path") if isinstance(found, dict) else None
    return value if isinstance(value, str) else ""


def _a1111() -> Iterator[Path]:
    """A1111's folders of annotators, where the host knows its ControlNets."""
    for folder in map(Path, host.model_folders("controlnet")):
        ending = tuple(part.lower() for part in folder.parts[-2:])
        if ending in _A1111:
            yield folder.parent.parent / _A1111[ending]


def hub_cache() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def _in_hub_cache(file: WeightFile) -> Iterator[Path]:
    from huggingface_hub import try_to_load_from_cache

    cache = hub_cache()
    pinned = try_to_load_from_cache(
        file.repository, file.name, cache_dir=cache, revision=file.revision
    )
    if isinstance(pinned, str):
        yield Path(pinned)
    snapshots = cache / f"models--{file.repository.replace('/', '--')}" / "snapshots"
    if snapshots.is_dir():
        yield from (snapshot / file.name for snapshot in sorted(snapshots.iterdir()))
