"""What the running server shows and checks: the report, every card, changes that were undone.

Outside of a server, in probes and scripts, nothing of this happens. aiohttp is the host's.
"""

import functools
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from . import host, report, workers
from .devices import CPU, Device
from .log import LOGGER
from .readable import Unreadable, readable
from .report import SystemReport
from .runtime import Runtime
from .seam import Installation, SeamState, SeamStatus

if TYPE_CHECKING:
    from aiohttp import web

REPORT_PATH = "/ipex/report"

# The host serves every route under /api as well.
STATS_PATHS = frozenset({"/system_stats", "/api/system_stats"})


def attach(runtime: Runtime) -> None:
    """Give the server of this process, if one is being set up, all that this module offers.

    Does nothing a second time, or after the server has started.
    """
    server = host.server()
    if server is None or server.app.frozen:
        return
    if any(getattr(route, "path", None) == REPORT_PATH for route in server.routes):
        return
    server.routes.get(REPORT_PATH)(report_handler(runtime))
    if hides_devices(runtime.found):
        server.app.middlewares.append(every_device(runtime.found))
    if runtime.installation is not None:
        server.app.on_startup.append(verification(runtime.installation))


def report_handler(runtime: Runtime) -> Callable[["web.Request"], Awaitable["web.Response"]]:
    """GET: the report as text, or as JSON with ?format=json or `Accept: application/json`."""

    async def answer(request: "web.Request") -> "web.Response":
        import asyncio

        from aiohttp import web

        accepted = "json" if "application/json" in request.headers.get("Accept", "") else "text"
        wanted = request.query.get("format", accepted)
        if wanted not in ("json", "text"):
            return web.Response(status=400, text=f"format is {wanted!r}: use json or text.\n")
        # Drivers may take their time, and the loop serves everybody.
        found = await asyncio.get_running_loop().run_in_executor(
            None, collect_with_workers, runtime
        )
        headers = {"Cache-Control": "no-store"}
        if wanted == "json":
            return web.json_response(text=report.as_json(found), headers=headers)
        return web.Response(text=report.as_text(found), headers=headers)

    return answer


def collect_with_workers(runtime: Runtime) -> SystemReport:
    """The report of this process, with those of its workers. Asks drivers: it may take a while."""
    return report.collect(runtime, workers=workers.started())


def hides_devices(found: Sequence[Device]) -> bool:
    """Whether this host's /system_stats would list fewer cards than the process has.

    Only with an Intel GPU among several cards; newer hosts list them all.
    """
    cards = [device for device in found if device.kind != CPU]
    one_of_several = len(cards) > 1 and any(card.kind == "xpu" for card in cards)
    return one_of_several and host.runs_on_gpu() and not host.has("get_all_torch_devices")


def every_device(found: Sequence[Device]) -> Any:
    """A middleware that adds to /system_stats the cards of `found` that the host leaves out."""
    from aiohttp import web

    @web.middleware
    async def add_devices(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        response = await handler(request)
        if request.path in STATS_PATHS and isinstance(response, web.Response) and response.text:
            completed = with_every_device(response.text, found)
            if completed is not None:
                response.text = completed
        return response

    return add_devices


def with_every_device(text: str, found: Sequence[Device]) -> str | None:
    """The host's answer with rows for the cards of `found` that it lacks, the rest as it was.

    None where there is nothing to add, or it is not the answer that hosts give.
    """
    stats = readable(lambda: json.loads(text))
    listed = stats.get("devices") if isinstance(stats, dict) else None
    if not isinstance(listed, list):
        return None
    rows = missing_rows(listed, found)
    listed += rows
    return json.dumps(stats) if rows else None


def missing_rows(
    listed: Iterable[Mapping[str, Any]], found: Sequence[Device]
) -> list[dict[str, Any]]:
    """Rows for the cards of `found` that `listed` lacks; for one without figures, a warning."""
    rows = []
    for device in missing(listed, found):
        row = readable(functools.partial(_row, device.name))
        if isinstance(row, Unreadable):
            LOGGER.warning("comfyui-ipex: %s is not in /system_stats: %s", device.name, row.why)
        else:
            rows.append(row)
    return rows


def missing(listed: Iterable[Mapping[str, Any]], found: Sequence[Device]) -> list[Device]:
    """The cards of `found` that are no row of `listed`."""
    names = {f"{row.get('type')}:{row.get('index')}" for row in listed}
    return [device for device in found if device.kind != CPU and device.name not in names]


def _row(name: str) -> dict[str, Any]:
    import torch

    return host.device_stats(torch.device(name))


def verification(installation: Installation) -> Callable[[Any], Awaitable[None]]:
    """For the server's start, when every pack was loaded: warn of changes that were undone."""

    async def verify(_: Any) -> None:
        for line in overwritten(installation.verify()):
            LOGGER.warning("%s", line)

    return verify


def overwritten(statuses: Iterable[SeamStatus]) -> list[str]:
    """A line for each seam that something else has replaced: by whom, what fails, what to do."""
    return [
        f"comfyui-ipex: {status.seam}: {status.text} after it was installed. Without it: "
        f"{status.reason}. Remove the other one if you meet this, or accept it with "
        f"COMFYUI_IPEX_DISABLE={status.seam}."
        for status in statuses
        if status.state is SeamState.OVERWRITTEN
    ]
