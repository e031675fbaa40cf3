"""Makes every picture that README.md, help pages and examples show: `./test --pictures`.

Results are those of real runs of the nodes on a photo that scikit-image ships. A node whose weights
are in no package that we may use is shown as it looks in the page, never with made-up weights. The
devices in the screenshots are emulated.
"""

import io
import json
import sys
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TESTS))

import conftest  # noqa: E402, F401 (it makes comfyui_ipex importable)
import edge_networks  # noqa: E402
import graphs  # noqa: E402
import hosts  # noqa: E402
import models  # noqa: E402
import pages  # noqa: E402
import picture_parts as parts  # noqa: E402
import servers  # noqa: E402
from comfyui_ipex.launcher import demo_assets  # noqa: E402
from comfyui_ipex.launcher.folders import REPOSITORY  # noqa: E402
from comfyui_ipex.nodes import NODE_CLASS_MAPPINGS  # noqa: E402
from comfyui_ipex.nodes.preprocess.catalogue import METHODS  # noqa: E402
from comfyui_ipex.nodes.preprocess.networks import hed  # noqa: E402
from PIL import Image  # noqa: E402
from playwright.sync_api import Browser, sync_playwright  # noqa: E402

NODE_PICTURES = REPOSITORY / "web" / "docs" / "pictures"

README_PICTURES = REPOSITORY / "docs" / "pictures"

EXAMPLES = REPOSITORY / "example_workflows"

NEWEST = hosts.VERSIONS[-1]

PREVIEW_WIDTH = 900

BESIDE_THE_PANEL = 470
"""Pixels from the left, so that the side bar's panel hides no node."""

PANEL_EDGE = 70
"""Pixels by which the side bar's panel is made wider, for the names in it."""

HELP_EDGE = -330
"""The same for the panel with the help page, on the right."""

BESIDE_THE_TOOLS, BELOW_THE_TOOLS = 200, 80
"""What leaves the selected node's tools, with the button for its help page, in sight."""

LEAST_WIDTH = 330
"""Of a node that is shown alone, in the graph's units."""

REPORT_SIZE = (640, 300)
"""Of XPU Report's node with its text."""

GRAPH_ALONE = ".z-999 { visibility: hidden !important; }"
"""Bars, and what the page says of a run, cover the graph's corners."""

NOTICE_SECONDS = 8.0
"""How long the page speaks of a run that has ended."""

REAL = "DAT_light_x2.pth"

REAL_FOR = "RealESRGAN_x4plus.pth"

KINDS = frozenset(["nodes", "examples", "readme", "help"])

RUN_ALONE = {"preprocess_edges", "preprocess_video", "upscale"}
"""Examples that need no other weights than those at hand; the others are shown as they load."""

LISTED = (
    "checkpoints/v1-5-pruned-emaonly.safetensors",
    "controlnet/control_v11f1p_sd15_depth.pth",
    "upscale_models/big-lama.pt",
)
"""Empty files, so that the page offers what a user would have. They are never read."""


def weights(folder: Path) -> Path:
    """A folder of models with the real weights that packages bring."""
    for name in models.FOLDERS:
        (folder / name).mkdir(parents=True)
    for name in LISTED:
        (folder / name).touch()
    demo_assets.main(folder / "photo.png", folder / "upscale_models")
    place = folder / "annotators" / "lllyasviel" / "Annotators"
    place.mkdir(parents=True)
    edge_networks.real_hed(place)
    return folder


@contextmanager
def server(folder: Path) -> Iterator[servers.ComfyServer]:
    """The newest host on two emulated cards, with the pictures that it is to read."""
    configuration = servers.on_device(NEWEST, "xpu")
    running = servers.ComfyServer(configuration, folder / "base", "", weights(folder / "models"))
    try:
        running.client.upload_image("example.png", parts.as_png(parts.photo(256)))
        running.client.upload_image("small.png", parts.as_png(parts.photo(96)))
        running.client.upload_image("hole.png", parts.as_png(parts.with_hole(parts.photo(256))))
        running.client.upload_image("example.mp4", parts.video())
        yield running
    finally:
        running.close()


