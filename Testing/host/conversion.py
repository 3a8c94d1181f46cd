"""Values between Python and C++ as PythonQt converts them: what fits and what comes back."""

import enum
import math
import operator
from collections.abc import Callable, Sequence

import shiboken6
from PySide6 import QtCore

from Testing.host.api import Member, Overload, api, split_types
from Testing.host.cpp_classes import HostGapError, cpp_enum

INTEGERS = {"int", "uint", "long", "ulong", "short", "ushort", "uchar", "quintptr", "WId"}
INTEGERS |= {"qint64", "quint64", "qint32", "quint32", "qlonglong", "qulonglong", "vtkIdType"}
FLOATS = {"double", "float", "qreal"}
LISTS = ("QList<", "QVector<")
LIST_TYPES = {"QStringList": "QString", "QVariantList": "QVariant", "QFileInfoList": "QFileInfo"}


class NoFitError(Exception):
    """A value cannot become the C++ type of a parameter."""


def describe(value: object) -> str:
    return f"{value!r} ({type(value).__name__})"


def to_cpp(value: object, type_name: str, owner: str, strict: bool = False) -> object:
    """Return `value` as PySide6 takes it for a parameter of this C++ type.

    Args:
        value: What Python code gave.
        type_name: Recorded type, without star.
        owner: The class that declares the member; its own enums are unqualified.
        strict: Without the silent conversions (number to string, int to bool, ...).

    Raises:
        NoFitError: PythonQt would not accept it either.
    """
    simple = SIMPLE.get(type_name)
    if simple:
        return simple(value, strict)
    if type_name in LIST_TYPES or type_name.startswith(LISTS):
        item = LIST_TYPES.get(type_name) or type_name[type_name.index("<") + 1 : -1].rstrip("*")
        if isinstance(value, str | bytes) or not isinstance(value, Sequence):
            raise NoFitError
        return [to_cpp(each, item, owner, strict) for each in value]
    recorded = api.enum(type_name, owner)
    if recorded:
        return to_enum(value, recorded)
    return to_object(value, type_name)


def to_integer(value: object, strict: bool) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return int(value)
    if strict:
        raise NoFitError
    if type(value) is float:
        return math.floor(value)
    try:
        # NumPy's whole numbers, but not its float64, though that is a float too.
        return operator.index(value)
    except TypeError:
        raise NoFitError from None


def to_float(value: object, strict: bool) -> float:
    if type(value) is float or (not strict and hasattr(type(value), "__float__")):
        return float(value)
    raise NoFitError


def to_bool(value: object, strict: bool) -> bool:
    if isinstance(value, bool) or (not strict and isinstance(value, int)):
        return bool(value)
    raise NoFitError


def to_string(value: object, strict: bool) -> str:
    if strict and not isinstance(value, str):
        raise NoFitError
    return encodable(str(value))


def encodable(text: str) -> str:
    """Return a text if it has no half characters, as names of files may: PythonQt loses them."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise NoFitError from None
    return text


def to_bytes(value: object, _strict: bool) -> object:
    value = unwrapped(value)
    if isinstance(value, QtCore.QByteArray):
        return value
    if isinstance(value, str | bytes):
        return QtCore.QByteArray(value.encode() if isinstance(value, str) else value)
    raise NoFitError


def to_map(value: object, _strict: bool) -> dict:
    if not isinstance(value, dict):
        raise NoFitError
    return {key: unwrapped(each) for key, each in value.items()}


def to_callable(value: object, _strict: bool) -> object:
    return value


def to_variant(value: object, _strict: bool) -> object:
    return encodable(value) if isinstance(value, str) else unwrapped(value)


SIMPLE: dict[str, Callable[[object, bool], object]] = {
    **dict.fromkeys(INTEGERS, to_integer),
    **dict.fromkeys(FLOATS, to_float),
    "bool": to_bool,
    "QString": to_string,
    "QChar": to_string,
    "char": to_string,
    "QByteArray": to_bytes,
    "QVariant": to_variant,
    "QVariantMap": to_map,
    "QMap<QString,QVariant>": to_map,
    "QMap<int,QVariant>": to_map,
    "QHash<int,QByteArray>": to_map,
    "qSlicerIO::IOProperties": to_map,
    "qSlicerIO::IOFileType": to_string,
    "std::string": to_string,
    "QStringView": to_string,
    "PyObject": to_callable,
}


def to_enum(value: object, recorded: Member) -> object:
    if not isinstance(value, int):
        raise NoFitError
    kind = cpp_enum(recorded.owner, recorded.name)
    if kind is None:
        return value
    try:
        return kind(value)
    except ValueError:
        raise NoFitError from None


def to_object(value: object, type_name: str) -> object:
    """Return the C++ object behind a proxy or a VTK object, if it is of the type."""
    if value is None:
        return None
    if type_name.startswith("vtk"):
        if hasattr(value, "IsA") and value.IsA(type_name):
            return value
        raise NoFitError
    record = getattr(type(value), "_record", None)
    if record is None or not (api.inherits(record, type_name) or type_name not in api.classes):
        raise NoFitError
    return unwrapped(value)


def unwrapped(value: object) -> object:
    """Return the value with every proxy in it replaced by its C++ object."""
    if hasattr(type(value), "_record"):
        return value._alive()
    if isinstance(value, list | tuple):
        return [unwrapped(each) for each in value]
    if isinstance(value, dict):
        return {key: unwrapped(each) for key, each in value.items()}
    return value


def fit(arguments: tuple, overloads: Sequence[Overload], owner: str, called: str) -> list:
    """Return the arguments as PySide6 takes them, for the first overload that they fit.

    Raises:
        ValueError: If none fits, with all that there are.
    """
    for strict in (True, False):
        for overload in overloads:
            if len(overload.parameters) != len(arguments):
                continue
            pairs = zip(arguments, overload.parameters, strict=True)
            try:
                return [to_cpp(value, kind, owner, strict) for value, kind in pairs]
            except NoFitError:
                continue
    given = ", ".join(map(describe, arguments))
    known = "; ".join(f"({', '.join(each.parameters)})" for each in overloads)
    raise ValueError(f"{called} has no overload for ({given}). There are: {known}")


def constructor_overloads(class_name: str) -> list[Overload]:
    return [Overload(types, class_name, True) for types in api.constructors(class_name) or ()]


wrap_object: Callable[[object], object] = lambda value: value  # noqa: E731 - set by proxy.py


def to_python(value: object) -> object:
    """Return what PythonQt would give for a value that PySide6 gave."""
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, list | tuple):
        return tuple(map(to_python, value))
    if isinstance(value, dict):
        return {key: to_python(each) for key, each in value.items()}
    if isinstance(value, shiboken6.Object):
        return wrap_object(value)
    return value


def written_property(value: object, member: Member, class_name: str) -> object:
    """Return a property's new value for PySide6.

    Raises:
        AttributeError: In PythonQt's words, if it is read-only or of another type.
    """
    if member.read_only:
        raise AttributeError(f"Property '{member.name}' of {class_name} object is read-only")
    try:
        return to_cpp(value, member.type, member.owner)
    except NoFitError:
        raise AttributeError(
            f"Property '{member.name}' of type '{member.type}' does not accept an object of "
            f"type {type(value).__name__} ({value!r})"
        ) from None


__all__ = ["HostGapError", "NoFitError", "fit", "split_types", "to_cpp", "to_python", "unwrapped"]
