"""Documents: links lead somewhere, pictures are there and small, nothing is left out."""

import json
import re
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from comfyui_ipex import nodes
from conftest import REPOSITORY
from PIL import Image

PICTURES = REPOSITORY / "web" / "docs" / "pictures"

EXAMPLES = sorted((REPOSITORY / "example_workflows").glob("*.json"))

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")

MOST_BYTES_A_PICTURE = 40_000

MOST_BYTES = 3_000_000

MADE_BY = "./test --pictures makes it"

SECTIONS = (
    "Do I need this?",
    "What is supported",
    "Install",
    "Nodes",
    "What it changes in ComfyUI",
    "Troubleshooting",
    "Benchmarks",
    "Report a bug",
    "Licence",
)

COMPLAINTS = {
    "it does not start": "Torch not compiled with CUDA enabled",
    "out of memory": "UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY",
    "large allocations": "can NOT allocate memory block with size larger than 4GB",
    "a lost card": "UR_RESULT_ERROR_DEVICE_LOST",
    "black pictures": "invalid value encountered in cast",
    "nodes for CUDA": "Expected all tensors to be on the same device",
    "fp64": "Required aspect fp64 is not supported on the device",
    "slow integrated GPUs": "0.3.46 to 0.3.50",
    "fp8": "not implemented for 'Float8_e4m3fn'",
    "IPEX of another version": "Intel(R) Extension for PyTorch* needs to work with PyTorch",
    "another card": "--default-device",
    "operators that are missing": "is not currently implemented for the XPU device",
    "memory of the computer": "grows with each run",
    "slower with a new version": "slower with a new ComfyUI",
    "torch.compile": "Cannot find a working triton installation",
}
"""The commonest complaints of people with Intel GPUs, and what of each they read or see."""

OTHER_NODES = json.loads((REPOSITORY / "tests" / "other_nodes.json").read_text(encoding="utf-8"))
"""By pack and version, the ids of the nodes that docs/migration.md leads from."""

_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")

_CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)


def documents() -> list[Path]:
    """Every Markdown file of the repository."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"]
    listed = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return [REPOSITORY / name for name in listed.stdout.split() if (REPOSITORY / name).exists()]


def anchors(path: Path) -> set[str]:
    """The headings of a document as a forge links to them."""
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    titles = re.findall(r"^#+ +(.+?) *$", text, re.MULTILINE)
    plain = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).lower() for title in titles)
    return {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in plain}


def broken(path: Path, link: str) -> str:
    """What is wrong with a link, "" if nothing is. Other machines are not asked."""
    parts = urlsplit(link)
    if parts.scheme:
        well_formed = parts.scheme in ("http", "https") and "." in parts.netloc
        return "" if well_formed else "it is no address"
    target = (path.parent / parts.path).resolve() if parts.path else path
    if not target.exists():
        return "nothing is there"
    if not target.is_relative_to(REPOSITORY):
        return "it leaves the repository"
    if parts.fragment and parts.fragment not in anchors(target):
        return "no heading has this name"
    return ""


@pytest.mark.parametrize("path", documents(), ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_every_link_leads_somewhere(path: Path) -> None:
    text = _CODE.sub("", path.read_text(encoding="utf-8"))
    wrong = {link: broken(path, link) for link in _LINK.findall(text)}
    assert not {link: why for link, why in wrong.items() if why}


def test_links_that_lead_nowhere_are_found(tmp_path: Path) -> None:
    page = REPOSITORY / "docs" / "architecture.md"
    assert broken(page, "absent.md")
    assert broken(page, "../README.md#no-such-heading")
    assert broken(page, "https:/typo")
    assert not broken(page, "../README.md#install")


@pytest.mark.parametrize("name", nodes.NODE_CLASS_MAPPINGS)
def test_every_help_page_shows_a_small_picture(name: str) -> None:
    page = (REPOSITORY / "web" / "docs" / f"{name}.md").read_text(encoding="utf-8")
    assert f"](pictures/{name}.webp)" in page, f"web/docs/{name}.md shows no picture"
    picture = PICTURES / f"{name}.webp"
    assert picture.exists(), MADE_BY
    assert picture.stat().st_size < MOST_BYTES_A_PICTURE
    with Image.open(picture) as opened:
        assert opened.width > 100


def test_no_picture_is_left_over_and_all_are_small_together() -> None:
    assert {path.stem for path in PICTURES.iterdir()} == set(nodes.NODE_CLASS_MAPPINGS)
    assert sum(path.stat().st_size for path in PICTURES.iterdir()) < MOST_BYTES


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_has_a_preview_and_is_in_the_readme(path: Path) -> None:
    preview = path.with_suffix(".jpg")
    assert preview.exists(), MADE_BY
    with Image.open(preview) as opened:
        assert opened.format == "JPEG"
    assert f"example_workflows/{path.name}" in README


def test_the_readme_has_its_sections_in_their_order_and_every_node() -> None:
    found = [title for title in re.findall(r"^## (.+)$", README, re.MULTILINE) if title in SECTIONS]
    assert found == list(SECTIONS)
    for name in nodes.NODE_CLASS_MAPPINGS:
        assert f"(web/docs/{name}.md)" in README, f"README.md does not link the page of {name}"


def first_column(document: str) -> list[str]:
    """The first cell of each row of a document's tables."""
    text = (REPOSITORY / "docs" / document).read_text(encoding="utf-8")
    return [line.split(" | ")[0] for line in text.splitlines() if line.startswith("| ")]


@pytest.mark.parametrize("text", COMPLAINTS.values(), ids=COMPLAINTS)
def test_troubleshooting_answers_the_commonest_complaints(text: str) -> None:
    assert [cell for cell in first_column("troubleshooting.md") if text in cell]


@pytest.mark.parametrize("pack", OTHER_NODES)
def test_the_migration_tables_have_a_row_for_every_node(pack: str) -> None:
    """A row may name several by an ellipsis for a part of the name."""
    written = re.findall(r"`([^`]+)`", "\n".join(first_column("migration.md")))
    known = re.compile("|".join(re.escape(name).replace(r"\.\.\.", ".+") for name in written))
    assert not {name for name in OTHER_NODES[pack] if not known.fullmatch(name)}


def test_icon_and_banner_have_the_registrys_shapes_and_names() -> None:
    project = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    for name, size in (("icon", (400, 400)), ("banner", (1260, 540))):
        assert f"/docs/pictures/{name}.png" in project
        with Image.open(REPOSITORY / "docs" / "pictures" / f"{name}.png") as picture:
            assert picture.size == size
