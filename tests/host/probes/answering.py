"""How a probe answers: one line of JSON."""

import json
import traceback
from collections.abc import Callable, Iterable
from typing import Any


def print_answers(checks: Iterable[Callable[[], Any]]) -> None:
    """Print, for each function by its name, what it saw, or the traceback of what broke."""
    answers = {}
    for check in checks:
        try:
            answers[check.__name__] = check()
        except Exception:  # noqa: BLE001  (a check that breaks is an answer)
            answers[check.__name__] = traceback.format_exc()
    print(json.dumps(answers))
