"""Python subclasses of Qt classes: virtual methods that Python defines are called by Qt."""

import functools
from collections.abc import Callable

from Testing.host.api import Overload, api
from Testing.host.complaints import guarded
from Testing.host.conversion import NoFitError, to_cpp, to_python


@functools.cache
def with_virtuals(python_class: type, record: str, cpp_class: type) -> type:
    """Return a subclass of the C++ class that hands the virtual methods to the proxy."""
    defined = {
        name
        for kind in python_class.__mro__
        if "_record" not in kind.__dict__ and hasattr(kind, "_record")
        for name in vars(kind)
    }
    methods = {
        name: handed_over(name, record, cpp_class) for name in defined & api.overridable(record)
    }
    return type(python_class.__name__, (cpp_class,), methods)


def handed_over(name: str, record: str, cpp_class: type) -> Callable:
    base = getattr(cpp_class, name)
    member = api.member(record, name)
    overloads = member.overloads if member else ()

    def call(self: object, *arguments: object) -> object:
        proxy = getattr(self, "_proxy", None)
        if proxy is None:  # Qt calls some while the object is being made.
            return base(self, *arguments)
        with guarded(f"{type(self).__name__}.{name}"):
            result = getattr(proxy, name)(*map(to_python, arguments))
            return as_result(result, overloads, record)
        return base(self, *arguments)

    call.__name__ = name
    return call


def as_result(result: object, overloads: tuple[Overload, ...], owner: str) -> object:
    """Return what Qt gets; None for a method without result."""
    kind = overloads[0].result if overloads else "QVariant"
    if not kind:
        return None
    try:
        return to_cpp(result, kind, owner)
    except NoFitError:
        raise TypeError(f"a virtual method returned {result!r} instead of {kind}") from None
