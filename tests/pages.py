"""ComfyUI's page in a real browser, which reaches this machine alone."""

import base64
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from servers import ComfyServer

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Playwright

SECONDS = 60.0

RUN_SECONDS = 180.0

WIDTH, HEIGHT = 1400, 860

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    # No other machine can be reached, whatever a page asks for.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)

HOSTS_OWN = ("https://api.comfy.org/",)
"""What ComfyUI's own page asks for in some versions."""

_READY = "window.app?.graph && window.app.extensionManager && !window.app.extensionManager.spinner"

_DROP = """([name, text]) => {
  const dropped = new DataTransfer();
  dropped.items.add(new File([text], name, { type: "application/json" }));
  const canvas = document.querySelector("#graph-canvas");
  const place = { clientX: 700, clientY: 400, bubbles: true, cancelable: true };
  canvas.dispatchEvent(new DragEvent("dragover", { ...place, dataTransfer: dropped }));
  canvas.dispatchEvent(new DragEvent("drop", { ...place, dataTransfer: dropped }));
}"""

_LISTEN = """() => {
  window.heard = [];
  const kinds = ["progress", "progress_state", "execution_start", "execution_error",
    "execution_success"];
  for (const kind of kinds) {
    app.api.addEventListener(kind, ({ detail }) => window.heard.push([kind, detail]));
  }
}"""

_FIT = """(space) => {
  const nodes = app.graph._nodes;
  const left = Math.min(...nodes.map((node) => node.pos[0]));
  const top = Math.min(...nodes.map((node) => node.pos[1]));
  const right = Math.max(...nodes.map((node) => node.pos[0] + node.size[0]));
  const bottom = Math.max(...nodes.map((node) => node.pos[1] + node.size[1]));
  const { ds, canvas } = app.canvas;
  const ratio = window.devicePixelRatio;
  const [width, height] = [canvas.width / ratio - space - 40, canvas.height / ratio];
  ds.scale = Math.min(1.2, width / (right - left), (height - 260) / (bottom - top + 40));
  ds.offset[0] = space / ds.scale - left;
  ds.offset[1] = 150 / ds.scale - top;
  app.graph.setDirtyCanvas(true, true);
}"""


_PLACE = """() => {
  const nodes = app.graph._nodes;
  const { scale, offset } = app.canvas.ds;
  const frame = document.querySelector("#graph-canvas").getBoundingClientRect();
  const seen = (end, sizes) => [0, 1].map((axis) => (end(...nodes.map((node) =>
    node.pos[axis] + sizes * node.size[axis])) + offset[axis]) * scale);
  const [left, top] = seen(Math.min, 0);
  const [right, bottom] = seen(Math.max, 1);
  const space = 12;
  const title = 46 * scale + space;  // and the badge above it
  return [left - space, top - title, right + space, bottom + space].map(
    (one, side) => one + (side % 2 ? frame.top : frame.left));
}"""

_PLAIN = """(least) => {
  (app.canvas.deselectAll ?? app.canvas.deselectAllNodes).call(app.canvas);
  for (const node of app.graph._nodes) {
    node.setSize([Math.max(least, node.size[0]), node.size[1]]);
  }
}"""

_ENDED = """() => {
  const { heard } = window;
  const started = heard.filter(([kind]) => kind === "execution_start");
  const ids = started.map(([, detail]) => detail.prompt_id);
  const ends = ["execution_success", "execution_error"];
  return heard.some(([kind, detail]) => ends.includes(kind) && ids.includes(detail.prompt_id));
}"""

_RUN = "[data-testid=queue-button] button, button[data-testid=queue-button]"


def launched(playwright: "Playwright", chromium: str) -> "Browser":
    """The browser, without a window."""
    return playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))


