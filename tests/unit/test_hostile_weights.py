"""Weight files of unknown origin: one error that names the file, before anything is done."""

import io
import resource
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hostile_files
import pytest
import torch
from comfyui_ipex.inference.weight_files import (
    WeightFileError,
    archives,
    construction,
    load_state_dict,
    load_torchscript,
)
from comfyui_ipex.nodes.upscale import loading
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save

HARMLESS = ("metadata.safetensors",)
"""What holds code in a place where nobody looks for any: it is read, and its weights are good."""

CODE = tuple(hostile_files.running_code(Path("mark")))

LIES = tuple(hostile_files.lying())


def read(folder: Path, name: str, data: bytes) -> dict[str, Any] | None:
    """The weights in a file of these bytes, or None if the file is refused by its name."""
    path = folder / name
    path.write_bytes(data)
    try:
        return load_state_dict(path)
    except WeightFileError as error:
        assert name in str(error)
        assert "weights_only" not in str(error), "the advice would run the file"
        return None


@pytest.mark.parametrize("name", CODE)
@pytest.mark.filterwarnings("ignore:.*pickle protocol")
def test_code_in_a_weight_file_is_not_run(tmp_path: Path, name: str) -> None:
    mark = tmp_path / "mark"
    found = read(tmp_path, name, hostile_files.running_code(mark)[name])
    assert (found is not None) == (name in HARMLESS)
    assert not mark.exists()


@pytest.mark.parametrize("name", LIES)
def test_sizes_that_lie_are_refused_before_the_memory_is_taken(tmp_path: Path, name: str) -> None:
    data = hostile_files.lying()[name]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert read(tmp_path, name, data) is None
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 << 10  # KiB


def damaged(data: bytes, draw: Callable[[Any], Any]) -> bytes:
    """`data` with its end cut off, bits turned, or a part of it repeated."""
    changed = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(0, len(changed) - 1)))
        kind = draw(st.sampled_from(["bit", "byte", "cut", "repeat", "zero"]))
        if kind == "cut":
            del changed[place:]
        elif kind == "repeat":
            changed[place:place] = changed[place : place + draw(st.integers(1, 64))]
        elif changed:
            turned = changed[place] ^ (1 << draw(st.integers(0, 7)))
            changed[place] = {"bit": turned, "zero": 0}.get(kind, draw(st.integers(0, 255)))
    return bytes(changed)


