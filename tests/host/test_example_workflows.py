"""Every example in example_workflows/ runs on the CPU of a real server, with tiny models."""

import json
from pathlib import Path

import graphs
import models
import pytest
import servers
from comfyui_ipex.launcher.client import raise_if_failed
from comfyui_ipex.launcher.installation import EXTENSION_NAME
from conftest import REPOSITORY
from servers import ServerPool

pytestmark = [pytest.mark.host, pytest.mark.oldest_and_newest]

JPEG = b"\xff\xd8\xff"

EXAMPLES = sorted((REPOSITORY / "example_workflows").glob("*.json"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs_on_the_cpu(pool: ServerPool, host_version: str, path: Path) -> None:
    """Where this fails for a new example, it names what graphs.py must know about it."""
    server = pool.get(servers.on_device(host_version, "cpu"))
    known = server.client.get_json("/object_info")
    workflow = json.loads(path.read_text(encoding="utf-8"))
    missing = {node["type"] for node in workflow["nodes"]} - set(known)
    assert not missing, f"this ComfyUI has no node {missing}"
    prompt = graphs.made_small(graphs.as_prompt(workflow, known))
    graphs.write_stand_ins(prompt)
    server.client.upload_image("example.png", models.photo())
    server.client.upload_image("example.mp4", graphs.video())
    known = server.client.get_json("/object_info")
    unknown = graphs.unknown_choices(prompt, known)
    assert not unknown, f"tests/graphs.py needs STAND_INS for {unknown}"
    record = server.client.wait(server.client.queue(prompt), servers.RUN_SECONDS)
    raise_if_failed(record)
    shown = {key for key, output in record["outputs"].items() if any(output.values())}
    assert shown >= graphs.output_nodes(prompt, known)


def test_the_template_browser_is_told_of_every_example_and_its_preview(
    pool: ServerPool, host_version: str
) -> None:
    server = pool.get(servers.on_device(host_version, "cpu"))
    offered = server.client.get_json("/api/workflow_templates")[EXTENSION_NAME]
    assert set(offered) == {path.stem for path in EXAMPLES}
    for name in offered:
        address = f"/api/workflow_templates/{EXTENSION_NAME}/{name}"
        assert server.client.get_json(f"{address}.json")["nodes"]
        assert server.client.get(f"{address}.jpg").startswith(JPEG)
