"""What was found out about weights, remembered by a digest of them and bounded in number."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

import torch
from torch import nn

Answer = TypeVar("Answer")


class Memo(Generic[Answer]):
    """Answers by question; beyond `most`, those that were not asked for longest go."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._answers: OrderedDict[Hashable, Answer] = OrderedDict()

    def find(self, question: Hashable, compute: Callable[[], Answer]) -> Answer:
        """The answer; `compute()` the first time. Raises what that raises."""
        if question not in self._answers:
            self._answers[question] = compute()
        self._answers.move_to_end(question)
        while len(self._answers) > self._most:
            self._answers.popitem(last=False)
        return self._answers[question]

    def get(self, question: Hashable) -> Answer | None:
        """The answer, or None if it was never found."""
        return self._answers.get(question)

    def clear(self) -> None:
        self._answers.clear()

    def __contains__(self, question: Hashable) -> bool:
        return question in self._answers

    def __len__(self) -> int:
        return len(self._answers)


def digest_of(module: nn.Module) -> str:
    """A hash of a module's weights: names, shapes, dtypes and bytes."""
    digest = hashlib.blake2b(digest_size=16)
    for name, value in sorted(module.state_dict().items()):
        digest.update(f"{name}{tuple(value.shape)}{value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
