"""Servers that a bundle starts which was built from the Nix files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import IO

import models
from comfyui_ipex.launcher.folders import child_environment
from comfyui_ipex.launcher.server import Server, ServerCommand, free_port
from servers import ComfyServer, Configuration


@dataclass(frozen=True)
class BuiltCommand(ServerCommand):
    """A bundle's command in the place of a Python and main.py."""

    def argv(self) -> list[str]:
        """The whole command line."""
        return [*self.python, "--port", str(self.port), *self.arguments]


class BuiltServer(ComfyServer):
    """A server that a built bundle starts."""

    def __init__(
        self,
        program: Sequence[str],
        folder: Path,
        *arguments: str,
        emulator: str = "",
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """`program` is one of the bundle's commands and what stands before it.

        With `emulator`, arguments of the emulated XPU, all the bundle's Pythons have such cards.
        """
        folder.mkdir()
        self.configuration = Configuration("built")
        paths = folder / "model_paths.yaml"
        paths.write_text(models.model_paths(models.written()), encoding="utf-8")
        self.report_file = folder / "emulator.json"
        base = f"--base-directory={folder / 'base'}"
        config = f"--extra-model-paths-config={paths}"
        given = (base, config, "--disable-api-nodes", "--force-fp32", *arguments)
        command = BuiltCommand(program, folder, folder, free_port(), given)
        surroundings = {
            **child_environment(),
            "PYTHONPATH": str(Path(__file__).parent),
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
            "CUDA_VISIBLE_DEVICES": "",
            **environment,
        }
        if emulator:
            prefix = f"-m xpu_emulator {emulator} --report {self.report_file} --"
            surroundings["STUB_PYTHON_PREFIX"] = prefix
        self.log_file = folder / "server.log"
        self._log: IO[str] = self.log_file.open("w", encoding="utf-8")
        self.server = Server(command, self._log, surroundings)
        self.client = self.server.client
        try:
            self.server.wait_ready()
            self.client.upload_image("photo.png", models.photo())
        except BaseException:
            self.close()
            raise
