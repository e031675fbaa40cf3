"""Whether two revisions make the same pictures, byte for byte: ./test --compare-pictures A [B]

Every workflow of tests/workflows and of example_workflows runs with each revision, on each host and
device: the same server programs, models and emulated cards, so that only the extension differs.
B is HEAD where it is not named. What is compared are pixels, not the files around them.
"""

import argparse
import io
import json
import sys
import tempfile
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent

if __name__ == "__main__":  # as tests/conftest.py does it for pytest
    sys.path.insert(0, str(REPOSITORY / "tests"))
    package = types.ModuleType("comfyui_ipex")
    package.__path__ = [str(REPOSITORY)]
    sys.modules["comfyui_ipex"] = package

import graphs  # noqa: E402
import hosts  # noqa: E402
import models  # noqa: E402
import numpy as np  # noqa: E402
import servers  # noqa: E402
from comfyui_ipex.launcher.client import WorkflowError  # noqa: E402
from comfyui_ipex.launcher.console import say, warn  # noqa: E402
from comfyui_ipex.launcher.errors import SetupError  # noqa: E402
from comfyui_ipex.launcher.installation import EXTENSION_NAME  # noqa: E402
from comfyui_ipex.tools.house_figures import unpack_revision  # noqa: E402
from PIL import Image, ImageSequence, UnidentifiedImageError  # noqa: E402

DEVICES = ("cpu", "xpu:0")
"""The CPU, and the first of two emulated cards."""

FOLDERS = ("tests/workflows", "example_workflows")
OUR_NODES = "Ipex"

Frames = list[np.ndarray]
"""Of a picture one, of a video several: uint8 [H, W, C]."""


@dataclass
class PictureSet:
    """What a workflow gave with one revision."""

    pictures: dict[str, Frames] = field(default_factory=dict)
    """By the saving node and the picture's place in its list."""
    failure: str = ""
    """Why there are none."""
    absent_nodes: tuple[str, ...] = ()
    """Nodes of the host's own that this version of it does not have; it is not run then."""


@dataclass(frozen=True)
class Verdict:
    """A row of the table."""

    compared: int
    """Pictures that both revisions made."""
    problem: str
    """What is not the same; "" if nothing is."""
    note: str = ""


def read_workflows(folder: Path) -> dict[str, Any]:
    """Every workflow of an unpacked revision by its path, in the form in which it is saved."""
    paths = (path for below in FOLDERS for path in sorted((folder / below).glob("*.json")))
    return {
        path.relative_to(folder).as_posix(): json.loads(path.read_text(encoding="utf-8"))
        for path in paths
    }


def read_frames(data: bytes) -> Frames:
    """The pixels of a picture or of a video, whatever else its file says."""
    try:
        with Image.open(io.BytesIO(data)) as opened:
            return [np.asarray(frame.copy()) for frame in ImageSequence.Iterator(opened)]
    except UnidentifiedImageError:
        import av

        with av.open(io.BytesIO(data)) as container:
            return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def difference(one: Frames, other: Frames) -> str:
    """How two pictures differ, in words; "" if every byte is the same."""
    shapes = [[(frame.shape, frame.dtype.name) for frame in frames] for frames in (one, other)]
    if shapes[0] != shapes[1]:
        return f"{shapes[0]} became {shapes[1]}"
    apart = [np.abs(a.astype(int) - b.astype(int)) for a, b in zip(one, other, strict=True)]
    count = sum(int(np.count_nonzero(frame)) for frame in apart)
    most = max((int(frame.max()) for frame in apart), default=0)
    return f"{count} values differ, by up to {most}" if count else ""


