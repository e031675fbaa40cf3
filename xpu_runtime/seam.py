"""Seams: replacements of single functions in a running host. Standard library only.

A seam is checked before anything is assigned, stands or falls alone, and can be taken out.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from enum import Enum

from .replacement import (
    Factory,
    Replacement,
    TargetError,
    by_whom,
    describe_error,
    find_earlier,
    install_replacement,
    is_loaded,
    leads_to,
    wrapped_chain,
)


@dataclass(frozen=True)
class Seam:
    """One function of the host that is replaced while it runs."""

    name: str
    """What users call it in their settings: "free-memory"."""
    target: str
    """ "module:function", "module:Class.method" or "module:TABLE[Key].method"."""
    replace: Factory
    """Makes a new function around the original that it is given. Must change nothing else."""
    reason: str
    """What fails without it, in a user's words."""
    not_needed: Callable[[], str | None] = lambda: None
    """Why this system does without the seam, or None if it needs it."""
    also: tuple[str, ...] = ()
    """Places "module:attribute" in host modules that may hold a copy of the original; "comfy.*"
    stands for all modules of such names. A copy is replaced too if its module is loaded and it
    is the identical object."""


class SeamState(Enum):
    """Where a seam stands; the value is the wording of the report."""

    INSTALLED = "installed"
    NOT_NEEDED = "not needed"
    DISABLED = "disabled"
    UNSUPPORTED = "unsupported host"
    OVERWRITTEN = "overwritten"
    REMOVED = "removed"


@dataclass(frozen=True)
class SeamStatus:
    seam: str
    target: str
    state: SeamState
    detail: str
    """Why, or by whom; may be empty."""
    reason: str
    """The seam's own reason: what fails without it."""

    @property
    def text(self) -> str:
        """The state and its detail: "overwritten (by other_pack)"."""
        return f"{self.state.value} ({self.detail})" if self.detail else self.state.value


class SeamError(RuntimeError):
    """Settings that cannot be met: an unknown seam, or a required one that does not install."""


