"""Every preprocessor's node through a real server, on an emulated card."""

import json
from collections.abc import Mapping
from typing import Any

import annotator_files
import hosts
import models
import numpy as np
import pytest
import servers
from comfyui_ipex import nodes
from comfyui_ipex.nodes.preprocess.catalogue import METHODS
from comfyui_ipex.nodes.preprocess.method import Method
from servers import ServerPool

pytestmark = pytest.mark.host

READ = "weights were read"
"""The log says so once for each network."""


def methods_on(version: str) -> dict[str, Method]:
    """The methods that a server of this version runs."""
    left_out = set() if version == hosts.VERSIONS[-1] else set(annotator_files.LARGEST)
    if version not in (hosts.VERSIONS[0], hosts.VERSIONS[-1]):
        left_out.update(annotator_files.LARGE)
    return {name: method for name, method in METHODS.items() if name not in left_out}


def node_id(method: Method) -> str:
    return f"Ipex{method.name}Preprocessor"


def has_aio(name: str) -> bool:
    """Whether AIO, which has the defaults, is run too."""
    slow = annotator_files.LARGE + annotator_files.LARGEST
    return name not in slow and name not in annotator_files.SETTINGS


def workflow(methods: Mapping[str, Method], device: str, side: int) -> dict[str, Any]:
    """The photo through the nodes of methods, and through AIO."""
    found: dict[str, Any] = {
        "photo": {"class_type": "LoadImage", "inputs": {"image": "photo.png"}},
        "mask": {
            "class_type": "SolidMask",
            "inputs": {"value": 1.0, "width": 32, "height": 32},
        },
    }
    for name, method in methods.items():
        inputs: dict[str, Any] = {"image": ["photo", 0], "device": device}
        if method.takes_mask:
            inputs |= {"mask": ["mask", 0], "black_pixel_for_xinsir_cn": True}
        if not method.keeps_size:
            inputs["resolution"] = side
        if method.networks:
            inputs |= {"precision": "fp32", "download": False}
        settings = annotator_files.SETTINGS.get(name, {})
        found[name] = {"class_type": node_id(method), "inputs": inputs | settings}
        if not has_aio(name):
            continue
        aio = {key: value for key, value in inputs.items() if key != "black_pixel_for_xinsir_cn"}
        found[f"AIO {name}"] = {
            "class_type": "IpexAIOPreprocessor",
            "inputs": aio | {"preprocessor": name},
        }
    for name in list(found):
        if name not in ("photo", "mask"):
            saved = {"images": [name, 0], "filename_prefix": f"hint_{name}"}
            found[f"save {name}"] = {"class_type": "SaveImage", "inputs": saved}
    return found


def test_every_method_has_its_node_and_every_node_its_method() -> None:
    """A row of the catalogue is a node with a literal id, forever."""
    ours = {name for name in nodes.NODE_CLASS_MAPPINGS if name.endswith("Preprocessor")}
    ours -= {f"Ipex{verb}Preprocessor" for verb in ("Load", "Apply", "AIO", "Optimize")}
    assert ours == {node_id(method) for method in METHODS.values()}


def test_every_node_without_weights_is_in_a_workflow() -> None:
    """Those workflows run on all hosts and devices, and are compared with the reference host."""
    text = (servers.WORKFLOWS / "preprocess.json").read_text(encoding="utf-8")
    used = {node["class_type"] for node in json.loads(text).values()}
    plain = {node_id(method) for method in METHODS.values() if not method.networks}
    general = {"IpexLoadPreprocessor", "IpexApplyPreprocessor", "IpexAIOPreprocessor"}
    assert plain | general <= used


def test_every_preprocessor_gives_pictures_and_reads_its_weights_once(
    pool: ServerPool, host_version: str
) -> None:
    """By its own node and by AIO, in one run and in a second one of another size."""
    methods = methods_on(host_version)
    for method in methods.values():
        annotator_files.written(method, models.written() / "annotators")
    server = pool.get(servers.on_device(host_version, "xpu"))
    read_before = server.log.count(READ)
    copies_before = servers.peer_copies(server.emulated_cards())
    prompt = workflow(methods, "xpu:0", 128)
    names = sorted(name for name in prompt if name.startswith("save "))
    pictures = dict(zip(names, server.run(prompt).images, strict=True))
    for name, method in methods.items():
        own = pictures[f"save {name}"]
        assert own.shape == ((64, 64, 3) if method.keeps_size else (128, 128, 3)), name
        if has_aio(name):
            assert np.array_equal(own, pictures[f"save AIO {name}"]), name
    again = {name: one for name, one in methods.items() if name not in annotator_files.LARGEST}
    server.run(workflow(again, "xpu:0", 64))
    assert server.log.count(READ) - read_before == len(networks(methods))
    assert servers.peer_copies(server.emulated_cards()) == copies_before


def networks(methods: Mapping[str, Method]) -> set[Any]:
    """The networks of methods, each once."""
    found = (annotator_files.network_of(method) for method in methods.values())
    return {(network.load, network.files) for network in found if network is not None}
