"""Errors that a user can act on."""


class SemiSupSegError(Exception):
    """Something a person can mend: the message says what happened, to which file, what to do."""


class UsageError(SemiSupSegError):
    """The command or its options make no sense (exit code 2)."""


class StoppedError(SemiSupSegError):
    """Work ended because somebody asked for it; it can be resumed (exit code 3)."""
