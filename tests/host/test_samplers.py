"""Every sampler and scheduler of the host, on an emulated card without fp64."""

import functools

import hosts
import models
import probes
import pytest
from conftest import REPOSITORY

pytestmark = [pytest.mark.host, pytest.mark.oldest_and_newest]

CARD = ("-m", "xpu_emulator", "--device", "a770", "--")

# What 0.3.47 has; later hosts only added to it.
COUNTS = {"samplers": 40, "schedulers": 9}


@functools.cache
def observed(version: str) -> dict[str, dict[str, dict[str, str]]]:
    """What each of them gave, by the model's kind."""
    host = hosts.installed(version)
    arguments = (str(models.written()), str(REPOSITORY))
    settings = {"OMP_NUM_THREADS": "1"}
    return dict(probes.ask(host, "samplers", *arguments, prefix=CARD, settings=settings))


@pytest.mark.parametrize("kind", ["flow", "eps"])
@pytest.mark.parametrize("listed", COUNTS)
def test_all_give_numbers_without_fp64(host_version: str, kind: str, listed: str) -> None:
    answers = observed(host_version)[kind][listed]
    assert {name: answer for name, answer in answers.items() if answer != "finite"} == {}
    if hosts.installed(host_version).version == "0.3.47":
        assert len(answers) == COUNTS[listed]
    assert len(answers) >= COUNTS[listed]
