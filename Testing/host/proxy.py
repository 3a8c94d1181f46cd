"""What Python holds of a qt, ctk or slicer object: only what the recorded class offers."""

import functools
import weakref
from collections.abc import Callable

import shiboken6

from Testing.host import conversion
from Testing.host.adaptations import adapted_method, universal_method
from Testing.host.api import Member, api
from Testing.host.cpp_classes import HostGapError, cpp_class, cpp_enum
from Testing.host.signals import BoundSignal
from Testing.host.virtuals import with_virtuals

alive: "weakref.WeakValueDictionary[int, Proxy]" = weakref.WeakValueDictionary()
"""id of the PySide6 wrapper to its proxy, which holds the wrapper: one C++ object, one proxy."""


def refuse_keywords(keywords: dict, called: str) -> None:
    if keywords:
        raise ValueError(f"{called} takes no keyword arguments, got {sorted(keywords)}")


class EnumType:
    """An enum as attribute of its class: `qt.QMessageBox.StandardButton.Yes`; calling gives int."""

    def __init__(self, member: Member):
        self.__dict__.update(member.values)
        self._name = member.name

    def __call__(self, value: int = 0) -> int:
        return int(value)

    def __getattr__(self, name: str) -> int:
        raise AttributeError(f"enum {self._name} has no value {name!r}")


def call_cpp(target: object, member: Member, arguments: tuple) -> object:
    """Call a recorded method of a C++ object, or of a class, with arguments that fit it."""
    called = f"{member.owner}.{member.name}()"
    usable = [
        overload
        for overload in member.overloads
        if "PythonQt.BoolResult" not in overload.parameters
        and (overload.static or not isinstance(target, type))
    ]
    fitted = conversion.fit(arguments, usable, member.owner, called)
    name = f"{member.name}_" if member.name in ("raise", "print", "del") else member.name
    method = getattr(target, name, None)
    if method is None:
        raise HostGapError(f"The host does not model {called}. Extend Testing/host.")
    return conversion.to_python(method(*fitted))


class ProxyType(type):
    """Class of the proxy classes; gives static methods, enums and their values."""

    def __getattr__(cls, name: str) -> object:
        record = cls.__dict__.get("_record") or next(
            (base._record for base in cls.__mro__ if "_record" in base.__dict__), None
        )
        member = api.member(record, name) if record and not name.startswith("_") else None
        if member is None:
            raise AttributeError(f"type object '{cls.__name__}' has no attribute '{name}'")
        if member.kind == "value":
            return member.value
        if member.kind == "enum":
            return EnumType(member)
        if member.kind == "static":
            return static_method(record, member)
        return unbound(name)

    @property
    def __doc__(cls) -> str:
        return f"{cls._record}, as recorded in a running Slicer"


def static_method(record: str, member: Member, cpp: object = None) -> Callable:
    """Return a method that needs no object; with one, it may also be an overload that does."""
    adapted = adapted_method(record, member.name)

    def call(*arguments: object, **keywords: object) -> object:
        refuse_keywords(keywords, f"{record}.{member.name}()")
        if adapted:
            return adapted(cpp_class(record), *arguments)
        return call_cpp(cpp_class(record) if cpp is None else cpp, member, arguments)

    return call


def unbound(name: str) -> Callable:
    """Return a method taken from the class: `qt.QWidget.event(self, event)`."""

    def call(self: "Proxy", *arguments: object) -> object:
        return self._member(name)(*arguments)

    return call


class Proxy(metaclass=ProxyType):
    """Base of all proxies. Underscore names are the host's own."""

    _record: str | None = None

    def __init__(self, *arguments: object, **keywords: object):
        record = self._record
        refuse_keywords(keywords, record)
        overloads = conversion.constructor_overloads(record)
        if not overloads:
            raise ValueError(f"{record} cannot be made by Python")
        kind = cpp_class(record)
        if "_record" not in type(self).__dict__:
            kind = with_virtuals(type(self), record, kind)
        self._adopt(kind(*conversion.fit(arguments, overloads, record, record)))

    def _adopt(self, cpp: object) -> None:
        object.__setattr__(self, "_cpp", cpp)
        alive[id(cpp)] = self
        if "_record" not in type(self).__dict__:
            cpp._proxy = self  # A Python subclass has state of its own: it lives as long as the C++

    def _alive(self) -> object:
        """Return the C++ object; ValueError if it has been deleted."""
        cpp = self.__dict__.get("_cpp")
        if cpp is None:
            raise ValueError(f"{self._record}.__init__() was not called")
        if not shiboken6.isValid(cpp):
            raise ValueError(f"Trying to use a destroyed {self._record} object")
        return cpp

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._member(name)

    def _member(self, name: str) -> object:
        record = self._record
        member = api.member(record, name)
        if name in api.every_object and (member is None or name == "parent"):
            if name == "name" and api.is_object(record):
                return self._alive().objectName()
            if api.is_object(record) or name in ("className", "inherits", "help", "delete"):
                return functools.partial(refusing_keywords, universal_method(name), self)
        if member is None:
            raise AttributeError(f"'{record}' object has no attribute '{name}'")
        return MEMBER_KINDS[member.kind](self, member)

    def __setattr__(self, name: str, value: object) -> None:
        member = api.member(self._record, "objectName" if name == "name" else name)
        if member is not None and member.kind == "property":
            write_property(self, member, value)
        elif "_record" not in type(self).__dict__:
            object.__setattr__(self, name, value)
        else:
            raise AttributeError(f"'{self._record}' object has no attribute '{name}' to set")

    def __repr__(self) -> str:
        return f"{type(self).__name__} ({self._record} at: {hex(id(self.__dict__.get('_cpp')))})"

    def __eq__(self, other: object) -> bool:
        if other is None:
            return not self
        if self is other or not isinstance(other, Proxy) or api.is_object(self._record):
            return self is other
        return bool(self._alive() == other._alive())

    def __hash__(self) -> int:
        return id(self.__dict__.get("_cpp"))

    def __bool__(self) -> bool:
        """Return whether the C++ object is there still."""
        cpp = self.__dict__.get("_cpp")
        return cpp is not None and shiboken6.isValid(cpp)


