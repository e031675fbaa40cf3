"""Messages with tensors between this process and another one of this machine.

A message is a pickle and the tensors that belong to it. A small one goes through the connection. A
larger one goes through shared memory: the sender copies it into a block, and the receiver copies it
out into tensors of its own. So each side copies a tensor once, a block is soon free again, and
shared memory never holds a whole model. Blocks are used again: their pages are touched once.

Who frees a block: its sender made it, and takes its name away when the receiver has first read from
it. From then on the memory has no name, and the kernel frees it with the last of both processes,
whatever ends them. Before that, the resource tracker of Python removes the name if the sender dies,
and the sender removes it (`close`) if the receiver dies.
"""

import contextlib
import math
import os
import secrets
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from ..log import LOGGER

if TYPE_CHECKING:
    from multiprocessing.shared_memory import SharedMemory

    import numpy as np
    import torch

INLINE_BYTES = 16 << 10
"""A message of at most this size goes through the connection, whose buffer holds several."""

BLOCK_BYTES = 8 << 20

MOST_BLOCKS = 3
"""In each direction: the next is written while one is read. Both directions fit the 64 MiB of
shared memory that a container has by default."""

PIECE_BYTES = 32 << 10
"""Where shared memory has no room for a block, this much goes through the connection at a time."""

_ALIGNMENT = 64
"""Bytes: that of torch's own tensors."""

PREFIX = "comfyui-ipex-"
"""Begins the names of blocks."""


@dataclass(frozen=True)
class Message:
    """A value that is ready to cross, or that has crossed: see `wire`."""

    pickled: bytes
    tensors: "tuple[torch.Tensor, ...]"
    """On the CPU and contiguous."""


@dataclass(frozen=True)
class Delivery:
    """A message that has crossed, with the plain values that came along."""

    fields: tuple[Any, ...]
    message: Message


class Channel:
    """One end of a connection. One thread calls `take`; one thread at a time calls `post`."""

    def __init__(self, connection: Connection, wait: Callable[[], None] | None = None) -> None:
        """`wait` is called while there is no room to send. It must call `take`.

        Without it another thread calls `take`, and `post` waits for that one.
        """
        self.connection = connection
        self._wait = wait
        self._writing = threading.Lock()
        self._change = threading.Condition()
        self._ours = _Blocks()
        self._piece_under_way = False
        self._theirs: dict[str, SharedMemory] = {}
        self._arriving: _Arriving | None = None

    def post(self, fields: tuple[Any, ...], message: Message) -> None:
        """Send a message with `fields`, which are plain values.

        Raises `OSError` if the other side is gone, and what `wait` raises; then the other side
        forgets what it has got of this message.
        """
        contents = [_bytes_in(message.pickled), *map(_bytes_of, message.tensors)]
        rows = [
            (str(one.dtype).removeprefix("torch."), tuple(one.shape)) for one in message.tensors
        ]
        total = sum(content.size for content in contents)
        head = ("message", fields, len(message.pickled), rows)
        if total <= INLINE_BYTES:
            self._send(*head, b"".join(content.tobytes() for content in contents))
            return
        self._send(*head, None)
        self._ours.refused = False
        try:
            self._post_parts(contents, total)
        except BaseException:
            with contextlib.suppress(OSError):
                self._send("cancelled")
            raise

    def take(self) -> Delivery | None:
        """Read once. The message, if this was its last part. Waits until something comes.

        Raises `EOFError` or `OSError` when the other side is gone.
        """
        kind, *rest = self.connection.recv()
        if kind == "read":
            self._note_read(*rest)
            return None
        if kind == "cancelled":
            self._arriving = None
        elif kind == "message":
            fields, size, rows, inline = rest
            self._arriving = _Arriving(fields, size, rows)
            if inline is not None:
                self._arriving.add(_bytes_in(inline))
        else:
            self._take_part(*rest)
        if self._arriving is None or self._arriving.left:
            return None
        arrived, self._arriving = self._arriving, None
        return arrived.delivery()

    def close(self) -> None:
        """Free everything: the other side is gone, or is not wanted any more."""
        self.connection.close()
        self._ours.close()
        for block in self._theirs.values():
            block.close()
        self._theirs.clear()

    def _send(self, *plain: Any) -> None:
        with self._writing:
            self.connection.send(plain)

    def _post_parts(self, contents: "Sequence[np.ndarray]", left: int) -> None:
        source = _Cursor(contents)
        while left:
            block = self._block_to_write()
            size = min(left, BLOCK_BYTES if block else PIECE_BYTES)
            part = memoryview(bytearray(size)) if block is None else block.buf[:size]
            source.read_into(_bytes_in(part))
            if block is None:
                self._send("part", "", bytes(part))
            else:
                self._send("part", block.name, size)
            part.release()
            left -= size

    def _block_to_write(self) -> "SharedMemory | None":
        """A block, as soon as one is free. None, where there is no room for any, for a piece."""
        while True:
            with self._change:
                block = self._ours.free_block()
                if block is not None:
                    return block
                if not self._ours.exist() and not self._piece_under_way:
                    self._piece_under_way = True
                    return None
                if self._wait is None:
                    self._change.wait()
                    continue
            self._wait()

    def _note_read(self, name: str) -> None:
        with self._change:
            if name:
                self._ours.give_back(name)
            else:
                self._piece_under_way = False
            self._change.notify_all()

    def _take_part(self, name: str, what: Any) -> None:
        """`what`: the bytes themselves, or with the name of a block how many of it."""
        if self._arriving is not None:  # else its message was given up
            if name:
                part = self._attached(name).buf[:what]
                self._arriving.add(_bytes_in(part))
                part.release()
            else:
                self._arriving.add(_bytes_in(what))
        self._send("read", name)

    def _attached(self, name: str) -> "SharedMemory":
        if name not in self._theirs:
            self._theirs[name] = _attach(name)
        return self._theirs[name]


