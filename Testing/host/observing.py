"""Observers of VTK objects that end with the widget they work for."""

import contextlib

import shiboken6


class Observing:
    """The observers of one Qt object."""

    def __init__(self, owner):
        self._owner = owner
        self._tags = {}

    def start(self, watched, event, call) -> None:
        """Call `call`, without arguments, on an event for as long as the owner lives."""
        if watched is None:
            return

        def heard(*_arguments):
            if shiboken6.isValid(self._owner):
                call()
            else:
                self.stop(watched)

        self._tags.setdefault(watched, []).append(watched.AddObserver(event, heard))

    def stop(self, watched) -> None:
        """Forget all events of an object."""
        for tag in self._tags.pop(watched, ()):
            with contextlib.suppress(ReferenceError):
                watched.RemoveObserver(tag)
