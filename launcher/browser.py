"""The Chromium that the page is tested in: this machine's, or Debian's package."""

import os
import shutil
from pathlib import Path

from .commands import run
from .console import step
from .errors import SetupError

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

PACKAGES = ("chromium", "fonts-dejavu-core")


def chromium() -> Path:
    """The program, installed from the system's packages where we may. Raises `SetupError`."""
    found = installed()
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        with step("Chromium, from the system's packages (about 120 MB)"):
            run("Asking for the system's packages", ["apt-get", "update", "-q"])
            command = ["apt-get", "install", "-q", "-y", "--no-install-recommends", *PACKAGES]
            run("Installing Chromium", command)
        found = installed()
    if found is None:
        raise SetupError(
            "The page is tested in Chromium, and there is none on this machine.",
            why=f"the PATH has none of {', '.join(NAMES)}",
            remedy="Install it, for example: sudo apt install chromium",
        )
    return found


def installed() -> Path | None:
    """The first of the names that is on the PATH."""
    paths = (shutil.which(name) for name in NAMES)
    return next((Path(path) for path in paths if path), None)
