"""Why a set-up step failed, and what to do about it."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

# First match wins. The texts are those of Debian's and Ubuntu's python3, git and uv.
REMEDIES: tuple[tuple[str, str], ...] = (
    (
        r"ensurepip is not available|No module named '?(ensurepip|venv)",
        "Install Python's venv module: sudo apt install python3-venv",
    ),
    (r"No space left on device", "Free at least 8 GB on this disk, then run the same command."),
    (
        r"Permission denied",
        "Check who owns the folder named above; do not run the launcher with sudo.",
    ),
    (
        r"CERTIFICATE_VERIFY_FAILED|invalid peer certificate",
        "This network inspects TLS: set SSL_CERT_FILE to its certificate bundle.",
    ),
    (
        r"dns error|Name or service not known|Temporary failure in name resolution"
        r"|Could not resolve host|[Cc]onnection (refused|reset|timed out)|Network is unreachable",
        "Check the network connection and the HTTPS_PROXY setting, then run the same command.",
    ),
    (
        r"No solution found|no wheels? with a matching",
        "A package has no build for this Python: use Python 3.10 to 3.13.",
    ),
)

FALLBACK_REMEDY = "Run the command above by hand to see all of its output, then start again."


@dataclass
class SetupError(Exception):
    """A set-up step that could not be done.

    Finished steps are kept, so running the launcher again resumes at the failed one.
    """

    what: str
    """What could not be done, in a user's words."""
    why: str = ""
    """The cause: usually the last lines that the failed command printed."""
    remedy: str = FALLBACK_REMEDY
    """What the user can do."""
    command: Sequence[str] = ()
    """The command that failed, if it was one."""

    def __str__(self) -> str:
        lines = [self.what]
        if self.command:
            lines.append(f"  command: {shlex.join(self.command)}")
        if self.why:
            lines += ["  it said: " + line for line in self.why.splitlines()]
        lines.append(f"  remedy:  {self.remedy}")
        lines.append("  Finished steps are kept; the next start resumes here.")
        return "\n".join(lines)


def remedy_for(output: str) -> str:
    """The remedy for a failed command, from what it printed."""
    for pattern, remedy in REMEDIES:
        if re.search(pattern, output):
            return remedy
    return FALLBACK_REMEDY
