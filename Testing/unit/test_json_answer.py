"""`--json FILE`, `--json` and `--json -` mean the same for every command."""

import argparse
import importlib
import json

import pytest

from SemiSupSegLib.__main__ import COMMANDS
from SemiSupSegLib.commands.json_answer import prepare_json, write_answer
from SemiSupSegLib.errors import SemiSupSegError

CONTENT = {"cases": ["Größe"], "n": 2}


def json_options(parser):
    """Yield the option `--json` of a command and of its actions."""
    for action in parser._actions:
        if "--json" in action.option_strings:
            yield action
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from json_options(below)


def options_of_all_commands():
    for name in COMMANDS:
        parser = argparse.ArgumentParser(prog=name)
        importlib.import_module(f"SemiSupSegLib.commands.{name}").add_arguments(parser)
        yield from ((name, one) for one in json_options(parser))


def test_every_command_declares_it_alike():
    found = list(options_of_all_commands())

    assert {name for name, _ in found} >= {"scan", "plan", "stage", "outcome", "evaluate", "models"}
    for name, one in found:
        assert (one.metavar, one.nargs, one.const, one.type) == ("FILE", "?", "-", None), name
        assert "standard output" in one.help, name


def test_a_file_is_written_and_words_may_be_said(tmp_path, capsys):
    file = tmp_path / "new" / "answer.json"
    prepare_json(str(file))

    assert not write_answer(str(file), CONTENT)

    assert json.loads(file.read_text(encoding="utf-8")) == CONTENT
    assert capsys.readouterr().out == ""


def test_standard_output_gets_the_answer_and_nothing_else(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    prepare_json("-")

    assert write_answer("-", CONTENT)

    assert json.loads(capsys.readouterr().out) == CONTENT
    assert not list(tmp_path.iterdir())


def test_without_it_nothing_is_written(capsys):
    assert not write_answer(None, CONTENT)
    assert capsys.readouterr().out == ""


def test_a_file_that_cannot_be_written_is_refused_before_the_work(tmp_path):
    with pytest.raises(SemiSupSegError, match="is a folder"):
        prepare_json(str(tmp_path))
