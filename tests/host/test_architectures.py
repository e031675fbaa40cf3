"""Every architecture that spandrel knows loads and runs, on an emulated card.

A sample; `./test --campaign` runs them all.
"""

from typing import Any

import hosts
import probes
import pytest
import sampling
from architecture_table import EXTRA, TABLE
from conftest import REPOSITORY

pytestmark = pytest.mark.host

CARD = ("-m", "xpu_emulator", "--device", "a770", "--")


SAMPLE = 13

ALWAYS = ("ESRGAN", "GFPGAN", "LaMa")
"""One that enlarges, one for faces, one that fills masks."""


@pytest.fixture(scope="module")
def seen(pytestconfig: pytest.Config) -> dict[str, Any]:
    """What the probe saw: for each architecture what is wrong with it, "" if nothing is."""
    names = tuple(TABLE)
    if not pytestconfig.getoption("--campaign"):
        names = sampling.share("architectures of upscale models", names, SAMPLE, ALWAYS)
    host = hosts.installed(hosts.REFERENCE)
    found = probes.ask(host, "architectures", str(REPOSITORY), *names, prefix=CARD)
    assert set(found) == set(names)
    return {name: one["wrong"] for name, one in found.items()}


def test_the_table_has_every_architecture_of_the_installed_spandrel() -> None:
    from spandrel import MAIN_REGISTRY
    from spandrel_extra_arches import EXTRA_REGISTRY

    main = {support.architecture.id for support in MAIN_REGISTRY.architectures()}
    extra = {support.architecture.id for support in EXTRA_REGISTRY}
    assert extra == EXTRA
    assert set(TABLE) == main | extra


def test_every_architecture_gives_what_spandrels_own_call_gives(seen: dict[str, Any]) -> None:
    """Batches, gray, faces of fixed size and masks included; see the probe."""
    wrong = {name: text for name, text in seen.items() if text}
    assert not wrong, "\n".join(f"{name}: {text}" for name, text in wrong.items())
