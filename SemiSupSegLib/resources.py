"""Finding the files in Resources, and checking JSON against the schemas there."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from SemiSupSegLib.errors import SemiSupSegError, UsageError
from SemiSupSegLib.files import read_json

ROOT = Path(__file__).resolve().parent.parent / "Resources"
"""Beside the library, in git as well as installed."""
DEFAULT_PRESET = "standard"


def preset_names() -> list[str]:
    """Return the names of the files in Resources/Presets, which `train --preset` takes."""
    return sorted(file.stem for file in (ROOT / "Presets").glob("*.json"))


def default_preset(method: str | None) -> str:
    """Return the preset that `train` takes if none is said: the method's own, if it has one."""
    return method if method is not None and method in preset_names() else DEFAULT_PRESET


@cache
def color_map(name: str) -> dict[str, Any]:
    """Return the content of Resources/ColorMaps/<name>.json: colours and what they mean.

    Raises:
        UsageError: If there is no such colour map.
    """
    path = ROOT / "ColorMaps" / f"{name}.json"
    if not path.is_file():
        names = ", ".join(sorted(file.stem for file in path.parent.glob("*.json")))
        raise UsageError(f"There is no colour map '{name}'; there are: {names}.")
    content: dict[str, Any] = read_json(path)
    return content


def check_format(content: Any, schema: str, source: Path | str) -> None:
    """Check format, version and shape of `content` by Resources/Schemas/<schema>.json.

    Raises:
        SemiSupSegError: If it is another format, a newer version, or does not fit the schema.
    """
    expected = schema_of(schema)["properties"]
    wanted = expected["format"]["const"]
    newest = expected["version"]["const"]
    if not isinstance(content, dict) or content.get("format") != wanted:
        raise SemiSupSegError(
            f"{source} is not a SemiSupSeg {schema} file (its 'format' should be '{wanted}'). "
            "Choose another file."
        )
    version = content.get("version")
    if isinstance(version, int) and version > newest:
        raise SemiSupSegError(
            f"{source} was written by a newer SemiSupSeg ({wanted} version {version}; "
            f"this one reads up to {newest}). Update SemiSupSeg."
        )
    try:
        import fastjsonschema
    except ImportError:
        # Slicer's window has Python's own modules only. What it shows is checked there by its
        # outline; the worker, which uses it, checks all.
        _check_outline(content, schema_of(schema), source)
        return
    try:
        _validator(schema)(content)
    except fastjsonschema.JsonSchemaValueException as error:
        raise SemiSupSegError(f"{source} is damaged or incomplete: {error.message}.") from error


def schema_of(name: str) -> dict[str, Any]:
    """Return the JSON schema `name`."""
    content: dict[str, Any] = read_json(ROOT / "Schemas" / f"{name}.json")
    return content


def _check_outline(content: Any, schema: dict[str, Any], source: Path | str) -> None:
    missing = [name for name in schema.get("required", ()) if name not in content]
    if missing:
        raise SemiSupSegError(f"{source} is damaged or incomplete: it lacks {missing[0]}.")


@cache
def _validator(name: str) -> Any:
    import fastjsonschema

    return fastjsonschema.compile(schema_of(name))
