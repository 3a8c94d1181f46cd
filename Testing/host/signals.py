"""PythonQt's connect: by recorded signature, slots may take fewer arguments and never raise."""

import inspect
import types
from collections.abc import Callable

import shiboken6

from Testing.host.api import api, split_types
from Testing.host.complaints import complain, guarded
from Testing.host.conversion import HostGapError, to_python, unwrapped

# Signals of Qt 5 that Qt 6 spells differently (the arguments are the same).
QT6_SIGNALS = {
    "currentIndexChanged(QString)": "currentTextChanged",
    "activated(QString)": "textActivated",
    "highlighted(QString)": "textHighlighted",
    "valueChanged(QString)": "textChanged",
    "buttonClicked(int)": "idClicked",
    "buttonPressed(int)": "idPressed",
    "buttonReleased(int)": "idReleased",
    "buttonToggled(int,bool)": "idToggled",
    "error(QProcess::ProcessError)": "errorOccurred",
}

connections: dict[tuple[int, str], list[tuple[Callable, Callable]]] = {}
"""(address of the C++ object, signature) to (what Python gave, what PySide6 got)."""


def normalized(signature: str) -> str:
    return "".join(signature.split())


def recorded_signature(class_name: str, signature: str) -> str | None:
    """Return the signature if a signal of the class has it."""
    wanted = normalized(signature)
    member = api.member(class_name, wanted.partition("(")[0])
    if member is None or member.kind != "signal":
        return None
    return next((known for known in member.signals if normalized(known) == wanted), None)


def cpp_signal(cpp: object, signature: str) -> object:
    """Return PySide6's signal for a recorded signature."""
    name = signature.partition("(")[0]
    own = stand_in_signal_name(signature)
    for candidate in (own, QT6_SIGNALS.get(normalized(signature)), name):
        if candidate and hasattr(cpp, candidate):
            return overload(getattr(cpp, candidate), signature)
    raise HostGapError(f"The host has no signal {signature} for {type(cpp).__name__}")


def overload(signal: object, signature: str) -> object:
    """Return Qt's signal with just these parameters; a stand-in has only one of the name."""
    try:
        return signal[normalized(signature).partition("(")[2].rstrip(")")]
    except (IndexError, KeyError):
        return signal


def stand_in_signal_name(signature: str) -> str:
    """Return the attribute name of an overload that has a namesake: "valueChanged__QString"."""
    name, _, types_text = normalized(signature).partition("(")
    letters = "".join(c if c.isalnum() else "_" for c in types_text.rstrip(")"))
    return f"{name}__{letters}"


def accepted_arguments(slot: Callable) -> int | None:
    """Return how many arguments PythonQt passes to a Python function; None for all."""
    function = slot.__func__ if isinstance(slot, types.MethodType) else slot
    if not isinstance(function, types.FunctionType):
        return None
    if function.__code__.co_flags & inspect.CO_VARARGS:
        return None
    return function.__code__.co_argcount - isinstance(slot, types.MethodType)


def label_of(slot: Callable, source: str) -> str:
    return f"{getattr(slot, '__qualname__', repr(slot))} (connected to {source})"


def receiver(slot: Callable, signature: str, class_name: str) -> Callable:
    """Return what PySide6 calls: it trims the arguments, keeps exceptions and takes the time."""
    sent = len(split_types(normalized(signature).partition("(")[2].rstrip(")")))
    accepted = accepted_arguments(slot)
    count = sent if accepted is None else min(sent, accepted)
    label = label_of(slot, f"{class_name}.{signature}")

    def receive(*arguments: object) -> None:
        with guarded(label):
            slot(*(to_python(each) for each in arguments[:count]))

    return WITH_COUNT[sent](receive)


# PySide6 looks at a slot's parameters and sends nothing of clicked(bool) to one with *arguments.
WITH_COUNT: tuple[Callable, ...] = (
    lambda call: lambda: call(),
    lambda call: lambda a: call(a),
    lambda call: lambda a, b: call(a, b),
    lambda call: lambda a, b, c: call(a, b, c),
    lambda call: lambda a, b, c, d: call(a, b, c, d),
)


def connect(proxy: object, signature: str, *target: object) -> bool:
    """Connect a signal to a callable, or to a receiver's slot given as text; False if unknown."""
    class_name = type(proxy)._record
    known = recorded_signature(class_name, signature) if isinstance(signature, str) else None
    slot = slot_of(target)
    if known is None or slot is None:
        complain("connect", f"QObject::connect: No such signal {class_name}::{signature}")
        return False
    cpp = proxy._alive()
    receive = receiver(slot, known, class_name)
    cpp_signal(cpp, known).connect(receive)
    made_connections(cpp, known).append((slot, receive))
    return True


def made_connections(cpp: object, signature: str) -> list[tuple[Callable, Callable]]:
    """Return the connections of a signal; they are forgotten with the object."""
    address = shiboken6.getCppPointer(cpp)[0]
    key = (address, normalized(signature))
    if key not in connections:
        connections[key] = []
        cpp.destroyed.connect(lambda: connections.pop(key, None))
    return connections[key]


def disconnect(proxy: object, signature: str, *target: object) -> bool:
    """Undo connect(); the same signature and an equal callable are needed."""
    cpp = proxy._alive()
    made = made_connections(cpp, signature)
    slot = slot_of(target) if target else None
    gone = [pair for pair in made if slot is None or pair[0] == slot]
    for pair in gone:
        cpp_signal(cpp, signature).disconnect(pair[1])
        made.remove(pair)
    return bool(gone)


def slot_of(target: tuple) -> Callable | None:
    """Return the callable of connect()'s last arguments: a callable, or object and "slot(...)"."""
    if len(target) == 1 and callable(target[0]):
        return target[0]
    if len(target) == 2 and isinstance(target[1], str) and hasattr(type(target[0]), "_record"):
        name, _, types_text = normalized(target[1]).partition("(")
        member = api.member(type(target[0])._record, name)
        if member is not None and member.kind in ("method", "signal"):
            found = getattr(target[0], name)
            call = found.emit if member.kind == "signal" else found
            count = len(split_types(types_text.rstrip(")")))
            return lambda *arguments: call(*arguments[:count])
    return None


class BoundSignal:
    """A signal as attribute: `button.clicked.connect(f)`, `.emit(True)`, `.disconnect(f)`."""

    def __init__(self, proxy: object, signatures: tuple[str, ...]):
        self._proxy, self._signatures = proxy, signatures

    def connect(self, slot: Callable) -> bool:
        return connect(self._proxy, self._signatures[0], slot)

    def disconnect(self, *slot: Callable) -> bool:
        return disconnect(self._proxy, self._signatures[0], *slot)

    def emit(self, *arguments: object) -> None:
        by_count = {s.count(",") + 1 if "()" not in s else 0: s for s in self._signatures[::-1]}
        if len(arguments) not in by_count:
            raise ValueError(f"No signal of {self._signatures} takes {len(arguments)} arguments")
        signal = cpp_signal(self._proxy._alive(), by_count[len(arguments)])
        signal.emit(*(unwrapped(each) for each in arguments))
