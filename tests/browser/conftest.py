"""The browser that these tests share."""

from collections.abc import Callable, Iterator
from typing import Any

import pages
import pytest
import servers
from servers import ServerPool


@pytest.fixture(scope="session")
def browser(pytestconfig: pytest.Config) -> Iterator[Any]:
    """Chromium, as `./test --browser` found it."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = pages.launched(playwright, pytestconfig.getoption("--browser"))
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser: Any, pool: ServerPool) -> Iterator[Callable[..., pages.ComfyPage]]:
    """Opens pages; when a test ends, none may have failed, or asked another machine."""
    opened: list[pages.ComfyPage] = []

    def open_one(version: str, device: str = "xpu", language: str = "en") -> pages.ComfyPage:
        server = pool.get(servers.on_device(version, device))
        opened.append(pages.ComfyPage(browser, server, language))
        return opened[-1]

    yield open_one
    for page in opened:
        page.close()
    for page in opened:
        assert not page.errors
        assert not page.elsewhere
