"""What a user sees: ComfyUI's real page in Chromium. "xpu" is the emulated device.

Run by `./test --browser`.
"""

import io
import json
from collections.abc import Callable
from typing import Any

import models
import numpy as np
import pages
import pytest
from comfyui_ipex import nodes
from conftest import REPOSITORY
from PIL import Image

pytestmark = [pytest.mark.host, pytest.mark.oldest_and_newest]

Open = Callable[..., pages.ComfyPage]

EXAMPLE = REPOSITORY / "example_workflows" / "preprocess_edges.json"

REPORT = "comfyui-ipex.report"

PANEL = ".comfyui-ipex-report"

MISSING = (
    "app.graph._nodes.filter((node) => !LiteGraph.registered_node_types[node.type])"
    ".map((node) => node.type)"
)

CHINESE = REPOSITORY / "locales" / "zh"


def test_the_menu_shows_every_node_under_ipex(open_page: Open, host_version: str) -> None:
    page = open_page(host_version)
    known = page.evaluate(
        "Object.values(LiteGraph.registered_node_types).filter((one) =>"
        " one.category?.split('/')[0] === 'IPEX').map((one) => one.type ?? one.comfyClass)"
    )
    assert set(known) == set(nodes.NODE_CLASS_MAPPINGS)
    page.open_tab("node-library")
    page.page.get_by_text("IPEX", exact=True).click()
    page.page.get_by_text("XPU Report", exact=True).locator("visible=true").first.wait_for()


def test_an_example_that_is_dropped_in_runs_with_progress_and_picture(
    open_page: Open, host_version: str
) -> None:
    page = open_page(host_version)
    page.server.client.upload_image("example.png", models.photo())
    page.drop(EXAMPLE)
    assert page.evaluate(MISSING) == []
    heard = page.run()
    assert {"progress", "progress_state"} & {kind for kind, _ in heard}
    with Image.open(io.BytesIO(page.picture_of("SaveImage"))) as picture:
        edges = np.asarray(picture.convert("L"))
    assert set(np.unique(edges)) == {0, 255}


def test_the_help_page_opens_with_its_picture(open_page: Open, host_version: str) -> None:
    page = open_page(host_version)
    page.show(("IpexCannyPreprocessor", (300, 200)))
    page.help_button().dispatch_event("click")
    page.page.get_by_text("low_threshold").last.wait_for()
    page.until(
        "() => { const seen = document.querySelector('img[src*=\"IpexCannyPreprocessor\"]');"
        " return seen?.complete && seen.naturalWidth > 100; }"
    )


def test_the_report_panel_is_there_with_an_intel_gpu_and_copies_the_report(
    open_page: Open, host_version: str
) -> None:
    page = open_page(host_version)
    page.until("(id) => app.extensionManager.getSidebarTabs().some((tab) => tab.id === id)", REPORT)
    page.open_tab(REPORT)
    panel = page.page.locator(PANEL)
    panel.get_by_text("xpu:1: Intel(R) Arc(TM) A770 Graphics").first.wait_for()
    panel.get_by_text("free-memory").first.wait_for()
    panel.get_by_text("Copy for a bug report").click()
    panel.get_by_text("Copied.").wait_for()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith("comfyui-ipex ")
    assert "xpu:1: Intel(R) Arc(TM) A770 Graphics" in copied


def test_nodes_show_what_they_have_to_say(open_page: Open, host_version: str) -> None:
    """Also in a node whose text comes with its first run."""
    page = open_page(host_version)
    page.show(
        ("IpexXpuReport", (100, 100)),
        ("IpexUpscaleModelLoader", (500, 100)),
        ("IpexUpscaleModelInfo", (900, 100)),
    )
    page.evaluate("""() => {
      const [, loader, info] = app.graph._nodes;
      loader.widgets.find((one) => one.name === "model_name").value = "mini_esrgan_x2.safetensors";
      loader.connect(0, info, 0);
    }""")
    page.run()
    for text in ("comfyui-ipex ", "architecture: ESRGAN"):
        seen = (
            "[...document.querySelectorAll('textarea')].some((one) => one.value.startsWith(text))"
        )
        page.until(f"(text) => {seen}", text)


