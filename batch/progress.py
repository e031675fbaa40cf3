"""How far a batch is, and how long it will take."""

import collections


class TimeLeft:
    """An estimate from the pace of the last jobs, so that a host that joins or leaves counts."""

    WINDOW = 50

    def __init__(self, began: float) -> None:
        """`began`: seconds of a clock that never goes back; the same clock gives `note` its."""
        self._marks: collections.deque[float] = collections.deque([began], maxlen=self.WINDOW + 1)

    def note(self, now: float) -> None:
        """A job was finished now."""
        self._marks.append(now)

    def seconds(self, remaining: int, now: float) -> float | None:
        """Seconds until `remaining` jobs are done; None before the first one was."""
        jobs = len(self._marks) - 1
        if not jobs:
            return None
        # Waiting for a job that takes longer than its share must not look like progress.
        spent = max(self._marks[-1] - self._marks[0], (now - self._marks[0]) * jobs / (jobs + 1))
        return remaining * spent / jobs


def duration(seconds: float) -> str:
    """Seconds as people write them: "42 s", "3:07 min", "2:05 h", "3 d 4 h"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02} min"
    minutes = whole // 60
    if minutes < 24 * 60:
        return f"{minutes // 60}:{minutes % 60:02} h"
    return f"{minutes // 1440} d {minutes % 1440 // 60} h"
