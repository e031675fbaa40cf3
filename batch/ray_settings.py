"""How Ray is told to listen and whom to trust, before it is imported or started."""

import os
import secrets
import stat
from pathlib import Path

from .errors import BatchInputError

LOOPBACK = "127.0.0.1"

DEVICE = "comfyui-ipex "
"""Begins the name of Ray's resource for a device; the plan's name follows."""


def address_of(text: str) -> tuple[str, int]:
    """IP address and port of "10.0.0.1:6379". Raises `BatchInputError`."""
    ip, _, port = text.rpartition(":")
    if not ip or not port.isdigit() or not 0 < int(port) < 65536:
        raise BatchInputError(f"{text!r} is no address. Write IP:PORT, for example 10.0.0.1:6379.")
    return ip, int(port)


def is_loopback(ip: str) -> bool:
    """Whether only this machine reaches that address."""
    return ip == LOOPBACK


def environment(ip: str, token: Path) -> dict[str, str]:
    """Ray's settings for a cluster whose machines have addresses like `ip`."""
    settings = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_USAGE_STATS_ENABLED": "0",
        # Ray would hide every card from actors that ask it for none.
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        # Ray would end actors, and servers with them, where 95 % of the machine's memory is in use,
        # by whomever. ComfyUI manages its own, and fills it on purpose.
        "RAY_memory_monitor_refresh_ms": "0",
    }
    if is_loopback(ip):
        # Ray's own name for: talk over the loopback interface. Without it, it listens on all.
        settings["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    return settings


def make_token(path: Path) -> bool:
    """Write a new token that only this user may read, unless the file is there already."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return False
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(secrets.token_hex(32))
    return True


def check_token(path: Path | None) -> Path:
    """The file with the cluster's token. Whoever has that may run programs on every machine.

    Raises `BatchInputError` if others can read the file, or it holds no token.
    """
    if path is None:
        raise BatchInputError(
            "A cluster needs its token: --token-file FILE. ./comfyui-ipex node --head makes it."
        )
    path = path.expanduser().resolve()
    try:
        mode = path.stat().st_mode
        held = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BatchInputError(f"The token {path} cannot be read: {error}") from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise BatchInputError(f"Others may read the token {path}. Change that: chmod 600 {path}")
    if len(held) < 32:
        raise BatchInputError(f"{path} holds no token. ./comfyui-ipex node --head makes one.")
    return path