def runnable() -> dict[str, dict[str, Any]]:
    """Nodes with the settings of their run: all that need no weights, or real ones at hand."""
    found: dict[str, dict[str, Any]] = {}
    for name, method in METHODS.items():
        if not method.networks or method in hed.METHODS:
            size = {} if method.keeps_size else {"resolution": 256}
            mask = {"mask": ["photo", 1], "black_pixel_for_xinsir_cn": True}
            found[f"Ipex{name}Preprocessor"] = size | (mask if method.takes_mask else {})
    found["IpexAIOPreprocessor"] = {"preprocessor": "HED", "resolution": 256}
    found["IpexApplyPreprocessor"] = {"preprocessor": ["loader", 0], "resolution": 256}
    found["IpexUpscaleImage"] = {"upscale_model": ["model", 0]}
    return found


def result_of(running: servers.ComfyServer, node: str, inputs: dict[str, Any]) -> Image.Image:
    """What a node makes of the photo, beside the photo."""
    upscales = node == "IpexUpscaleImage"
    source = "small.png" if upscales else "hole.png" if "mask" in inputs else "example.png"
    loader = {"preprocessor": "Canny"}
    model = {"model_name": REAL, "precision": "fp32"}
    prompt = {
        "photo": {"class_type": "LoadImage", "inputs": {"image": source}},
        "loader": {"class_type": "IpexLoadPreprocessor", "inputs": loader},
        "model": {"class_type": "IpexUpscaleModelLoader", "inputs": model},
        "node": {"class_type": node, "inputs": {"image": ["photo", 0], **inputs}},
        "save": {"class_type": "SaveImage", "inputs": {"images": ["node", 0]}},
    }
    prompt["save"]["inputs"]["filename_prefix"] = node
    known = running.client.get_json("/object_info")
    for one in prompt.values():
        one["inputs"] = graphs.defaults(known[one["class_type"]]) | one["inputs"]
    (made,) = running.run(prompt).images
    before = Image.open(io.BytesIO(running.client.get("/view", filename=source, type="input")))
    return parts.side_by_side(before.convert("RGB"), Image.fromarray(made))


def node_pictures(
    running: servers.ComfyServer, page: pages.ComfyPage, names: Collection[str]
) -> None:
    """A picture for each help page, or for those of `names`."""
    runs = runnable()
    for node in NODE_CLASS_MAPPINGS:
        if node == "IpexXpuReport" or (names and node not in names):
            continue
        if node in runs:
            picture = result_of(running, node, runs[node])
        else:
            page.show((node, (0, 0)))
            page.plain(LEAST_WIDTH)
            page.fit()
            picture = parts.cut_out(page.screenshot(), page.place())
        parts.write_webp(picture, NODE_PICTURES / f"{node}.webp")


def report_picture(page: pages.ComfyPage) -> None:
    """XPU Report's own node after a run: its text, from the devices on, is what it is for."""
    page.show(("IpexXpuReport", (0, 0)))
    page.plain(REPORT_SIZE[0])
    page.evaluate("(size) => app.graph._nodes[0].setSize(size)", list(REPORT_SIZE))
    page.run()
    page.fit()
    page.evaluate(r"""() => {
      const area = [...document.querySelectorAll("textarea")].find((one) => one.value);
      const above = area.value.slice(0, area.value.indexOf("xpu:0: ")).split("\n").length - 1;
      area.scrollTop = 1.164 * parseFloat(getComputedStyle(area).fontSize) * (above - 0.6);
    }""")
    picture = parts.cut_out(page.screenshot(), page.place(), widest=REPORT_SIZE[0])
    parts.write_webp(picture, NODE_PICTURES / "IpexXpuReport.webp")


