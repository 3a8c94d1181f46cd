"""Stand-ins for ctk and qMRML classes: recorded properties and signals over a PySide6 widget."""

import collections

from PySide6 import QtCore

from Testing.host.api import api, split_types
from Testing.host.conversion import FLOATS, INTEGERS
from Testing.host.cpp_classes import stand_ins
from Testing.host.signals import normalized, stand_in_signal_name

PYTHON_TYPES = {"bool": bool, "QString": str, "QStringList": "QStringList"}


def property_type(type_name: str, owner: str) -> object:
    """Return the type for QtCore.Property; enums are ints here, as PythonQt shows them."""
    if type_name in INTEGERS or api.enum(type_name, owner):
        return int
    return float if type_name in FLOATS else PYTHON_TYPES.get(type_name, "QVariant")


EMPTY = {bool: False, int: 0, float: 0.0, str: "", "QStringList": []}


def stored(name: str, kind: object, default: object) -> QtCore.Property:
    """Return a property that only remembers its value."""
    initial = EMPTY.get(kind) if default is None else default

    def get(self: object) -> object:
        return self.__dict__.get(f"_stored_{name}", initial)

    def put(self: object, value: object) -> None:
        self.__dict__[f"_stored_{name}"] = value

    return QtCore.Property(kind, get, put)


def computed(body: dict, name: str, kind: object) -> QtCore.Property:
    """Return a property over the class's own `get_NAME` and `set_NAME`."""
    getter = body[f"get_{name}"]
    setter = body.get(f"set_{name}")
    if setter is None:
        return QtCore.Property(kind, lambda self: getter(self))
    return QtCore.Property(kind, lambda self: getter(self), lambda self, new: setter(self, new))


def recorded_signals(class_name: str) -> dict[str, QtCore.Signal]:
    """Return a signal for each recorded one; namesakes are told apart by their types."""
    names = collections.Counter(
        signal.partition("(")[0]
        for owner in api.lineage(class_name)
        for signal in api.classes[owner].get("signals", [])
    )
    found = {}
    for signal in api.classes[class_name].get("signals", []):
        name, _, types_text = normalized(signal).partition("(")
        count = len(split_types(types_text.rstrip(")")))
        key = name if names[name] == 1 else stand_in_signal_name(signal)
        found[key] = QtCore.Signal(*[object] * count)
    return found


class StandIn(type(QtCore.QObject)):
    """Metaclass that completes a class to the stand-in of the recorded class of the same name.

    The class gets every recorded property and signal of its own and of those recorded bases that
    none of its Python bases stands for. A property is computed by `get_NAME`/`set_NAME` if the
    class has them, else only stored (with its default from the class keywords). Methods are the
    class's own; a recorded one that is missing raises HostGapError when it is called.
    """

    def __new__(mcs, name: str, bases: tuple, body: dict, **defaults: object):
        done = {base.__name__ for parent in bases for base in parent.__mro__}
        members = {}
        for owner in api.lineage(name):
            for prop, text in api.classes[owner].get("properties", {}).items():
                kind = property_type(text.removesuffix(" (read-only)"), owner)
                if f"get_{prop}" in body:
                    members.setdefault(prop, computed(body, prop, kind))
                elif owner not in done:
                    members.setdefault(prop, stored(prop, kind, defaults.get(prop)))
            if owner in done:
                continue
            for signal, made in recorded_signals(owner).items():
                members.setdefault(signal, made)
        stand_ins[name] = super().__new__(mcs, name, bases, {**members, **body})
        return stand_ins[name]

    def __init__(cls, name: str, bases: tuple, body: dict, **_defaults: object):
        super().__init__(name, bases, body)
