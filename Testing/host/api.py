"""What Python sees of each qt, ctk and slicer class, as recorded in a running Slicer."""

import functools
import json
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Overload:
    """One way to call a method."""

    parameters: tuple[str, ...]
    """C++ types, pointers without their star."""
    result: str
    static: bool


@dataclass(frozen=True)
class Member:
    """What a name means on an object of a class."""

    kind: str
    """static, property, method, signal, enum or value."""
    owner: str
    """The class that declares it."""
    name: str
    type: str = ""
    read_only: bool = False
    overloads: tuple[Overload, ...] = ()
    signals: tuple[str, ...] = ()
    values: tuple[tuple[str, int], ...] = ()
    value: int = 0


def split_types(text: str) -> tuple[str, ...]:
    """Return the types between commas; commas inside <...> do not count."""
    parts, depth, start = [], 0, 0
    for place, letter in enumerate(text):
        depth += (letter == "<") - (letter == ">")
        if letter == "," and depth == 0:
            parts.append(text[start:place])
            start = place + 1
    return (*parts, text[start:]) if text else ()


def parse_overload(text: str) -> Overload:
    static = text.startswith("static ")
    parameters, result = text.removeprefix("static ").rsplit("->", 1)
    return Overload(split_types(parameters), result, static)


class Api:
    """The recorded classes, asked by name."""

    def __init__(self, excerpt: dict, extra: dict):
        self.classes: dict[str, dict] = excerpt["classes"]
        for name, entry in extra["classes"].items():
            known = self.classes.setdefault(name, {"bases": entry.get("bases", [])})
            for kind in ("methods", "properties", "enums"):
                known[kind] = known.get(kind, {}) | entry.get(kind, {})
            known["signals"] = known.get("signals", []) + entry.get("signals", [])
        self.functions: dict[str, str] = excerpt["functions"]
        self.constants: dict[str, int] = excerpt["constants"]
        self.every_object = frozenset(excerpt["every_object"])

    @functools.cache  # noqa: B019 - one Api a process
    def lineage(self, name: str) -> tuple[str, ...]:
        """Return the class and its recorded bases, nearest first."""
        found = [name]
        for current in found:
            bases = self.classes[current].get("bases", [])
            found += [base for base in bases if base in self.classes and base not in found]
        return tuple(found)

    def inherits(self, name: str, base: str) -> bool:
        return name in self.classes and base in self.lineage(name)

    def is_object(self, name: str) -> bool:
        """Return whether the class is a QObject, so has properties and signals."""
        return self.inherits(name, "QObject")

    @functools.cache  # noqa: B019 - one Api a process
    def member(self, class_name: str, name: str) -> Member | None:
        """Return what `name` is on an object of the class; None if Slicer would not know it.

        PythonQt's order: static methods lie in the Python type, so come first; then properties
        of the whole lineage, methods, signals, enums and their values.
        """
        lineage = self.lineage(class_name)
        method = self._method(lineage, name)
        if method and method.kind == "static":
            return method
        finders = (self._property, lambda *_: method, self._signal, self._enum, self._value)
        return next((found for find in finders if (found := find(lineage, name))), None)

    def _method(self, lineage: tuple[str, ...], name: str) -> Member | None:
        for owner in lineage:
            texts = self.classes[owner].get("methods", {}).get(name)
            if texts:
                overloads = tuple(map(parse_overload, texts))
                kind = "static" if any(overload.static for overload in overloads) else "method"
                return Member(kind, owner, name, overloads=overloads)
        return None

    def _property(self, lineage: tuple[str, ...], name: str) -> Member | None:
        for owner in lineage:
            text = self.classes[owner].get("properties", {}).get(name)
            if text:
                type_name = text.removesuffix(" (read-only)")
                return Member("property", owner, name, type=type_name, read_only=text != type_name)
        return None

    def _signal(self, lineage: tuple[str, ...], name: str) -> Member | None:
        spelled = [
            (owner, signal)
            for owner in lineage
            for signal in self.classes[owner].get("signals", [])
            if signal.partition("(")[0] == name
        ]
        if not spelled:
            return None
        return Member("signal", spelled[0][0], name, signals=tuple(s for _, s in spelled))

    def _enum(self, lineage: tuple[str, ...], name: str) -> Member | None:
        for owner in lineage:
            enums = self.classes[owner].get("enums", {})
            if name in enums:
                values = enums[name] if isinstance(enums[name], dict) else enums[enums[name]]
                return Member("enum", owner, name, values=tuple(values.items()))
        return None

    def _value(self, lineage: tuple[str, ...], name: str) -> Member | None:
        for owner in lineage:
            for enum, values in self.classes[owner].get("enums", {}).items():
                if isinstance(values, dict) and name in values:
                    return Member("value", owner, name, type=enum, value=values[name])
        return None

    def constructors(self, class_name: str) -> tuple[tuple[str, ...], ...] | None:
        """Return the parameter types of each constructor; None if the class cannot be made."""
        texts = self.classes[class_name].get("constructors")
        return None if texts is None else tuple(map(split_types, texts))

    @functools.cache  # noqa: B019 - one Api a process
    def overridable(self, class_name: str) -> frozenset[str]:
        """Return the virtual methods that a Python subclass may define."""
        lineage = self.lineage(class_name)
        return frozenset().union(*(self.classes[c].get("overridable", ()) for c in lineage))

    def enum(self, type_name: str, class_name: str) -> Member | None:
        """Return the enum that a C++ type names, seen from a class: "Icon", "Qt::Orientation"."""
        owner, _, name = type_name.rpartition("::")
        owner = owner or class_name
        if owner not in self.classes:
            return None
        return self._enum(self.lineage(owner), name)


def read_api() -> Api:
    """Return the API of the excerpt, with the calls that the record lacks."""
    excerpt, extra = (
        json.loads((FOLDER / name).read_text(encoding="utf-8"))
        for name in ("api_excerpt.json", "extra_api.json")
    )
    return Api(excerpt, extra)


api = read_api()