def compare_sets(one: PictureSet, other: PictureSet) -> Verdict:
    """What became of one workflow from the one revision to the other."""
    if one.failure or other.failure:
        why = [f"{side}: {each.failure}" for side, each in _sides(one, other) if each.failure]
        return Verdict(0, "; ".join(why))
    if one.absent_nodes or other.absent_nodes:
        same = one.absent_nodes == other.absent_nodes
        absent = ", ".join(sorted({*one.absent_nodes, *other.absent_nodes}))
        return Verdict(0, "" if same else "one has nodes that the other lacks", f"no {absent}")
    if not one.pictures and not other.pictures:
        return Verdict(0, "it made no picture")
    problems = []
    for name in sorted({*one.pictures, *other.pictures}):
        missing = [side for side, each in _sides(one, other) if name not in each.pictures]
        if missing:
            problems.append(f"{name} is missing in {missing[0]}")
        elif found := difference(one.pictures[name], other.pictures[name]):
            problems.append(f"{name}: {found}")
    return Verdict(len({*one.pictures} & {*other.pictures}), "; ".join(problems))


def _sides(one: PictureSet, other: PictureSet) -> tuple[tuple[str, PictureSet], ...]:
    return (("A", one), ("B", other))


class RevisionServer:
    """A server of one host on one device with the extension of one revision."""

    def __init__(self, version: str, device: str, extension: Path, folder: Path) -> None:
        self.device = device
        link = folder / "custom_nodes" / EXTENSION_NAME
        link.parent.mkdir(parents=True)
        link.symlink_to(extension, target_is_directory=True)
        usual = servers.on_device(version, device)
        configuration = servers.Configuration(
            version, usual.arguments, extension=False, emulator=usual.emulator
        )
        self.server = servers.ComfyServer(configuration, folder, cuda="")
        self.client = self.server.client
        for name, data in (
            ("photo.png", models.photo()),
            ("example.png", models.photo()),
            ("example.mp4", graphs.video()),
        ):
            self.client.upload_image(name, data)
        if link.resolve() != extension or not any(one.startswith(OUR_NODES) for one in self.nodes):
            self.server.close()
            raise SetupError(f"ComfyUI {version} did not load the extension in {extension}.")

    @property
    def nodes(self) -> Mapping[str, Any]:
        """What the server says about its nodes; what they offer changes with files."""
        return dict(self.client.get_json("/object_info"))

    def make_pictures(self, saved: Mapping[str, Any]) -> PictureSet:
        """Run a workflow with nothing loaded or cached, and fetch all that it saved."""
        prompt = self._prompt(saved)
        if isinstance(prompt, PictureSet):
            return prompt
        for _ in range(servers.FRESH_TRIES):
            self.server.forget()
            try:
                events, record = self.server.execute(prompt)
            except (WorkflowError, TimeoutError) as error:
                return PictureSet(failure=str(error).strip().splitlines()[0])
            if {*servers.executed_nodes(events)} == {*prompt}:
                return PictureSet(dict(self._fetch(record["outputs"])))
        return PictureSet(failure="some nodes came from the server's cache again and again")

    def _fetch(self, outputs: Mapping[str, Any]) -> Iterator[tuple[str, Frames]]:
        for node, output in outputs.items():
            for place, file in enumerate(output.get("images", [])):
                names = {name: file[name] for name in ("filename", "subfolder", "type")}
                yield f"{node}.{place}", read_frames(self.client.get("/view", **names))

    def _prompt(self, saved: Mapping[str, Any]) -> dict[str, Any] | PictureSet:
        """The workflow in API format, small and on this server's device, or why it cannot run."""
        from_the_page = "links" in saved
        wanted = (
            {node["type"] for node in saved["nodes"]}
            if from_the_page
            else {node["class_type"] for node in saved.values()}
        )
        known = self.nodes
        absent = sorted(wanted - known.keys())
        if ours := [name for name in absent if name.startswith(OUR_NODES)]:
            return PictureSet(failure=f"the extension has no {', '.join(ours)}")
        if absent:
            return PictureSet(absent_nodes=tuple(absent))
        prompt: dict[str, Any] = json.loads(json.dumps(saved))
        if from_the_page:
            prompt = graphs.made_small(graphs.as_prompt(saved, known))
            graphs.write_stand_ins(prompt)
            if unknown := graphs.unknown_choices(prompt, self.nodes):
                return PictureSet(failure=f"tests/graphs.py needs STAND_INS for {unknown}")
        for node in prompt.values():
            if node["class_type"].startswith(OUR_NODES) and "device" in node["inputs"]:
                node["inputs"]["device"] = self.device
            if "verify" in node["inputs"]:
                # IPEX Optimize keeps what was faster: the same revision may decide otherwise twice.
                node["inputs"]["verify"] = False
        return prompt

    def close(self) -> None:
        self.server.close()