class _Blocks:
    """The blocks that this side has made."""

    def __init__(self) -> None:
        self._free: list[SharedMemory] = []
        self._in_use: dict[str, SharedMemory] = {}
        self._nameless: set[str] = set()
        self._warned = False
        self.refused = False
        """Whether there was no room for one more. A later message may try again."""

    def exist(self) -> bool:
        return bool(self._free or self._in_use)

    def free_block(self) -> "SharedMemory | None":
        """One that nobody uses, made now if need be. None if there is no room for it."""
        if not self._free and len(self._in_use) < MOST_BLOCKS and not self.refused:
            try:
                self._free.append(_make())
            except OSError as error:
                self.refused = True
                self._warn(error)
        if not self._free:
            return None
        block = self._free.pop()
        self._in_use[block.name] = block
        return block

    def _warn(self, error: OSError) -> None:
        if not self._warned and not self.exist():
            LOGGER.warning(
                "comfyui-ipex: there is no shared memory (%s). What goes to and from workers goes "
                "through a socket, which is slower. Where this is a container, start it with a "
                "larger --shm-size.",
                error,
            )
            self._warned = True

    def give_back(self, name: str) -> None:
        """The other side has read what was in this one, and has it in its memory."""
        block = self._in_use.pop(name)
        self._free.append(block)
        if name not in self._nameless:
            block.unlink()
            self._nameless.add(name)

    def close(self) -> None:
        for block in (*self._free, *self._in_use.values()):
            if block.name not in self._nameless:
                block.unlink()
            block.close()
        self._free.clear()
        self._in_use.clear()


def _make() -> "SharedMemory":
    """A block whose pages are there. Raises `OSError` where shared memory has no room for it."""
    # Where there are no workers, nothing of it is loaded.
    from multiprocessing.shared_memory import SharedMemory

    block = SharedMemory(f"{PREFIX}{secrets.token_hex(8)}", create=True, size=BLOCK_BYTES)
    if hasattr(os, "posix_fallocate"):  # Windows and macOS take it from the page file
        try:
            # A page that cannot be had when it is touched ends the process with SIGBUS.
            os.posix_fallocate(vars(block)["_fd"], 0, BLOCK_BYTES)
        except OSError:
            block.unlink()
            block.close()
            raise
    return block


def _attach(name: str) -> "SharedMemory":
    """The other side's block, which this side's resource tracker must leave alone."""
    from multiprocessing import resource_tracker
    from multiprocessing.shared_memory import SharedMemory

    if sys.version_info >= (3, 13):
        return SharedMemory(name, track=False)
    block = SharedMemory(name)
    if os.name == "posix":
        resource_tracker.unregister(f"/{name}", "shared_memory")
    return block


class _Cursor:
    """How far several arrays of bytes, one after another, were read or written."""

    def __init__(self, contents: "Sequence[np.ndarray]") -> None:
        self._contents = contents
        self._number, self._offset = 0, 0

    def read_into(self, part: "np.ndarray") -> None:
        """Copy the bytes that come next into `part`."""
        for at, content in self._next(part.size):
            part[at : at + content.size] = content

    def write(self, part: "np.ndarray") -> None:
        """Copy `part` to where the next bytes belong."""
        for at, content in self._next(part.size):
            content[:] = part[at : at + content.size]

    def _next(self, size: int) -> "Iterator[tuple[int, np.ndarray]]":
        """Go on by `size` bytes: each piece of them in one array, and how many come before it."""
        done = 0
        while done < size:
            whole = self._contents[self._number]
            content = whole[self._offset : self._offset + size - done]
            yield done, content
            done += content.size
            self._offset += content.size
            if self._offset == whole.size:
                self._number, self._offset = self._number + 1, 0


class _Arriving:
    """A message of which parts are still to come."""

    def __init__(self, fields: tuple[Any, ...], size: int, rows: list[tuple[str, Any]]) -> None:
        """`size`: of the pickle. `rows`: dtype and shape of each tensor."""
        self._fields = fields
        self._pickled = bytearray(size)
        self._tensors = tuple(map(_empty, rows))
        contents = [_bytes_in(self._pickled), *map(_bytes_of, self._tensors)]
        self._cursor = _Cursor(contents)
        self.left = sum(content.size for content in contents)
        """Bytes that are still to come."""

    def add(self, part: "np.ndarray") -> None:
        """The bytes that follow those that are here."""
        self._cursor.write(part)
        self.left -= part.size

    def delivery(self) -> Delivery:
        return Delivery(self._fields, Message(bytes(self._pickled), self._tensors))


def _empty(row: tuple[str, Any]) -> "torch.Tensor":
    """numpy asks the machine for large pages, which are handed out faster, and torch does not."""
    import numpy as np
    import torch

    dtype, shape = getattr(torch, row[0]), row[1]
    size = math.prod(shape) * dtype.itemsize
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    first = -memory.ctypes.data % _ALIGNMENT
    return torch.from_numpy(memory[first : first + size]).view(dtype).reshape(shape)


def _bytes_in(buffer: Any) -> "np.ndarray":
    import numpy as np

    return np.frombuffer(buffer, dtype=np.uint8)


def _bytes_of(tensor: "torch.Tensor") -> "np.ndarray":
    """The memory of a tensor. numpy has no bf16 and no fp8."""
    import torch

    content: np.ndarray = tensor.detach().reshape(-1).view(torch.uint8).numpy()
    return content
