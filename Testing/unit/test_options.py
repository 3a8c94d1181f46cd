"""Options to JSON and back, and from the command line."""

from dataclasses import dataclass, field
from typing import Literal

import pytest

from SemiSupSegLib.errors import UsageError
from SemiSupSegLib.options import from_json, to_json, with_settings


@dataclass(frozen=True, kw_only=True)
class Inner:
    rate: float = 0.1
    side: tuple[int, int, int] | None = None


@dataclass(frozen=True, kw_only=True)
class Outer:
    inner: Inner = field(default_factory=Inner)
    kind: Literal["soft", "hard"] = "hard"
    steps: int = 3
    fractions: tuple[float, ...] = (0.5, 1.0)

    def __post_init__(self):
        if self.steps < 0:
            raise ValueError(f"steps is {self.steps}, must be 0 or more")


def test_options_survive_json():
    options = Outer(inner=Inner(rate=0.5, side=(1, 2, 3)), kind="soft", fractions=(0.25,))

    assert from_json(Outer, to_json(options)) == options


def test_a_setting_reaches_a_nested_option():
    changed = with_settings(Outer(), {"inner.side": "[4,5,6]", "kind": "soft", "inner.rate": "1"})

    assert changed.inner == Inner(rate=1.0, side=(4, 5, 6))
    assert changed.kind == "soft"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"stepz": "1"}, "has no 'stepz'. Did you mean 'steps'"),
        ({"inner.rat": "1"}, "has no 'rat'. Did you mean 'rate'"),
        (
            {"steps.a": "1"},
            r"has no 'steps' with options below it \(from 'steps.a'\); those .* are inner\.",
        ),
        ({"steps": "1.5"}, "steps is 1.5, must be int"),
        ({"steps": "true"}, "steps is True, must be int"),
        ({"steps": "-1"}, r"steps is -1, must be 0 or more\.$"),
        ({"kind": "medium"}, "must be one of soft, hard"),
        ({"inner.side": "[1,2]"}, "has 2 values, must have 3"),
        ({"fractions": "1"}, "must be a list"),
        ({"inner": "3"}, "must be a group of options"),
    ],
)
def test_a_setting_without_meaning_is_refused_with_what_is_wrong(settings, message):
    with pytest.raises(UsageError, match=message):
        with_settings(Outer(), settings)
