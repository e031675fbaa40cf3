"""The benchmark's suites that run ComfyUI's own modules, in tiny sizes, on real hosts."""

import json
import subprocess
from typing import Any

import hosts
import pytest
from comfyui_ipex.launcher.folders import child_environment
from conftest import REPOSITORY
from servers import Configuration, ServerPool

pytestmark = [pytest.mark.host, pytest.mark.oldest_and_newest]

# Both suites, with ours beside the host's, and models of one block through the host's loader.
CASES = "tiny UNet step,tiny VAE,compact:64"


@pytest.fixture(scope="module")
def results(host_version: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The results of a quick run on the CPU, by case."""
    host = hosts.installed(host_version)
    output = tmp_path_factory.mktemp("benchmarks") / "host"
    arguments = ["--device", "cpu", "--quick", "--suite", "sd,upscale", "--case", CASES]
    arguments += ["--tree", str(host.tree.path), "--output", str(output)]
    done = subprocess.run(
        [str(host.python), str(REPOSITORY / "ipex_benchmarks.py"), *arguments],
        env={**child_environment(), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    data = json.loads(output.with_suffix(".json").read_text(encoding="utf-8"))
    assert data["complete"]
    assert {one["host"] for one in data["conditions"]} == {host.version}
    return {result["case"]: result for result in data["results"]}


def test_a_unet_with_random_weights_runs_through_the_hosts_loader(results: dict[str, Any]) -> None:
    steps = [results[f"tiny UNet step 64x64 batch {batch}"] for batch in (1, 2)]
    assert [(step["status"], step["why"]) for step in steps] == [("measured", "")] * 2
    first, second = (step["counts"]["flop"] for step in steps)
    assert second == 2 * first
    assert steps[0]["error"] < 1e-5
    assert steps[0]["counts"]["million parameters"] > 20


def test_a_decoded_latent_is_compared_with_the_same_in_fp32(results: dict[str, Any]) -> None:
    decode = results["tiny VAE decode 64x64"]
    assert (decode["status"], decode["why"]) == ("measured", "")
    assert decode["error"] < 1e-5


def test_our_upscaler_is_measured_beside_the_hosts(results: dict[str, Any]) -> None:
    found = results["compact:64"]
    assert (found["status"], found["why"]) == ("measured", "")
    assert found["against"]["name"] == "ComfyUI's node"
    assert found["error"] < 0.5
    assert found["counts"]["host error /255"] < 0.5


PARAMETERS = """
import json, sys, types
from pathlib import Path
package = types.ModuleType("comfyui_ipex")
package.__path__ = [sys.argv[1]]
sys.modules["comfyui_ipex"] = package
import torch
from comfyui_ipex.benchmarks import hosting
from comfyui_ipex.benchmarks.suites import sd_models
tree = Path(sys.argv[2])
hosting.start_host(tree, torch.device("cpu"))
import comfy.model_detection
answer = {}
for family in sd_models.FAMILIES:
    state = {}
    for prefix, network in sd_models._networks(family, tree):
        for name, value in network.state_dict().items():
            state[prefix + name] = torch.empty(value.shape, dtype=torch.float16, device="meta")
    unet = "model.diffusion_model."
    found = comfy.model_detection.model_config_from_unet(state, unet)
    count = sum(v.numel() for k, v in state.items() if k.startswith(unet))
    answer[family.name] = [type(found).__name__, round(count / 1e6, 1)]
print(json.dumps(answer))
"""


def test_shapes_are_those_of_the_real_models(host_version: str) -> None:
    host = hosts.installed(host_version)
    done = subprocess.run(
        [str(host.python), "-c", PARAMETERS, str(REPOSITORY), str(host.tree.path)],
        env={**child_environment(), "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.strip().splitlines()[-1])
    # What the published checkpoints have, in millions.
    assert found["SD 1.5"] == ["SD15", 859.5]
    assert found["SDXL"] == ["SDXL", 2567.5]


def test_the_node_measures_in_a_server(pool: ServerPool) -> None:
    # One host is enough for half a minute: the node asks nothing of it but a progress bar.
    server = pool.get(Configuration(hosts.REFERENCE))
    node = {"class_type": "IpexBenchmark", "inputs": {"device": "cpu", "dtype": "auto"}}
    run = server.run({"1": node})
    (output,) = [e["data"]["output"] for e in run.events if e["type"] == "executed"]
    (text,) = output["text"]
    assert "| matmul 512 | fp32 |" in text
    assert "failed" not in text
    assert any(event["type"] == "progress" for event in run.events)
