"""What can go wrong with a batch, each kind with its own consequence."""


class InputError(ValueError):
    """What the user gave cannot be used: nothing was started, and the text says what to change."""


class JobFailedError(Exception):
    """A host refused a job's prompt or failed at it; the host itself goes on."""


class HostGoneError(Exception):
    """A host ended, could not be started, or does not answer; its job is for another one."""
