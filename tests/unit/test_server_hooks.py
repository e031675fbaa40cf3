"""What the server shows and checks, on a real aiohttp application without a host."""

import asyncio
import json
import logging
import sys
from collections.abc import Awaitable, Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from comfyui_ipex.xpu_runtime import host, server_hooks
from comfyui_ipex.xpu_runtime.devices import CPU, Device
from comfyui_ipex.xpu_runtime.priority import Primary
from comfyui_ipex.xpu_runtime.runtime import Runtime
from comfyui_ipex.xpu_runtime.seam import Installation
from comfyui_ipex.xpu_runtime.seams.memory import MemoryReader
from toy_hosts import seam, toy_host

A770 = Device("xpu:0", "A770")
B580 = Device("xpu:1", "B580")
H100 = Device("cuda:0", "H100")
THE_CPU = Device(CPU, "CPU")
TWO_CARDS = (A770, B580, THE_CPU)

# As the host writes it; the keys' order, escapes and floats must survive.
HOST_STATS = {
    "system": {"os": "posix", "argv": ["main.py", "\u00e4"], "load": 0.1},
    "devices": [{"name": "xpu:0 A770", "type": "xpu", "index": 0, "vram_total": 5}],
}


def row(device: torch.device) -> dict[str, Any]:
    """What the host says of a device."""
    if device.index == 7:
        raise RuntimeError("device lost")
    return {"name": f"{device} Stand-in", "type": device.type, "index": device.index}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """A server that is being set up, as far as packs see it: an application and a route table."""
    routes = web.RouteTableDef()

    @routes.get("/system_stats")
    async def system_stats(_: web.Request) -> web.Response:
        return web.json_response(HOST_STATS)

    standing = SimpleNamespace(app=web.Application(), routes=routes)
    prompt_server = SimpleNamespace(instance=standing)
    monkeypatch.setitem(sys.modules, "server", SimpleNamespace(PromptServer=prompt_server))
    monkeypatch.setattr(host, "has", lambda _: False)
    monkeypatch.setattr(host, "runs_on_gpu", lambda: True)
    monkeypatch.setattr(host, "device_stats", row)
    yield standing


def running(
    found: tuple[Device, ...] = TWO_CARDS, installation: Installation | None = None
) -> Runtime:
    """What this process runs on."""
    return Runtime(found, Primary("xpu", None, None), MemoryReader(), installation)


def ask(server: SimpleNamespace, use: Callable[[TestClient], Awaitable[Any]]) -> Any:
    """Start the server as the host does after the packs were loaded, and `use` it."""

    async def session() -> Any:
        server.app.add_routes(server.routes)
        async with TestClient(TestServer(server.app)) as client:
            return await use(client)

    return asyncio.run(session())


async def stats(client: TestClient) -> str:
    """The text of /system_stats."""
    return await (await client.get("/system_stats")).text()


def test_without_a_server_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "server", raising=False)
    server_hooks.attach(running())
    assert "server" not in sys.modules


def test_a_server_that_has_started_is_left_alone(server: SimpleNamespace) -> None:
    server.app.freeze()
    server_hooks.attach(running())
    assert len(server.routes) == 1


def test_a_second_copy_of_this_extension_does_not_end_the_server(server: SimpleNamespace) -> None:
    for _ in range(2):
        server_hooks.attach(running())
    answer = json.loads(ask(server, stats))
    assert [device["name"] for device in answer["devices"]] == ["xpu:0 A770", "xpu:1 Stand-in"]


def test_the_hosts_own_answer_stays_byte_for_byte(server: SimpleNamespace) -> None:
    bare = json.dumps(HOST_STATS)
    server_hooks.attach(running())
    answer = ask(server, stats)
    assert answer.startswith(bare[: bare.index("}]")])
    assert json.loads(answer)["devices"][1:] == [row(torch.device("xpu:1"))]


