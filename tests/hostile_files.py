"""Weight files that nobody should trust: pickles that run code, sizes that lie, half files."""

import functools
import io
import json
import os
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

GOOD = {"a.weight": torch.arange(12.0).reshape(3, 4), "b.bias": torch.ones(5)}


class RunsCode:
    """Unpickled, it makes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.mark}",)


class Called:
    """Unpickled, it is what a function of torch's makes of arguments."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.called = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.called


def saved(content: Any, legacy: bool = False) -> bytes:
    """What torch writes."""
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


def zipped(members: Mapping[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    """A zip archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def tarred(members: Mapping[str, bytes]) -> bytes:
    """A tar archive."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def safetensors(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    """A safetensors file; `length` is what it says of its header's."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def tensor(shape: list[int], end: int, start: int = 0, dtype: str = "F32") -> dict[str, Any]:
    """A row of a safetensors header."""
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def rebuilt(shape: tuple[int, ...], strides: tuple[int, ...], offset: int = 0) -> Any:
    """A tensor over 4 numbers, of a shape that the pickle chooses."""
    storage = torch.storage.TypedStorage(
        wrap_storage=torch.ones(4).untyped_storage(), dtype=torch.float32, _internal=True
    )
    rebuild = torch._utils._rebuild_tensor_v2
    return Called(rebuild, storage, offset, shape, strides, False, {})


def running_code(mark: Path) -> dict[str, bytes]:
    """Files that would make `mark`, by name."""
    bomb = RunsCode(mark)
    command = f"touch {mark}".encode()
    whole = pickle.dumps(bomb, 2)
    magic = [pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, {})]
    parts = {"sys_info": pickle.dumps({}, 2), "storages": whole, "tensors": whole}
    row = {"a": tensor([1], 4)}
    return {
        **{f"protocol{number}.pth": pickle.dumps(bomb, number) for number in range(6)},
        "opcodes.ckpt": b'cos\nsystem\n(S"' + command + b'"\ntR.',
        "instance.bin": b'(S"' + command + b'"\nios\nsystem\n.',
        "among_weights.pth": saved({**GOOD, "c": bomb}),
        "legacy.pt": b"".join(magic) + whole,
        "legacy_among_weights.pth": saved({**GOOD, "c": bomb}, legacy=True),
        "zip.pth": zipped({"x/data.pkl": whole, "x/version": b"3\n"}),
        "constants.pt": zipped({"x/data.pkl": whole, "x/constants.pkl": whole, "x/version": b"3"}),
        "tar.pth": tarred({**parts, "pickle": whole}),
        "named.safetensors": whole,
        "named.sft": saved({**GOOD, "c": bomb}),
        "metadata.safetensors": safetensors(
            {"__metadata__": {"pickle": whole.hex(), "code": command.decode()}, **row},
            struct.pack("<f", 1.0),
        ),
    }


@functools.cache
def lying() -> dict[str, bytes]:
    """Files that claim sizes which they do not have, by name."""
    huge = 1 << 62
    good = saved({"a": torch.ones(4)})
    with zipfile.ZipFile(io.BytesIO(good)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    data = next(name for name in members if name.endswith("data.pkl"))
    more = members[data].replace(b"K\x04t", b"\x8a\x08" + struct.pack("<q", 1 << 50) + b"t", 1)
    assert more != members[data]
    old = saved({"a": torch.ones(4)}, legacy=True)
    sizes = {name: struct.pack("<q", size) for name, size in (("far", 1 << 50), ("", 8 << 30))}
    legacy = {
        f"legacy_{name}storage.pth": old.replace(b"K\x04Nt", b"\x8a\x08" + size + b"Nt", 1)
        for name, size in sizes.items()
    }
    assert old not in legacy.values()
    return {
        **legacy,
        "header.safetensors": safetensors({}, length=huge),
        "longer_header.safetensors": safetensors({}, length=90_000_000),
        "shape.safetensors": safetensors({"a": tensor([1 << 40], 1 << 42)}),
        "overflow.safetensors": safetensors({"a": tensor([huge, huge], 0)}),
        "negative.safetensors": safetensors({"a": tensor([-1], 0)}),
        "overlap.safetensors": safetensors({"a": tensor([2], 8), "b": tensor([2], 8)}, bytes(16)),
        "unknown.safetensors": safetensors({"a": tensor([1], 4, dtype="X")}, bytes(4)),
        "deep.safetensors": safetensors(b"[" * 100_000),
        "letters.safetensors": safetensors(b'{"\xff": 1}'),
        "bomb.pth": zipped(
            {"x/data.pkl": bytes(300 << 20), "x/version": b"3\n"}, zipfile.ZIP_DEFLATED
        ),
        "storage.pth": zipped({**members, data: more}),
        "shape.pth": saved({"a": rebuilt((1 << 40,), (1,))}),
        "repeated.pth": saved({"a": rebuilt((1 << 40,), (0,))}),
        "repeated_often.pth": saved({"a": rebuilt((1 << 20, 1 << 20, 1 << 10), (0, 0, 0))}),
        "offset.pth": saved({"a": rebuilt((4,), (1,), 1 << 50)}),
        "negative.pth": saved({"a": rebuilt((-4,), (1,))}),
        "parameter.pth": saved(Called(torch._utils._rebuild_parameter, 1, 2, 3)),
        "bytes.pth": pickle.dumps(Called(bytearray, 1 << 45), 2),
        "long.pth": b"\x80\x02\x8a\x04\xff\xff\xff\x7f",
        "numbers.pth": saved({1: torch.ones(2), (2, 3): torch.ones(2)}),
        "nothing.pth": saved({}),
        "page.pth": b"<!DOCTYPE html><html>404</html>",
        "empty.pth": b"",
    }