def make_all(
    version: str, device: str, extension: Path, workflows: Mapping[str, Any], folder: Path
) -> dict[str, PictureSet]:
    """What a revision makes of every workflow on a server of its own.

    Where the server does not start, that is every workflow's failure.
    """
    try:
        server = RevisionServer(version, device, extension, folder)
    except SetupError as error:
        return {name: PictureSet(failure=error.what) for name in workflows}
    try:
        return {name: server.make_pictures(saved) for name, saved in workflows.items()}
    finally:
        server.close()


def compare_revisions(
    unpacked: Sequence[Path], versions: Sequence[str], devices: Sequence[str], only: Sequence[str]
) -> Iterator[tuple[str, str, str, Verdict]]:
    """A row for each host, device and workflow: these three, and what came of it."""
    first, second = (read_workflows(folder) for folder in unpacked)
    workflows = {
        name: saved
        for name, saved in (second | first).items()
        if not only or Path(name).stem in only
    }
    for version in versions:
        for device in devices:
            with tempfile.TemporaryDirectory(prefix="comfyui-ipex-compare-") as scratch:
                one, other = (
                    make_all(version, device, extension, workflows, Path(scratch) / side)
                    for side, extension in zip("AB", unpacked, strict=True)
                )
            for name in workflows:
                verdict = compare_sets(one[name], other[name])
                if first.get(name) != second.get(name):
                    note = "the workflow is not the same in both; A's ran, where A has it"
                    verdict = Verdict(verdict.compared, verdict.problem, note)
                yield version, device, name, verdict


def print_table(rows: Iterator[tuple[str, str, str, Verdict]]) -> int:
    """Print rows as they come, then their sum. The exit status: 0 if all is the same.

    It is 1 as well where a host and device had nothing to compare.
    """
    compared: dict[tuple[str, str], int] = {}
    problems = 0
    for version, device, name, verdict in rows:
        place = (version, device)
        compared[place] = compared.get(place, 0) + verdict.compared
        result = verdict.problem or ("same" if verdict.compared else "not run")
        say(f"{version:8} {device:6} {name:42} {verdict.compared:>3}  {result}")
        if verdict.note:
            say(f"{'':61} {verdict.note}")
        problems += bool(verdict.problem)
    empty = [place for place, count in compared.items() if not count]
    for version, device in empty:
        warn(f"ComfyUI {version} on {device}: no picture was compared.")
    if not compared:
        warn("No workflow ran.")
    total = sum(compared.values())
    say(f"{total} pictures of both revisions were compared; {problems} workflows are not the same.")
    return 1 if problems or empty or not compared else 0


def main(arguments: Sequence[str]) -> int:
    """Compare two revisions; returns the exit status."""
    parser = argparse.ArgumentParser(prog="./test --compare-pictures", description=__doc__)
    parser.add_argument("revisions", nargs="+", metavar="REVISION", help="A, then B (HEAD)")
    parser.add_argument("--host", action="append", choices=hosts.VERSIONS, help="only this version")
    parser.add_argument("--device", action="append", choices=DEVICES, help="only this device")
    parser.add_argument("--only", action="append", default=[], metavar="WORKFLOW")
    chosen = parser.parse_args(arguments)
    if len(chosen.revisions) > 2:
        parser.error("two revisions are compared")
    first, second = [*chosen.revisions, "HEAD"][:2]
    with tempfile.TemporaryDirectory(prefix="comfyui-ipex-revisions-") as scratch:
        unpacked = []
        for side, revision in (("A", first), ("B", second)):
            folder = Path(scratch).resolve() / side / EXTENSION_NAME
            say(f"{side}: {revision}, commit {unpack_revision(revision, folder)}")
            unpacked.append(folder)
        versions, devices = chosen.host or hosts.VERSIONS, chosen.device or DEVICES
        return print_table(compare_revisions(unpacked, versions, devices, chosen.only))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