def example_pictures(page: pages.ComfyPage, names: Collection[str]) -> None:
    """A preview for each example (of `names`): the graph, run where that can be done."""
    for path in sorted(EXAMPLES.glob("*.json")):
        if names and path.stem not in names:
            continue
        page.drop(path, as_shown)
        page.fit()
        if path.stem in RUN_ALONE:
            page.run()
            settle(page)
        shot = parts.cut_out(page.screenshot(), page.place(), widest=PREVIEW_WIDTH)
        shot.save(path.with_suffix(".jpg"), quality=78, optimize=True)


def as_shown(text: str) -> str:
    """An example with weights that are at hand, and as small as an emulated card wants it."""
    workflow = json.loads(text)
    if REAL_FOR in text:
        for node in workflow["nodes"]:
            shown = {"IpexUpscaleModelLoader": [REAL, "auto", "fp32"]}
            shown["LoadImage"] = ["small.png", "image"]
            node["widgets_values"] = shown.get(node["type"], node.get("widgets_values", []))
    return json.dumps(workflow)


def settle(page: pages.ComfyPage) -> None:
    """Wait until results are seen."""
    page.until(
        "app.graph._nodes.filter((node) => node.type === 'SaveImage').every((node) =>"
        " node.imgs?.length && node.imgs.every((image) => image.complete))"
    )


def readme_pictures(browser: Browser, running: servers.ComfyServer) -> None:
    """The page with the report and with the menu, beside an example that ran."""
    page = pages.ComfyPage(browser, running)
    page.drop(EXAMPLES / "preprocess_edges.json")
    page.run()
    settle(page)
    time.sleep(NOTICE_SECONDS)
    for name, tab in (("report", "comfyui-ipex.report"), ("menu", "node-library")):
        page.open_tab(tab)
        if name == "report":
            page.move_edge(0, PANEL_EDGE)
        else:
            unfold(page, "IPEX", "preprocess")
        page.fit(space=BESIDE_THE_PANEL)
        picture = Image.open(io.BytesIO(page.screenshot()))
        parts.write_webp(picture.convert("RGB"), README_PICTURES / f"{name}.webp")
    page.close()


def unfold(page: pages.ComfyPage, *folders: str) -> None:
    """Open folders of the node library, the first one scrolled to its top."""
    for folder in folders:
        page.page.get_by_text(folder, exact=True).first.dispatch_event("click")
        time.sleep(1)
    where = page.page.get_by_text(folders[0], exact=True).first
    where.evaluate("(element) => element.scrollIntoView({ block: 'start' })")


def help_picture(browser: Browser, running: servers.ComfyServer) -> None:
    """A node with its help page, which holds a picture that was made before."""
    page = pages.ComfyPage(browser, running)
    page.show(("IpexCannyPreprocessor", (0, 0)))
    page.fit(space=BESIDE_THE_TOOLS)
    page.evaluate("(by) => { app.canvas.ds.offset[1] += by; }", BELOW_THE_TOOLS)
    page.help_button().dispatch_event("click")
    page.page.locator("img[src*=IpexCanny]").wait_for()
    page.move_edge(0, HELP_EDGE)
    picture = Image.open(io.BytesIO(page.screenshot()))
    parts.write_webp(picture.convert("RGB"), README_PICTURES / "help.webp")
    page.close()


def main(chromium: str, *wanted: str) -> None:
    """Make the pictures of the `wanted` kinds (all if none is named).

    Ids of nodes and names of examples among them restrict these two kinds to themselves.
    """
    kinds = KINDS.intersection(wanted) or KINDS
    names = set(wanted) - KINDS
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as playwright:
        browser = pages.launched(playwright, chromium)
        with server(Path(scratch)) as running:
            page = pages.ComfyPage(browser, running)
            page.style(GRAPH_ALONE)
            if "nodes" in kinds:
                node_pictures(running, page, names)
                if not names or "IpexXpuReport" in names:
                    report_picture(page)
            if "examples" in kinds:
                example_pictures(page, names)
            page.close()
            if "readme" in kinds:
                readme_pictures(browser, running)
            if "help" in kinds:
                help_picture(browser, running)
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