def test_the_panel_shows_the_cards_of_a_worker(open_page: Open, host_version: str) -> None:
    """With an Intel GPU in another process alone, it is there unasked, too."""
    page = open_page(host_version, "cpu")
    page.page.route("**/ipex/report?format=json", with_a_worker)
    page.reload()
    page.until("(id) => app.extensionManager.getSidebarTabs().some((tab) => tab.id === id)", REPORT)
    page.open_tab(REPORT)
    panel = page.page.locator(PANEL)
    panel.get_by_text("Worker: other (xpu)").wait_for()
    panel.get_by_text("xpu:0@other: Intel Arc A770").wait_for()
    panel.get_by_text("Worker: broken (cuda)").wait_for()
    panel.get_by_text("Cannot be read: it does not start").wait_for()


def with_a_worker(route: Any) -> None:
    """Answer with the server's report as if it had two workers, one of which cannot start."""
    report = route.fetch(timeout=1000 * pages.SECONDS).json()
    card = {**report["devices"][0], "name": "xpu:0", "label": "Intel Arc A770"}
    report["workers"] = [
        {"name": "other", "kind": "xpu", "process": 1, "told": {**report, "devices": [card]}},
        {"name": "broken", "kind": "cuda", "process": None, "told": {"why": "it does not start"}},
    ]
    route.fulfill(json=report)


def test_without_an_intel_gpu_the_panel_is_there_only_after_it_was_asked_for(
    open_page: Open, host_version: str
) -> None:
    page = open_page(host_version, "cpu")
    page.page.wait_for_load_state("networkidle")
    assert REPORT not in page.tabs()
    page.command("comfyui-ipex.ShowReport")
    page.page.locator(PANEL).get_by_text("Nothing in ComfyUI is changed").first.wait_for()


def test_the_help_menu_opens_the_panel(open_page: Open, host_version: str) -> None:
    """The menu bar of older pages has Help itself, that of newer ones below the logo."""
    page = open_page(host_version)
    help_menu = page.page.get_by_text("Help", exact=True).first
    if not help_menu.is_visible():
        page.page.locator("[class*=comfy-menu-button]").first.dispatch_event("click")
        help_menu.hover()
    else:
        help_menu.dispatch_event("click")
    entry = page.page.get_by_role("menuitem", name="XPU Report").locator("visible=true")
    entry.get_by_text("XPU Report").first.click()
    page.page.locator(PANEL).get_by_text("free-memory").first.wait_for()


def test_where_the_clipboard_is_kept_from_the_page_copying_works_all_the_same(
    open_page: Open, host_version: str
) -> None:
    """As on a page that another machine serves without https."""
    page = open_page(host_version)
    page.evaluate("Object.defineProperty(window, 'isSecureContext', { value: false })")
    page.command("comfyui-ipex.ShowReport")
    panel = page.page.locator(PANEL)
    panel.get_by_text("free-memory").first.wait_for()
    panel.get_by_text("Copy for a bug report").click()
    panel.get_by_text("Copied.").wait_for()
    assert page.evaluate("navigator.clipboard.readText()").startswith("comfyui-ipex ")


def test_the_page_in_chinese_shows_our_texts_in_chinese(open_page: Open, host_version: str) -> None:
    page = open_page(host_version, language="zh")
    nodes_texts = json.loads((CHINESE / "nodeDefs.json").read_text(encoding="utf-8"))
    page_texts = json.loads((CHINESE / "main.json").read_text(encoding="utf-8"))
    page.show(("IpexCannyPreprocessor", (300, 200)))
    assert (
        page.evaluate("app.graph._nodes[0].title")
        == nodes_texts["IpexCannyPreprocessor"]["display_name"]
    )
    page.command("comfyui-ipex.ShowReport")
    page.page.locator(PANEL).get_by_text(page_texts["ipexReport"]["copy"]).wait_for()


def test_every_example_is_loaded_without_a_missing_node(open_page: Open, host_version: str) -> None:
    page = open_page(host_version)
    for path in sorted((REPOSITORY / "example_workflows").glob("*.json")):
        page.drop(path)
        assert page.evaluate(MISSING) == [], f"{path.name} has nodes that are not there"
