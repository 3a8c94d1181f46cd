"""Every option of a run for a person: what it is called, what it does, what it may be.

It is read from the options' dataclasses: the help is the docstring below a field, what is offered
first is their `COMMON`. The help keeps a paper's symbol; the title is for somebody who has not
read the paper.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import textwrap
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from SemiSupSegLib.methods.catalogue import find_method
from SemiSupSegLib.methods.protocol import NetworkOptions
from SemiSupSegLib.networks.catalogue import NETWORKS
from SemiSupSegLib.options import to_json
from SemiSupSegLib.training.configuration import RunConfig

_KINDS = {int: "int", float: "float", bool: "bool", str: "text", tuple: "list"}
_WORDS = {"n4": "N4"}
"""Spelled otherwise than a name's words."""
_TITLES = {
    "agreement_threshold": "Least agreement",
    "anchors": "Voxels compared with prototypes",
    "aspp_rates": "Reach of the coarsest level",
    "ce_weight": "Weight of the cross-entropy",
    "clip_norm": "Largest gradient",
    "contrast_weight": "Weight of class prototypes",
    "copy_paste": "Batches with exchanged boxes",
    "cross_weight": "Weight of the other's labels",
    "curriculum": "Order of the cases",
    "cutmix": "Patches with a foreign box",
    "dice_weight": "Weight of the Dice term",
    "doubtful_weight": "Weight of doubtful voxels",
    "ema": "Averaging over updates",
    "filter_weight": "Weight of the surest labels",
    "finish_share": "Updates after the stages",
    "flip_axes": "Mirrored axes",
    "foreground_fraction": "Patches centred on a class",
    "fractions": "Share of cases by stage",
    "head_passes": "Predictions to learn uncertainty",
    "head_rate": "Learning rate for uncertainty",
    "head_share": "Updates to learn uncertainty",
    "image_confidence": "How cases are ranked",
    "judge_ensemble": "Judge the mean of both networks",
    "kappa": "Effect of uncertainty on trust",
    "kl": "Kind of divergence",
    "labelled_per_batch": "Labelled patches",
    "lambda_high": "Weight of trusted voxels",
    "lambda_low": "Weight of doubtful voxels",
    "log_variance_head": "Network tells its uncertainty",
    "log_variance_loss": "How uncertainty is learnt",
    "low_mode": "What happens with doubtful voxels",
    "lowest_threshold": "Least trust of any class",
    "min_confidence": "Least probability",
    "name": "Architecture",
    "norm_guard": "Limit of growth in a stage",
    "passes": "Predictions averaged",
    "patch_limit": "Longest side of a patch",
    "quality_weight": "Weight of the quality network",
    "quantile": "Voxels of a class not trusted",
    "ramp": "Gradual start in the first stage",
    "rampup_fraction": "Gradual start",
    "rampup_quantum": "Steps of the gradual start",
    "rate": "Learning rate",
    "refinement": "Where teacher and student differ",
    "reweight": "Weigh cases by quality",
    "smoothing": "Softened pseudo-labels",
    "stage_share": "Updates of each stage",
    "student_init": "First weights of the student",
    "teacher_labelled_per_batch": "Labelled patches (teacher)",
    "teacher_refresh": "Student may take over labelling",
    "teacher_share": "Updates of the teacher",
    "threshold": "Least trust",
    "threshold_mode": "Least trust for all or by class",
    "trust": "How trust is measured",
    "uncertainty": "Where uncertainty comes from",
    "unlabelled": "Unlabelled cases",
    "unlabelled_per_batch": "Unlabelled patches",
    "unlabelled_weight": "Weight of unlabelled patches",
    "validate_every": "Updates between validations",
    "warmup_fraction": "Updates without it",
}
"""Of options whose names are a paper's or a program's words, for whoever knows neither."""
_METHOD = "Method"
_NETWORKS = {"network": "Network", "second": "Second network"}
"""Headings of the networks that a method has."""