class ComfyPage:
    """A server's page, loaded and without a first-time tour."""

    def __init__(self, browser: "Browser", server: ComfyServer, language: str = "en") -> None:
        self.server = server
        self.set("Comfy.TutorialCompleted", True)
        self.set("Comfy.Locale", language)
        self.set("Comfy.Minimap.Visible", False)
        self.set("Comfy.Graph.CanvasInfo", False)
        context = browser.new_context(
            viewport={"width": WIDTH, "height": HEIGHT},
            permissions=["clipboard-read", "clipboard-write"],
        )
        context.set_default_timeout(SECONDS * 1000)
        self.page = context.new_page()
        self.errors: list[str] = []
        self.elsewhere: list[str] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self._note(request.url))
        self.page.goto(server.client.address)
        self._prepare()

    def _note(self, url: str) -> None:
        known = (self.server.client.address, "data:", "blob:", *HOSTS_OWN)
        if not url.startswith(known):
            self.elsewhere.append(url)

    def set(self, name: str, value: Any) -> None:
        """Change a setting of the page, before it is loaded."""
        body = json.dumps(value).encode()
        self.server.client.post(f"/settings/{name}", body, "application/json")

    def reload(self) -> None:
        """Load the page again."""
        self.page.reload()
        self._prepare()

    def _prepare(self) -> None:
        self.page.wait_for_function(_READY)
        self.page.evaluate(_LISTEN)

    def close(self) -> None:
        """Close it with its cookies and storage."""
        self.page.context.close()

    def evaluate(self, script: str, given: Any = None) -> Any:
        """What JavaScript answers in the page."""
        return self.page.evaluate(script, given)

    def until(self, script: str, given: Any = None) -> None:
        """Wait until JavaScript says something that is true."""
        self.page.wait_for_function(script, arg=given)

    def drop(self, path: Path, change: Callable[[str], str] = str) -> int:
        """Drop a workflow's file onto the graph; the number of its nodes, when all are there."""
        text = change(path.read_text(encoding="utf-8"))
        count = len(json.loads(text)["nodes"])
        self.evaluate("app.graph.clear()")
        self.evaluate(_DROP, [path.name, text])
        self.until("(count) => app.graph._nodes.length === count", count)
        return count

    def show(self, *nodes: tuple[str, tuple[int, int]]) -> None:
        """An empty graph with these nodes at their places; the first one is selected."""
        self.evaluate(
            """(wanted) => {
              app.graph.clear();
              for (const [type, place] of wanted) {
                const node = LiteGraph.createNode(type);
                node.pos = place;
                app.graph.add(node);
              }
              app.canvas.selectNode?.(app.graph._nodes[0]);
              app.graph.setDirtyCanvas(true, true);
            }""",
            [[name, list(place)] for name, place in nodes],
        )

    def style(self, css: str) -> None:
        """Change how the page looks. Playwright's own way takes others' errors for its own."""
        self.evaluate(
            "(css) => { const made = document.createElement('style'); made.textContent = css;"
            " document.head.append(made); }",
            css,
        )

    def place(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of the nodes, titles and some space, in the screenshot."""
        return tuple(self.evaluate(_PLACE))

    def plain(self, least: int) -> None:
        """Nodes of this width at least, so that no name is cut off, and none selected."""
        self.evaluate(_PLAIN, least)

    def move_edge(self, number: int, by: int) -> None:
        """Move the edge of a side panel, counted from the left, by so many pixels."""
        edge = self.page.locator(".p-splitter-gutter:visible").nth(number).bounding_box()
        assert edge is not None
        left, middle = edge["x"] + edge["width"] / 2, edge["y"] + edge["height"] / 3
        self.page.mouse.move(left, middle)
        self.page.mouse.down()
        self.page.mouse.move(left + by, middle, steps=5)
        self.page.mouse.up()
        self.page.mouse.move(0, 0)

    def fit(self, space: int = 110) -> None:
        """Show the whole graph, beside `space` pixels for the side bar."""
        self.evaluate(_FIT, space)

    def run(self) -> list[tuple[str, Any]]:
        """Click "Run", wait for the end; what the page heard. An error of a node is raised."""
        self.evaluate("window.heard.length = 0")
        # Not a click at a place: on a busy machine the page moves for long.
        self.page.locator(_RUN).first.dispatch_event("click")
        self.page.wait_for_function(_ENDED, timeout=RUN_SECONDS * 1000)
        heard = [(kind, detail) for kind, detail in self.evaluate("window.heard")]
        failed = [detail for kind, detail in heard if kind == "execution_error"]
        if failed:
            raise RuntimeError(f"{failed[0]['node_type']}: {failed[0]['exception_message']}")
        return heard

    def open_tab(self, name: str) -> None:
        """Open a tab of the side bar."""
        self.evaluate(
            """(name) => {
              const tabs = app.extensionManager.sidebarTab;
              if (tabs.activeSidebarTabId !== name) tabs.toggleSidebarTab(name);
            }""",
            name,
        )

    def tabs(self) -> list[str]:
        """The tabs of the side bar."""
        return list(self.evaluate("app.extensionManager.getSidebarTabs().map((tab) => tab.id)"))

    def command(self, name: str) -> None:
        """Execute a command as the menu does."""
        self.evaluate("(name) => app.extensionManager.command.execute(name)", name)

    def help_button(self) -> "Locator":
        """The button of the selected node that opens its help page; its look changed once."""
        box = self.page.locator(".selection-toolbox")
        return box.locator("[data-testid=info-button], button:has(.pi-question-circle)").first

    def screenshot(self) -> bytes:
        """A PNG of what is seen, when fonts and pictures are there and nothing moves."""
        self.page.wait_for_load_state("networkidle")
        time.sleep(0.7)
        return self.page.screenshot(animations="disabled")

    def picture_of(self, node: str) -> bytes:
        """The first picture that a node of this type shows, as the server sent it."""
        script = """async (type) => {
          const node = app.graph._nodes.find((node) => node.type === type);
          const answer = await fetch(node.imgs[0].src);
          const bytes = new Uint8Array(await answer.arrayBuffer());
          return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
        }"""
        self.until(
            "(type) => app.graph._nodes.find((node) => node.type === type)?.imgs?.length", node
        )
        return base64.b64decode(self.evaluate(script, node))
