"""Where the C++ class behind a name is: PySide6, or one of our stand-ins for ctk and qMRML."""

import enum
import functools

from PySide6 import QtCore, QtGui, QtUiTools, QtWidgets

from Testing.host.api import api

stand_ins: dict[str, type] = {}
"""Filled by the modules that define stand-ins."""

# Older spellings of recorded enums that PySide6 names differently.
ENUM_NAMES = {"ComponentFormattingOptions": "ComponentFormattingOption"}


class HostGapError(NotImplementedError):
    """Slicer has it, this host does not model it yet: extend Testing/host."""


@functools.cache
def cpp_class(name: str) -> type:
    """Return the class that makes objects of this name.

    Raises:
        HostGapError: If neither PySide6 nor a stand-in has it.
    """
    for module in (QtWidgets, QtGui, QtCore, QtUiTools):
        if hasattr(module, name):
            return getattr(module, name)
    if name in stand_ins:
        return stand_ins[name]
    raise HostGapError(f"The host has no stand-in for {name}. Add one in Testing/host.")


@functools.cache
def cpp_enum(owner: str, name: str) -> type[enum.Enum] | None:
    """Return PySide6's type of a recorded enum (flags too); None where plain ints do."""
    try:
        scope = cpp_class(owner)
    except HostGapError:
        return None
    found = getattr(scope, ENUM_NAMES.get(name, name), None)
    if isinstance(found, type) and issubclass(found, enum.Enum):
        return found
    keys = dict(api.enum(f"{owner}::{name}", owner).values)
    kinds = [kind for kind in vars(scope).values() if isinstance(kind, enum.EnumMeta)]
    return next((kind for kind in kinds if any(key in kind.__members__ for key in keys)), None)
