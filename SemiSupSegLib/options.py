"""Options dataclasses to JSON and back, and `key=value` from the command line."""

from __future__ import annotations

import dataclasses
import difflib
import json
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from SemiSupSegLib.counting import counted
from SemiSupSegLib.errors import UsageError

Options = TypeVar("Options")


def to_json(options: Any) -> dict[str, Any]:
    """Return an options dataclass as plain JSON values."""
    content: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(options)))
    return content


def from_json(kind: type[Options], content: Mapping[str, Any], where: str = "options") -> Options:
    """Build the options dataclass `kind` from JSON values; unknown keys are refused.

    Args:
        kind: A dataclass, whose fields may be dataclasses themselves.
        content: Field values; missing ones take their default.
        where: Named in messages.

    Raises:
        UsageError: For an unknown key, a wrong type or a value out of range.
    """
    hints = typing.get_type_hints(kind)
    known = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    values = {}
    for key, value in content.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            raise UsageError(f"{where} has no '{key}'.{hint} It has: {', '.join(known)}.")
        values[key] = _convert(hints[key], value, f"{where}.{key}")
    try:
        return kind(**values)
    except ValueError as error:
        raise UsageError(f"{where}: {str(error).removesuffix('.')}.") from error


def with_settings(options: Options, settings: Mapping[str, str], where: str = "options") -> Options:
    """Return `options` changed by dotted `key → text` settings, as given by `--set key=value`."""
    content = to_json(options)
    for key, text in settings.items():
        *path, last = key.split(".")
        target = content
        for part in path:
            if not isinstance(target.get(part), dict):
                groups = ", ".join(name for name, one in target.items() if isinstance(one, dict))
                those = f"; those with options below them are {groups}" if groups else ""
                raise UsageError(
                    f"{where} has no '{part}' with options below it (from '{key}'){those}."
                )
            target = target[part]
        try:
            target[last] = json.loads(text)
        except json.JSONDecodeError:
            target[last] = text
    return from_json(type(options), content, where)


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin = typing.get_origin(hint)
    arguments = typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return _convert_union(arguments, value, where)
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise UsageError(f"{where} is {value!r}, must be a group of options.")
        return from_json(typing.cast(type, hint), value, where)
    if origin is tuple:
        return _convert_tuple(arguments, value, where)
    if origin in (dict, Mapping) or hint in (dict, Mapping):
        if not isinstance(value, Mapping):
            raise UsageError(f"{where} is {value!r}, must be a group of values.")
        return dict(value)
    if origin is typing.Literal:
        if value not in arguments:
            raise UsageError(
                f"{where} is {value!r}, must be one of {', '.join(map(str, arguments))}."
            )
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint in (int, float, str, bool) and type(value) is not hint:
        raise UsageError(f"{where} is {value!r}, must be {hint.__name__}.")
    return value


def _convert_union(arguments: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in arguments:
        return None
    remaining = [argument for argument in arguments if argument is not type(None)]
    for argument in remaining[:-1]:
        try:
            return _convert(argument, value, where)
        except UsageError:
            continue
    return _convert(remaining[-1], value, where)


def _convert_tuple(arguments: tuple[Any, ...], value: Any, where: str) -> Any:
    if not isinstance(value, list | tuple):
        raise UsageError(f"{where} is {value!r}, must be a list.")
    if arguments[-1] is Ellipsis:
        kinds = [arguments[0]] * len(value)
    elif len(arguments) == len(value):
        kinds = list(arguments)
    else:
        raise UsageError(
            f"{where} has {counted(len(value), 'values')}, must have {len(arguments)}."
        )
    return tuple(_convert(kind, item, where) for kind, item in zip(kinds, value, strict=True))
