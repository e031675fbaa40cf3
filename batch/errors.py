"""What can go wrong with a batch, each kind with its own consequence."""


class BatchInputError(ValueError):
    """What the user gave cannot be used: nothing was started, and the text says what to change."""


class JobFailedError(Exception):
    """A server refused a job's prompt or failed at it; the server itself goes on."""


class ServerGoneError(Exception):
    """A server ended, could not be started, or does not answer; its job is for another one."""