def test_both_makers_cards_are_listed(server: SimpleNamespace) -> None:
    server_hooks.attach(running((H100, A770, B580, THE_CPU)))
    names = [device["name"] for device in json.loads(ask(server, stats))["devices"]]
    assert names == ["xpu:0 A770", "cuda:0 Stand-in", "xpu:1 Stand-in"]


def test_a_card_that_cannot_be_read_is_left_out_with_a_warning(
    server: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    server_hooks.attach(running((A770, Device("xpu:7", "lost"), THE_CPU)))
    assert ask(server, stats) == json.dumps(HOST_STATS)
    assert "xpu:7 is not in /system_stats: RuntimeError: device lost" in caplog.text


@pytest.mark.parametrize(
    ("found", "lists_all", "on_gpu"),
    [
        ((A770, THE_CPU), False, True),
        ((H100, Device("cuda:1", "H100"), THE_CPU), False, True),
        (TWO_CARDS, True, True),
        (TWO_CARDS, False, False),
    ],
    ids=["one card", "no Intel GPU", "host lists all", "--cpu"],
)
def test_system_stats_are_left_alone_where_nothing_is_hidden(
    server: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
    found: tuple[Device, ...],
    lists_all: bool,
    on_gpu: bool,
) -> None:
    monkeypatch.setattr(host, "has", lambda _: lists_all)
    monkeypatch.setattr(host, "runs_on_gpu", lambda: on_gpu)
    server_hooks.attach(running(found))
    assert not server.app.middlewares


@pytest.mark.parametrize("text", ["", "no json", "[]", '{"devices": {}}', '{"system": 1}'])
def test_an_answer_that_no_host_gives_is_passed_on(text: str) -> None:
    assert server_hooks.with_every_device(text, TWO_CARDS) is None


@pytest.mark.parametrize(
    ("query", "accept", "kind"),
    [
        ("", "*/*", "text/plain"),
        ("?format=json", "*/*", "application/json"),
        ("", "application/json", "application/json"),
        ("?format=text", "application/json", "text/plain"),
    ],
)
def test_the_report_is_text_or_json(
    server: SimpleNamespace, query: str, accept: str, kind: str
) -> None:
    server_hooks.attach(running((THE_CPU,)))

    async def use(client: TestClient) -> tuple[str, str]:
        answer = await client.get(f"/ipex/report{query}", headers={"Accept": accept})
        assert answer.status == 200
        return answer.content_type, await answer.text()

    content_type, text = ask(server, use)
    assert content_type == kind
    if kind == "application/json":
        assert json.loads(text)["devices"][0]["name"] == CPU
    else:
        assert text.startswith("comfyui-ipex ")


def test_another_format_is_refused_with_the_choices(server: SimpleNamespace) -> None:
    server_hooks.attach(running((THE_CPU,)))

    async def use(client: TestClient) -> tuple[int, str]:
        answer = await client.get("/ipex/report?format=xml")
        return answer.status, await answer.text()

    assert ask(server, use) == (400, "format is 'xml': use json or text.\n")


@pytest.mark.parametrize("undone", [False, True])
def test_the_start_warns_of_what_another_pack_has_undone_and_of_nothing_else(
    server: SimpleNamespace, caplog: pytest.LogCaptureFixture, undone: bool
) -> None:
    with toy_host() as toy, caplog.at_level(logging.INFO, "comfyui-ipex"):
        installation = Installation([seam(), seam("load", "toy_host.memory:Loader.load")])
        installation.install()
        server_hooks.attach(running(installation=installation))
        if undone:
            toy.free_memory = lambda dev=None, torch_free_too=False: 0
        ask(server, stats)
    warnings = [record.getMessage() for record in caplog.records]
    if not undone:
        assert warnings == []
        return
    assert len(warnings) == 1
    assert "free-memory: overwritten (by " in warnings[0]
    assert "Without it: models do not fit" in warnings[0]
    assert "COMFYUI_IPEX_DISABLE=free-memory" in warnings[0]