def refusing_keywords(method: Callable, *arguments: object, **keywords: object) -> object:
    refuse_keywords(keywords, getattr(method, "__name__", "the method"))
    return method(*arguments)


def read_property(proxy: Proxy, member: Member) -> object:
    cpp = proxy._alive()
    if cpp.metaObject().indexOfProperty(member.name) < 0:
        raise HostGapError(f"The host does not model {proxy._record}.{member.name}")
    recorded = api.enum(member.type, member.owner)
    if recorded:
        # PySide6 makes its enums when they are first named, and cannot read the property before.
        cpp_enum(recorded.owner, recorded.name)
    return conversion.to_python(cpp.property(member.name))


def write_property(proxy: Proxy, member: Member, value: object) -> None:
    cpp = proxy._alive()
    if cpp.metaObject().indexOfProperty(member.name) < 0:
        raise HostGapError(f"The host does not model {proxy._record}.{member.name}")
    new = conversion.written_property(value, member, proxy._record)
    if not cpp.setProperty(member.name, new):
        raise AttributeError(
            f"Property '{member.name}' of type '{member.type}' does not accept {value!r}"
        )


def bound_method(proxy: Proxy, member: Member) -> Callable:
    adapted = adapted_method(proxy._record, member.name)

    def call(*arguments: object, **keywords: object) -> object:
        refuse_keywords(keywords, f"{proxy._record}.{member.name}()")
        cpp = proxy._alive()
        return adapted(proxy, *arguments) if adapted else call_cpp(cpp, member, arguments)

    call.__name__ = call.__qualname__ = f"{proxy._record}.{member.name}"
    return call


MEMBER_KINDS: dict[str, Callable[[Proxy, Member], object]] = {
    "property": read_property,
    "method": bound_method,
    "static": lambda proxy, member: static_method(proxy._record, member, proxy._alive()),
    "signal": lambda proxy, member: BoundSignal(proxy, member.signals),
    "enum": lambda _proxy, member: EnumType(member),
    "value": lambda _proxy, member: member.value,
}


def binary(name: str) -> Callable:
    """Return an operator that works where the class records it."""

    def operate(self: Proxy, other: object) -> object:
        if api.member(self._record, name) is None:
            return NotImplemented
        operator = getattr(self._alive(), name)
        return conversion.to_python(operator(conversion.unwrapped(other)))

    return operate


for operator in ("__add__", "__sub__", "__mul__", "__lt__", "__or__", "__and__"):
    setattr(Proxy, operator, binary(operator))


@functools.cache
def proxy_class(name: str) -> type[Proxy]:
    """Return the Python class for a recorded class.

    Proxies of derived classes are not derived from each other: with PythonQt
    issubclass(qt.QPushButton, qt.QWidget) is False.
    """
    module = api.classes[name].get("module") or "PythonQt"
    return ProxyType(name, (Proxy,), {"_record": name, "__module__": module})


def wrap(cpp: object) -> Proxy:
    """Return the proxy of a C++ object, always the same one while it is held.

    Raises:
        HostGapError: If neither its class nor a base of it is in the excerpt.
    """
    known = alive.get(id(cpp))
    if known is not None:
        return known
    own = getattr(cpp, "_proxy", None)
    if own is not None:
        return own
    for kind in type(cpp).__mro__:
        if kind.__name__ in api.classes:
            proxy = object.__new__(proxy_class(kind.__name__))
            proxy._adopt(cpp)
            return proxy
    raise HostGapError(f"{type(cpp).__name__} is not in the excerpt: see make_excerpt.py")


conversion.wrap_object = wrap
