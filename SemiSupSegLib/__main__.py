"""`python -m SemiSupSegLib COMMAND`: everything the panel does to data and models."""

from __future__ import annotations

import argparse
import importlib
import io
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

if not __package__:
    # Started by its path, as workers are: beside this file lie modules such as `files` that must
    # not be found under these names.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from SemiSupSegLib.errors import SemiSupSegError, StoppedError, in_sentences
from SemiSupSegLib.waiting_threads import let_threads_sleep

COMMANDS = (
    "demo",
    "doctor",
    "scan",
    "prepare",
    "plan",
    "train",
    "stage",
    "learn",
    "predict",
    "evaluate",
    "review",
    "report",
    "outcome",
    "models",
    "worker",
)


def main(words: list[str] | None = None) -> int:
    """Run one command.

    Returns:
        0 done, 1 the work failed (the message says why), 2 wrong usage, 3 stopped and resumable;
        `plan` gives the one with which `train` would refuse, and with --json 0, for it has told.
    """
    logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stderr)
    # It tells of every file that it writes, with the identifiers of the patient's images.
    logging.getLogger("highdicom").setLevel(logging.WARNING)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A name that a terminal or a redirected output cannot show must not end the work.
            stream.reconfigure(errors="backslashreplace")
    words = sys.argv[1:] if words is None else words
    let_threads_sleep()
    # Only the named command is imported: `scan --help` should not load torch.
    wanted = [name for name in COMMANDS if words and words[0] == name] or COMMANDS
    parser = argparse.ArgumentParser(prog="SemiSupSeg", description=__doc__)
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in wanted:
        module = importlib.import_module(f"SemiSupSegLib.commands.{name}")
        subparser = subparsers.add_parser(name, help=module.HELP, description=module.HELP)
        module.add_arguments(subparser)
        subparser.set_defaults(run=module.run, goes_on=getattr(module, "goes_on", None))
    try:
        arguments = parser.parse_args(words)
    except SystemExit as end:
        return int(end.code or 0)
    arguments.words, arguments.main = words, main
    try:
        with _ended_in_words(arguments):
            code: int = arguments.run(arguments)
        return code
    except StoppedError as stop:
        print(_with_command(str(stop), arguments), file=sys.stderr)
        return stop.exit_code
    except SemiSupSegError as error:
        print(f"Error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        # If the interrupt came out of an exec (a dataclass was just being made, say), Python means
        # to end with the signal instead of our code; the next exec lets it forget that.
        exec("")
        print(_with_command("Interrupted.", arguments), file=sys.stderr)
        return StoppedError.exit_code
    except BrokenPipeError:
        # A reader such as `head` has left; there is nobody to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        print(f"Error: {in_sentences(error)}", file=sys.stderr)
        return 1


@contextmanager
def _ended_in_words(arguments: argparse.Namespace) -> Iterator[None]:
    """Let SIGTERM end a command that can go on as Ctrl-C does; of several processes none."""
    is_heard = (
        arguments.goes_on is not None
        and "WORLD_SIZE" not in os.environ
        and threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    )
    if not is_heard:
        yield
        return
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _with_command(told: str, arguments: argparse.Namespace) -> str:
    """Return why a command ended, and of one that can go on where it was how it does."""
    return f"{told} {arguments.goes_on(arguments)}" if arguments.goes_on else told


if __name__ == "__main__":
    sys.exit(main())