@dataclass(frozen=True, kw_only=True)
class DescribedOption:
    """One option that `--set` takes."""

    key: str
    """As `--set` has it: `pseudo_labels.threshold`, `training.patch_limit`."""
    group: str
    """The heading that it stands under."""
    title: str
    help: str
    """What it does, in sentences, with unit and range."""
    kind: str
    """`int`, `float`, `bool`, `choice`, `list` or `text`; with `none_or_` before it if null is a
    value, too."""
    choices: tuple[Any, ...]
    """The values of a `choice`; else empty."""
    default: Any
    """The preset's value, or the method's own where the preset has none."""
    value: Any
    """That of this run."""
    is_common: bool
    """Whether it is worth a look before the others."""

    def to_json(self) -> dict[str, Any]:
        """Return the option as plain values."""
        content = dataclasses.asdict(self)
        content["choices"] = list(self.choices)
        content["depth"] = "common" if content.pop("is_common") else "all"
        return content


def described_options(config: RunConfig, default: RunConfig) -> list[DescribedOption]:
    """Return all options of a run: the method's, its network's, of training and preparation.

    Args:
        config: The run's, whose values are told.
        default: What it would be without settings, of the same method and network.
    """
    return [
        *_of_dataclass(
            find_method(config.method).options,
            to_json(config.options),
            to_json(default.options),
            (),
            _METHOD,
        ),
        *_of_dataclass(
            type(config.training),
            to_json(config.training),
            to_json(default.training),
            ("training",),
            "Training",
        ),
        *_of_dataclass(
            type(config.preparation),
            to_json(config.preparation),
            to_json(default.preparation),
            ("preparation",),
            "Preparation",
        ),
    ]


def text_of(value: Any) -> str:
    """Return a value as `--set KEY=VALUE` takes it."""
    return value if isinstance(value, str) else json.dumps(value)


def _of_dataclass(
    kind: type[Any],
    values: Mapping[str, Any],
    defaults: Mapping[str, Any],
    path: tuple[str, ...],
    group: str,
) -> Iterator[DescribedOption]:
    hints = typing.get_type_hints(kind)
    helps = _field_helps(kind)
    common: frozenset[str] = getattr(kind, "COMMON", frozenset())
    for field in dataclasses.fields(kind):
        name, hint = field.name, hints[field.name]
        own = (*path, name)
        if dataclasses.is_dataclass(hint):
            below = typing.cast("type[Any]", hint)
            title = _NETWORKS.get(name) or _titled(name)
            yield from _of_dataclass(below, values[name], defaults[name], own, title)
        elif kind is NetworkOptions and name == "options":
            network, _ = NETWORKS[values["name"]]
            yield from _of_dataclass(network, values[name], defaults[name], own, group)
        else:
            form, choices = _form(hint)
            if kind is NetworkOptions:
                form, choices = "choice", tuple(NETWORKS)
            yield DescribedOption(
                key=".".join(own),
                group=group,
                title=_titled(name),
                help=helps.get(name, ""),
                kind=form,
                choices=choices,
                default=defaults[name],
                value=values[name],
                is_common=name in common,
            )


def _form(hint: Any) -> tuple[str, tuple[Any, ...]]:
    """Return the kind of an option and what there is to choose."""
    arguments = typing.get_args(hint)
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        (rest,) = (one for one in arguments if one is not types.NoneType)
        form, choices = _form(rest)
        return f"none_or_{form}", choices
    if typing.get_origin(hint) is typing.Literal:
        return "choice", arguments
    return _KINDS[typing.get_origin(hint) or hint], ()


def _field_helps(kind: type[Any]) -> dict[str, str]:
    """Return the docstring below each field of a dataclass, on one line; inherited ones, too."""
    found: dict[str, str] = {}
    for one in reversed(kind.__mro__):
        if dataclasses.is_dataclass(one):
            found.update(_own_field_helps(one))
    return found


def _own_field_helps(kind: type[Any]) -> dict[str, str]:
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(definition, ast.ClassDef)
    found = {}
    for field, following in zip(definition.body, definition.body[1:], strict=False):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(following, ast.Expr)
            and isinstance(following.value, ast.Constant)
            and isinstance(following.value.value, str)
        ):
            found[field.target.id] = " ".join(following.value.value.split())
    return found


def _titled(name: str) -> str:
    if name == "pseudo_labels":
        return "Pseudo-labels"
    if name in _TITLES:
        return _TITLES[name]
    first, *rest = (_WORDS.get(word, word) for word in name.split("_"))
    return " ".join([first[:1].upper() + first[1:], *rest])
