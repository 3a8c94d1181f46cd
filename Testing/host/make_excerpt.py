"""Cut the recorded PythonQt API down to the classes that our code may use: api_excerpt.json.

    python -m Testing.host.make_excerpt ../shared/design/pythonqt-api.json.gz

A class of excerpt_classes.txt comes with all its members and bases, so that the excerpt is as
strict as the record.
"""

import gzip
import json
import re
import sys
from pathlib import Path

EXCERPT = Path(__file__).with_name("api_excerpt.json")

CLASSES = Path(__file__).with_name("excerpt_classes.txt")


def wanted_classes() -> list[str]:
    """Return the class names of the list, comments left out."""
    lines = CLASSES.read_text(encoding="utf-8").splitlines()
    return [name for line in lines if not line.startswith("#") for name in line.split()]


def records(recorded: dict) -> dict[str, tuple[str, dict]]:
    """Return name to (module, record) of every class; no module if only instances were seen."""
    found = {
        name: ("", entry) for name, entry in recorded["classes_seen_only_as_instances"].items()
    }
    for module in ("slicer", "ctk", "qt"):
        found |= {name: (module, entry) for name, entry in recorded[module]["classes"].items()}
    return found


# The words of a C++ type that consists of more than one word.
QUALIFIERS = {"const", "unsigned", "signed", "long", "short", "int", "char", "double"}


def split_outside_brackets(text: str) -> list[str]:
    """Return the parts of `text` between commas; commas inside <...> do not count."""
    return [part.strip() for part in re.split(r",(?![^<]*>)", text) if part.strip()]


def parameter_type(parameter: str) -> str:
    """Return "QWidget" for "QWidget parent"; the name may be missing."""
    words = parameter.split()
    named = len(words) > 1 and words[-1] not in QUALIFIERS
    return " ".join(words[:-1] if named else words)


def short_overload(overload: str) -> str:
    """Return "static QWidget,QString->bool" for "static f(QWidget parent, QString a) -> bool"."""
    match = re.fullmatch(r"(static )?[^(]*\((.*)\)(?: const)?(?: -> (.*?))?(?:  \[.*\])?", overload)
    static, parameters, result = match.groups()
    types = ",".join(parameter_type(p) for p in split_outside_brackets(parameters))
    return f"{static or ''}{types}->{'' if result in (None, 'void') else result}"


def short_record(record: dict) -> dict:
    """Return the record of a class with short overloads, and flags named after their enum."""
    short = dict(record)
    for kind in ("methods", "constructors"):
        if kind == "methods" and kind in record:
            short[kind] = {
                name: list(dict.fromkeys(map(short_overload, overloads)))
                for name, overloads in record[kind].items()
            }
        elif kind in record:
            short[kind] = [short_overload(overload).split("->")[0] for overload in record[kind]]
    enums = record.get("enums", {})
    for name, values in enums.items():
        twin = next((other for other in enums if other < name and enums[other] == values), None)
        if twin:
            short["enums"] = short["enums"] | {name: twin}
    return short


def every_object(recorded: dict, known: dict) -> set[str]:
    """Return the members that PythonQt itself gives to every QObject: connect, findChild."""
    own, queue = set(), ["qSlicerLayoutManager"]
    while queue:
        entry = known[queue.pop()][1]
        own |= {signal.split("(")[0] for signal in entry.get("signals", [])}
        own |= entry.get("properties", {}).keys() | entry.get("methods", {}).keys()
        own |= entry.get("enums", {}).keys()
        queue += entry.get("bases", [])
    return set(recorded["instance_members"]["slicer.app.layoutManager()"]) - own | {"name"}


def excerpt(recorded: dict) -> dict:
    """Return the part of the record for the listed classes, with their bases."""
    known = records(recorded)
    wanted, queue = {}, wanted_classes()
    if not known.keys() >= set(queue):
        raise KeyError(f"not recorded: {sorted(set(queue) - known.keys())}")
    while queue:
        name = queue.pop()
        if name in known and name not in wanted:
            module, entry = known[name]
            wanted[name] = {"module": module, **short_record(entry)}
            queue += entry.get("bases", [])
    return {
        "slicer": recorded["about"]["slicer"],
        "classes": dict(sorted(wanted.items())),
        "functions": recorded["qt"]["functions"],
        "constants": {**recorded["qt"]["constants"]},
        "every_object": sorted(every_object(recorded, known)),
    }


def read_recorded(path: Path) -> dict:
    with gzip.open(path) as file:
        return json.load(file)


def dumps(part: dict) -> str:
    """Return JSON text with one line a class, so that a change of the list reads well in git."""
    classes = part["classes"]
    compact = {"separators": (",", ":"), "sort_keys": True}
    lines = ",\n".join(f"{json.dumps(n)}:{json.dumps(c, **compact)}" for n, c in classes.items())
    rest = {key: value for key, value in part.items() if key != "classes"}
    return json.dumps(rest, **compact)[:-1] + ',"classes":{\n' + lines + "\n}}\n"


if __name__ == "__main__":
    EXCERPT.write_text(dumps(excerpt(read_recorded(Path(sys.argv[1])))), encoding="utf-8")
    print(f"{EXCERPT}: {EXCERPT.stat().st_size // 1024} KiB")