class Installation:
    """Owns what one table of seams has changed in this process."""

    def __init__(self, seams: Iterable[Seam]) -> None:
        """Change nothing yet. Raises `SeamError` if two seams have one name."""
        self._seams: dict[str, Seam] = {}
        for seam in seams:
            if seam.name in self._seams:
                raise SeamError(f"Two seams are called {seam.name!r}. Rename one of them.")
            self._seams[seam.name] = seam
        self._held: dict[str, Replacement] = {}
        self._statuses: dict[str, SeamStatus] = {}

    def install(
        self,
        disabled: Collection[str] = (),
        required: Collection[str] = (),
        loaded_only: bool = False,
    ) -> list[SeamStatus]:
        """Install what is needed, neither `disabled` nor installed already; say how each stands.

        With `loaded_only` seams in modules that are not imported yet wait for a later call; they
        are no rows of the answer until then.

        A seam that cannot be installed is a row of the answer and changes nothing. Raises
        `SeamError` before anything is changed if a name is unknown or both disabled and
        required, and after all seams had their turn if the host does not support a required one.
        """
        self.check_names(disabled, required)
        for seam in self._seams.values():
            if not loaded_only or is_loaded(seam.target):
                self._statuses[seam.name] = self._install(seam, disabled)
        unmet = [
            status
            for status in self.statuses()
            if status.seam in required and status.state is SeamState.UNSUPPORTED
        ]
        if unmet:
            raise SeamError(
                " ".join(
                    f"The seam {status.seam!r} is required by your settings but cannot be "
                    f"installed in this host: {status.detail}. Without it: {status.reason}"
                    for status in unmet
                )
                + " Take the name out of your settings to start without it, or run a ComfyUI "
                "version that comfyui-ipex supports."
            )
        return self.statuses()

    def verify(self) -> list[SeamStatus]:
        """Look again at what stands in the host: other packs may have come later."""
        for name, held in self._held.items():
            self._statuses[name] = _look(self._seams[name], held)
        return self.statuses()

    def uninstall(self) -> list[SeamStatus]:
        """Restore the host, last seam first, where what stands is still ours.

        Where it is not, the seam is overwritten and the place is left alone. What an earlier
        installation put there stays.
        """
        for name, held in reversed(self._held.copy().items()):
            if held.replaced:
                self._statuses[name] = self._uninstall(self._seams[name], held)
        return self.statuses()

    def statuses(self) -> list[SeamStatus]:
        """The last known status of every seam in the table's order; empty before `install`."""
        return [self._statuses[name] for name in self._seams if name in self._statuses]

    def check_names(self, disabled: Collection[str], required: Collection[str]) -> None:
        """Raise `SeamError` if a name is unknown, or both disabled and required."""
        unknown = sorted({*disabled, *required} - self._seams.keys())
        if unknown:
            raise SeamError(
                f"No seam is called {' or '.join(map(repr, unknown))}. Correct the name in your "
                f"settings. The names are: {', '.join(sorted(self._seams)) or '(none)'}."
            )
        both = sorted({*disabled} & {*required})
        if both:
            raise SeamError(
                f"{', '.join(both)}: both disabled and required. Take it out of one setting."
            )

    def _install(self, seam: Seam, disabled: Collection[str]) -> SeamStatus:
        held = self._held.get(seam.name)
        if held is None or not held.replaced:
            # Before asking whether it is needed: a host that we have put right does not need us.
            held = find_earlier(seam.name, seam.target)
        if held is None:
            self._held.pop(seam.name, None)
            if seam.name in disabled:
                return _status(seam, SeamState.DISABLED, "by your settings")
            try:
                why = why_not_needed(seam)
                if why is not None:
                    return _status(seam, SeamState.NOT_NEEDED, why)
                held = install_replacement(seam.name, seam.target, seam.replace, seam.also)
            except TargetError as error:
                return _status(seam, SeamState.UNSUPPORTED, str(error))
        self._held[seam.name] = held
        return _look(seam, held)

    def _uninstall(self, seam: Seam, held: Replacement) -> SeamStatus:
        left = [replaced.place for replaced in reversed(held.replaced) if not replaced.put_back()]
        if held.place in left:
            standing = held.place.standing()
            wrapped = "wrapped " if leads_to(standing, held.function) else ""
            detail = f"{wrapped}{by_whom(held.place)}"
            return _status(seam, SeamState.OVERWRITTEN, detail)
        del self._held[seam.name]
        details = [f"{place.name} left alone: overwritten {by_whom(place)}" for place in left]
        return _status(seam, SeamState.REMOVED, "; ".join(details))


def _status(seam: Seam, state: SeamState, detail: str = "") -> SeamStatus:
    return SeamStatus(seam.name, seam.target, state, detail, seam.reason)


def _look(seam: Seam, held: Replacement) -> SeamStatus:
    """What stands in the host now, where `held` was installed."""
    standing = held.place.standing()
    if not leads_to(standing, held.function):
        return _status(seam, SeamState.OVERWRITTEN, by_whom(held.place))
    details = [] if held.replaced else ["by an earlier installation"]
    if next(wrapped_chain(standing)) is not held.function:
        details.append(f"wrapped {by_whom(held.place)}")
    for copy in held.replaced[1:]:
        if not leads_to(copy.place.standing(), held.function):
            details.append(f"{copy.place.name} overwritten {by_whom(copy.place)}")
    return _status(seam, SeamState.INSTALLED, "; ".join(details))


def why_not_needed(seam: Seam) -> str | None:
    """The seam's own `not_needed`. Raises `TargetError` if that fails."""
    try:
        return seam.not_needed()
    except Exception as error:  # a seam's own check may raise anything
        message = f"whether it is needed could not be found out: {describe_error(error)}"
        raise TargetError(message) from error