FORMATS = {
    "net.pth": hostile_files.saved(hostile_files.GOOD),
    "old.pth": hostile_files.saved(hostile_files.GOOD, legacy=True),
    "net.safetensors": save(hostile_files.GOOD),
}


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.filterwarnings("ignore")
def test_a_damaged_file_gives_weights_or_an_error_that_names_it(
    tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    whole = read(folder, name, FORMATS[name])
    assert whole is not None
    assert whole.keys() == hostile_files.GOOD.keys()
    refused = []

    @given(st.data())
    def one(data: st.DataObject) -> None:
        found = read(folder, name, damaged(FORMATS[name], data.draw))
        refused.append(found is None)

    one()
    assert any(refused)


def program(forward: str, members: str = "") -> bytes:
    """TorchScript whose text is written here, as nobody's compiler would."""

    class Plain(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + 1

    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(Plain()), buffer)
    with zipfile.ZipFile(buffer) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    name = next(name for name in parts if name.endswith(".py"))
    start = parts[name].decode().partition("    return ")[0]
    parts[name] = f"{start}{forward}    return x\n{members}".encode()
    return hostile_files.zipped(parts)


REACHING = {
    "save": '    torch.save(x, "{mark}")\n',
    "spread out": '    torch . \\\n save(x, "{mark}")\n',
    "hidden": '    getattr(torch, "save")(x, "{mark}")\n',
    "from_file": '    y = torch.from_file("{mark}", True, 4)\n',
    "library": '    y = ops.c10d.barrier(x, "{mark}")\n',
    "operator": '    ops.aten.save(x, "{mark}")\n',
    "alias": '    t = torch\n    t.save(x, "{mark}")\n',
    "behind a string": '    y = ("#", torch.save(x, "{mark}"))\n',
    "spread behind a string": '    y = ("#", torch. # "\n    save(x, "{mark}"))\n',
    "escaped": '    getattr(torch, "sa\\166e")(x, "{mark}")\n',
}


@pytest.mark.parametrize("name", REACHING)
@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_a_program_that_reaches_files_is_refused_before_it_is_loaded(
    tmp_path: Path, name: str
) -> None:
    path, mark = tmp_path / "net.pt", tmp_path / "mark"
    path.write_bytes(program(REACHING[name].format(mark=mark)))
    with pytest.raises(
        WeightFileError, match=r"net\.pt cannot be used: its program calls .*beyond"
    ):
        load_torchscript(path)
    assert not mark.exists()
    path.write_bytes(program(""))
    assert float(load_torchscript(path)(torch.ones(1))) == 1


def renamed(data: bytes, name: str, other: str) -> bytes:
    """The archive with another name for its members that are called `name`, of the same length."""
    assert name in data.decode("latin-1")
    return data.replace(name.encode(), other.encode())


def two_programs(mark: Path, apart: bool) -> bytes:
    """An archive in which Python's zipfile finds a harmless program, and torch one that is not.

    `apart`: there are two tables of contents, else one that lists the program's file twice.
    """
    bad = program(f'    torch.save(x, "{mark}")\n')
    with zipfile.ZipFile(io.BytesIO(bad)) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    (name,) = (name for name in parts if name.endswith(".py"))
    good = parts | {name: parts[name].replace(b"torch.save", b"torch.mul_")}
    if apart:  # the end says where the first table begins: zipfile looks right before the end
        return hostile_files.zipped(parts)[:-22] + hostile_files.zipped(good)
    buffer = io.BytesIO(hostile_files.zipped(parts))
    with zipfile.ZipFile(buffer, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr(name, good[name])
    return buffer.getvalue()


TWOFACED: dict[str, Callable[[Path], bytes]] = {
    "two tables": lambda mark: two_programs(mark, apart=True),
    "a name twice": lambda mark: two_programs(mark, apart=False),
    # torch does not tell small from capital letters
    "capitals": lambda mark: renamed(
        program(f'    torch.save(x, "{mark}")\n'), "/code/__torch__", "/CODE/__Torch__"
    ),
}


@pytest.mark.parametrize("name", TWOFACED)
@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_what_is_checked_is_what_torch_reads(tmp_path: Path, name: str) -> None:
    path, mark = tmp_path / "net.pt", tmp_path / "mark"
    path.write_bytes(TWOFACED[name](mark))
    with pytest.raises(WeightFileError, match=r"net\.pt cannot be used"):
        load_torchscript(path)(torch.ones(1))
    assert not mark.exists()


def test_archives_with_the_figures_of_large_files_are_read(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    path.write_bytes(hostile_files.zipped({f"x/{number}": b"" for number in range(1 << 16)}))
    assert path.read_bytes()[-42:].startswith(b"PK\6\7")
    archives.check_program(path)
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(archives.ArchiveError, match="damaged or incomplete"):
        archives.check_program(path)


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_a_program_in_the_place_of_weights_is_named_as_one(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    path.write_bytes(program(""))
    with pytest.raises(WeightFileError, match="TorchScript: a program"):
        load_state_dict(path)


def esrgan() -> dict[str, torch.Tensor]:
    """The smallest network that spandrel takes for an ESRGAN."""
    from spandrel.architectures.ESRGAN.__arch.RRDB import RRDBNet

    return dict(RRDBNet(num_filters=4, num_blocks=1, scale=2).state_dict())


def deeper(layer: int) -> dict[str, torch.Tensor]:
    """ESRGAN's weights, of which a block claims to be the `layer`th."""
    state = esrgan()
    for name in [name for name in state if ".sub.0.RDB1" in name]:
        state[name.replace(".sub.0.", f".sub.{layer}.")] = state[name]
    return state


GIANTS = {
    "deep": lambda: deeper(10**9),
    "wide": lambda: esrgan() | {"model.0.weight": torch.zeros(20_000, 3, 1, 1)},
    "wide and empty": lambda: esrgan() | {"model.0.weight": torch.zeros(20_000, 0, 3, 3)},
    "flat": lambda: esrgan() | {"model.0.weight": torch.zeros(())},
    "no tensor": lambda: esrgan() | {"model.0.weight": "weight"},
}


@pytest.mark.parametrize("name", GIANTS)
def test_weights_that_describe_a_giant_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "net.pth"
    torch.save(GIANTS[name](), path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(loading.ModelFileError, match=r"net\.pth cannot be used as an upscale"):
        loading.load(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500 << 10  # KiB


def test_a_network_of_its_weights_size_is_within_the_budget(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    torch.save(esrgan(), path)
    assert loading.load(path).scale == 2
    with (
        construction.limited(0),
        pytest.raises(construction.OversizeError, match="more than 1024 MiB"),
    ):
        torch.zeros(construction.SLACK // 4 + 1, device="meta")
