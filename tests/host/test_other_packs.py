"""Other packs that replace what we replace, loaded before us and after us, on emulated cards.

They are loaded from folders of their own: a host loads folders in order, and the packs of one
folder in no order.
"""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import servers
from servers import TWO_CARDS, Configuration, Run, ServerPool

pytestmark = pytest.mark.host

PACKS = Path(__file__).parent / "probes" / "packs"

CONVOLUTIONS = "aten::convolution_overrideable"

Packs = Callable[..., tuple[str, ...]]


@pytest.fixture(scope="session")
def beside(tmp_path_factory: pytest.TempPathFactory) -> Packs:
    """Gives arguments that make a host load packs of `PACKS` before or after ours.

    The host loads folder by folder, a default folder first; within one, packs come in no order.
    """
    made: dict[tuple[str, ...], tuple[str, ...]] = {}

    def arguments(when: str, *packs: str) -> tuple[str, ...]:
        key = (when, *packs)
        if key not in made:
            folder = tmp_path_factory.mktemp(f"packs-{when}")
            (folder / "custom_nodes").mkdir()
            for pack in packs:
                (folder / "custom_nodes" / pack).symlink_to(PACKS / pack)
            lines = ["packs:", f"  is_default: {str(when == 'before').lower()}"]
            lines.append(f"  custom_nodes: {folder / 'custom_nodes'}")
            (folder / "packs.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")
            made[key] = ("--extra-model-paths-config", str(folder / "packs.yaml"))
        return made[key]

    return arguments


@pytest.fixture
def before(pool: ServerPool, beside: Packs, host_version: str) -> servers.ComfyServer:
    """A server on xpu:0 whose other pack was loaded before ours."""
    arguments = ("--force-fp32", *beside("before", "device_global"))
    return pool.get(Configuration(host_version, arguments, emulator=TWO_CARDS))


@pytest.fixture
def after(pool: ServerPool, beside: Packs, host_version: str) -> servers.ComfyServer:
    """A server on xpu:1 whose other packs were loaded after ours."""
    packs = beside("after", "careless", "device_global")
    arguments = ("--force-fp32", "--default-device", "1", *packs)
    return pool.get(Configuration(host_version, arguments, emulator=TWO_CARDS))


def warned(server: servers.ComfyServer) -> dict[str, str]:
    """The seams that the server's start warned of, and by whom they were overwritten."""
    line = re.compile(r"comfyui-ipex: ([\w-]+): overwritten \(by (.*?)\) after it was installed")
    return dict(line.findall(server.log))


def run(server: servers.ComfyServer, device: str | None) -> tuple[Run, list[int]]:
    """txt2img and how much each card did for it; the other pack's loader names `device`."""
    workflow = servers.workflow("txt2img")
    if device is not None:
        workflow["1"]["class_type"] = "DeviceGlobalCheckpointLoader"
        workflow["1"]["inputs"]["device"] = device
    counts = [card["op_calls"].get(CONVOLUTIONS, 0) for card in server.emulated_cards()]
    done = server.run_fresh(workflow)
    after = [card["op_calls"].get(CONVOLUTIONS, 0) for card in server.emulated_cards()]
    return done, [now - then for now, then in zip(after, counts, strict=True)]


def is_the_cpus(pool: ServerPool, version: str, picture: Run) -> bool:
    """Whether the picture is the CPU's."""
    expected = pool.get(Configuration(version)).run_fresh(servers.workflow("txt2img"))
    difference = np.abs(picture.images[0].astype(int) - expected.images[0].astype(int))
    return bool(difference.max() <= 1)


@pytest.mark.parametrize(("order", "ours"), [("before", 0), ("after", 1)])
def test_elsewhere_our_choice_of_a_card_holds(
    request: pytest.FixtureRequest, pool: ServerPool, host_version: str, order: str, ours: int
) -> None:
    picture, counts = run(request.getfixturevalue(order), None)
    assert counts[ours] > 0
    assert counts[1 - ours] == 0
    assert is_the_cpus(pool, host_version, picture)


@pytest.mark.parametrize(("order", "theirs"), [("before", 1), ("after", 0)])
def test_where_the_other_pack_names_a_card_its_choice_wins(
    request: pytest.FixtureRequest, pool: ServerPool, host_version: str, order: str, theirs: int
) -> None:
    picture, counts = run(request.getfixturevalue(order), f"xpu:{theirs}")
    assert counts[theirs] > 0
    assert is_the_cpus(pool, host_version, picture)


def test_a_pack_that_was_loaded_before_is_wrapped_and_nothing_is_warned_of(
    before: servers.ComfyServer,
) -> None:
    assert warned(before) == {}
    states = {
        s["seam"]: s["state"]
        for s in before.client.get_json("/ipex/report", format="json")["seams"]
    }
    assert states["free-memory"] == states["empty-cache"] == "installed"


def test_the_servers_start_warns_of_what_later_packs_have_overwritten(
    after: servers.ComfyServer,
) -> None:
    overwriting = {seam: Path(by).name for seam, by in warned(after).items()}
    assert overwriting == {"free-memory": "careless", "primary-device": "device_global"}
    assert "COMFYUI_IPEX_DISABLE=free-memory" in after.log


def test_the_report_tells_wrapped_from_overwritten(after: servers.ComfyServer) -> None:
    seams = after.client.get_json("/ipex/report", format="json")["seams"]
    told = {row["seam"]: (row["state"], row["detail"]) for row in seams}
    assert told["free-memory"] == ("overwritten", "by custom_nodes/careless")
    assert told["empty-cache"] == ("installed", "wrapped by custom_nodes/device_global")
