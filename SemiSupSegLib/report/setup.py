"""What the run was started with, and what happened on the way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from SemiSupSegLib.report.blocks import Block, Note, Section, Table
from SemiSupSegLib.report.record import RunRecord, without_folders

TOLD = ("warning", "error", "batch_reduced", "rate_halved", "resumed")
"""Kinds of events that a reader of the figures should know of."""


def setup_section(record: RunRecord) -> Section:
    """Return configuration, split and the run's notable events."""
    config = record.config
    split = config["split"]
    names = {
        "train_labelled": "labelled, for training",
        "train_unlabelled": "unlabelled, for training",
        "validation": "validation, only judged",
    }
    task = record.task
    rows = [
        ("Task", f"{task.title} ({task.name})"),
        ("Channels", ", ".join(channel.name for channel in task.channels)),
        ("Classes", ", ".join(one.name for one in task.classes)),
    ]
    if task.regions:
        regions = (f"{one.name} = {' + '.join(one.classes)}" for one in task.regions)
        rows.append(("Regions", "; ".join(regions)))
    rows += [
        ("Method", str(config["method"])),
        *_former(config),
        ("Preset", str(config["preset"])),
        ("Network", str(config["network"]["name"])),
        ("Patch", f"{' x '.join(map(str, config['patch_size']))} voxels"),
        ("Updates", str(config["iterations"])),
        ("Seed", str(config["seed"])),
        ("Device", str(config["device"])),
        ("Started", str(config["created"]).replace("T", " ").replace("+00:00", " UTC")),
        *((name, str(version)) for name, version in config["versions"].items()),
    ]
    blocks: list[Block] = [
        Table(title="Run", head=("", ""), rows=tuple(rows)),
        Table(
            title="Split",
            head=("Use", "Cases"),
            rows=tuple((text, str(len(split[name]))) for name, text in names.items()),
            caption="Patients are never split across the three.",
        ),
        _options_table("Options of the method", config["options"]),
        _options_table("Options of training", config["training"]),
        _options_table("Preparation", config["preparation"]),
    ]
    told = [event for event in record.events if event["kind"] in TOLD]
    if told:
        blocks.append(
            Table(
                title="Worth knowing",
                head=("Kind", "What"),
                rows=tuple((str(event["kind"]).replace("_", " "), _words(event)) for event in told),
            )
        )
    else:
        blocks.append(Note(text="The run had no warnings, errors or interruptions."))
    return Section(
        id="setup", title="Configuration", intro="Frozen when the run was started.", blocks=blocks
    )


def _former(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the rows on reviewed cases, and on the model that the run went on from."""
    rows = []
    if config.get("former"):
        rows.append(("Goes on from model", str(config["former"]["model_sha256"])[:12]))
    for name, what in (("reviewed", "Reviewed cases"), ("partial", "Cases reviewed in part")):
        if config.get(name):
            rows.append((what, str(len(config[name]))))
    return rows


def _options_table(title: str, options: Mapping[str, Any]) -> Table:
    rows = tuple((name, without_folders(str(value))) for name, value in _flat(options))
    return Table(title=title, head=("Option", "Value"), rows=rows)


def _flat(options: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in options.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            text = ", ".join(map(str, value)) if isinstance(value, list) else value
            yield f"{prefix}{name}", "none" if text is None else text


def _words(event: Mapping[str, Any]) -> str:
    message = event.get("message")
    if isinstance(message, str):
        return without_folders(message)
    left = (f"{name}: {value}" for name, value in event.items() if name not in ("t", "kind"))
    return without_folders(", ".join(left))
