"""The result on the validation cases: student against teacher, Liu's table II, or before and after.

A run that learnt from corrections is compared with the student that it went on from, any other with
its teacher.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean, stdev

from SemiSupSegLib.evaluation.intervals import (
    MIN_CASES,
    Interval,
    bootstrap_difference,
    gain_sentence,
)
from SemiSupSegLib.report.blocks import (
    MINUS,
    NOTHING,
    Block,
    Figure,
    Note,
    Section,
    Table,
    count_of,
    number,
)
from SemiSupSegLib.report.drawing import (
    GRID,
    INK,
    MUTED,
    STUDENT,
    TEACHER,
    drawing,
    legend_below,
    to_svg,
)
from SemiSupSegLib.report.record import RunRecord
from SemiSupSegLib.runs.state import RunStatus

MEAN = "mean"


@dataclass(frozen=True, kw_only=True)
class _Rivals:
    """Which networks a page compares, and what it calls them."""

    other: str
    """Name in validation/cases.json of what the student is compared with."""
    ours: str
    """The student, where figures stand."""
    theirs: str
    names: tuple[str, str]
    """Both, student first, in sentences."""
    gain: str
    """Title of the figure of the gain."""

    def title(self, network: str) -> str:
        """Return a network's name as the head of a column."""
        return (self.ours if network == "student" else self.theirs).capitalize()


_TEACHER = _Rivals(
    other="teacher",
    ours="student",
    theirs="teacher",
    names=("student", "teacher"),
    gain="Gain of the student over its teacher",
)
_BESIDE = _Rivals(
    other="teacher",
    ours="student",
    theirs="second network",
    names=("student", "second network"),
    gain="The student and the network that learnt beside it",
)
_BEFORE = _Rivals(
    other="before",
    ours="student after",
    theirs="student before",
    names=("new student", "former student"),
    gain="What learning from the corrections has changed",
)


def _rivals(record: RunRecord) -> _Rivals:
    if record.goes_on:
        return _BEFORE
    return _BESIDE if record.learns_beside else _TEACHER


def headline(record: RunRecord) -> list[str]:
    """Return the result in a few plain sentences."""
    student = record.mean_dice("student")
    if not student:
        return [_why_no_result(record)]
    names = record.task.headline_targets
    over = f" (mean over {', '.join(names)})" if len(names) > 1 else f" ({names[0]})"
    cases = count_of(len(student), "validation cases")
    sentences = [f"The student reaches a Dice of {fmean(student.values()):.3f}{over} on {cases}."]
    if record.goes_on:
        return sentences + _before_and_after(record, student)
    teacher = record.mean_dice("teacher")
    labelled = count_of(len(record.config["split"]["train_labelled"]), "labelled cases")
    if not teacher:
        return [
            *sentences,
            f"Method {record.config['method']} has no teacher, so there is nothing to compare "
            f"the student with in this run, which had {labelled}.",
        ]
    shared = [case for case in student if case in teacher]
    ours, theirs = [student[case] for case in shared], [teacher[case] for case in shared]
    if record.learns_beside:
        sentences.append(
            f"The second network, trained beside it on the same cases, reaches {fmean(theirs):.3f}."
        )
        return [*sentences, gain_sentence(ours, theirs, names=_BESIDE.names), *_of_both(record)]
    sentences.append(f"The teacher, trained only on the {labelled}, reaches {fmean(theirs):.3f}.")
    sentences.append(gain_sentence(ours, theirs))
    trainings = _trainings(record)
    if trainings is not None:
        sentences.append(f"Compared are: {trainings}.")
        if trainings.goes_on:
            sentences.append("A part of a gain may come from the longer training alone.")
    return sentences


def _of_both(record: RunRecord) -> list[str]:
    ensemble = record.mean_dice("ensemble")
    if not ensemble:
        return []
    return [f"The mean of both networks' probabilities reaches {fmean(ensemble.values()):.3f}."]


def _before_and_after(record: RunRecord, student: Mapping[str, float]) -> list[str]:
    reviewed = count_of(len(record.config.get("reviewed", ())), "reviewed cases")
    before = record.mean_dice("before")
    shared = [case for case in student if case in before]
    if not shared:
        return [f"It learnt from the corrections of {reviewed}."]
    ours, theirs = [student[case] for case in shared], [before[case] for case in shared]
    return [
        f"Before it learnt from the corrections of {reviewed}, it reached {fmean(theirs):.3f}.",
        gain_sentence(ours, theirs, names=_BEFORE.names),
    ]


@dataclass(frozen=True, kw_only=True)
class _Trainings:
    """How long the compared networks were trained, and on what."""

    teacher: int
    """Updates."""
    student: int
    """Updates of its own."""
    goes_on: bool
    """Whether the student starts from the teacher's weights."""
    on: str
    """Cases that the student learns from."""

    def __str__(self) -> str:
        if self.goes_on:
            student = f"{self.student:,} more on {self.on}, starting from the teacher's weights"
        else:
            student = (
                f"{count_of(self.student, 'updates')} on {self.on}, starting from random weights"
            )
        return f"teacher: {count_of(self.teacher, 'updates')} on labelled cases; student: {student}"


def _trainings(record: RunRecord) -> _Trainings | None:
    """Return None as long as there are no updates of both: a gain may come from longer training."""
    options = record.config["options"]
    teacher, stages = 0, []
    for span in record.phases():
        if span.name == "teacher":
            teacher = span.end - span.start
        elif span.name.startswith("stage"):
            stages.append(span.end - span.start)
    if not options.get("warm_start", True):
        # Each stage trains a new student.
        stages = stages[-1:]
    if not teacher or not sum(stages):
        return None
    uses_unlabelled = (
        options.get("unlabelled", "use") == "use" and record.config["split"]["train_unlabelled"]
    )
    return _Trainings(
        teacher=teacher,
        student=sum(stages),
        goes_on=options.get("student_init") == "teacher" or record.config["method"] == "best",
        on="labelled and unlabelled cases" if uses_unlabelled else "labelled cases",
    )


def _compared(record: RunRecord) -> str:
    """Return what was compared, to end a caption; empty if nothing is."""
    trainings = _trainings(record) if "teacher" in record.networks else None
    return "" if trainings is None else f" Compared: {trainings}."


def tiles(record: RunRecord) -> list[tuple[str, str, str]]:
    """Return the page's large figures: name, value, remark."""
    split = record.config["split"]
    rivals = _rivals(record)
    student, teacher = record.mean_dice("student"), record.mean_dice(rivals.other)
    best, ensemble = record.mean_dice("best_validation"), record.mean_dice("ensemble")
    trainings = _trainings(record)
    found = []
    if student:
        title = rivals.title("student")
        found.append((title, number(fmean(student.values())), "Dice, last moving average"))
    if teacher and record.goes_on:
        remark = "Dice, of the model that it went on from"
        found.append((rivals.title("before"), number(fmean(teacher.values())), remark))
    elif teacher and record.learns_beside:
        remark = "Dice, trained beside it on the same cases"
        found.append((rivals.title("teacher"), number(fmean(teacher.values())), remark))
    elif teacher:
        length = "" if trainings is None else f", {count_of(trainings.teacher, 'updates')}"
        remark = f"Dice, labelled cases only{length}"
        found.append(("Teacher", number(fmean(teacher.values())), remark))
    if student and teacher:
        gain = _gain(student, teacher)
        length = ""
        if trainings is not None:
            updates = "more updates" if trainings.goes_on else "updates"
            length = f"; with {count_of(trainings.student, updates)}"
        title = "Difference" if record.learns_beside else "Gain"
        found.append((title, number(gain.mean, sign=True), f"{_interval(gain)}{length}"))
    if ensemble:
        remark = "Dice, of their probabilities; not exported"
        found.append(("Mean of both", number(fmean(ensemble.values())), remark))
    if best:
        found.append(("Best on validation", number(fmean(best.values())), "chosen on these cases"))
    counts = [len(split[name]) for name in ("train_labelled", "train_unlabelled", "validation")]
    cases = " + ".join(str(count) for count in counts)
    found.append(("Cases", cases, "labelled + unlabelled + validation"))
    return found


def outcome_section(record: RunRecord) -> Section:
    """Return the class table and how certain the gain is."""
    blocks: list[Block] = []
    if not record.mean_dice("student"):
        blocks.append(Note(text=_why_no_result(record)))
    else:
        has_teacher = _rivals(record).other in record.networks
        if has_teacher:
            blocks += [_forest(record), _pairs(record)]
        blocks += [_dice_table(record), _distance_table(record)]
        if not has_teacher:
            blocks.append(Note(text="This method trains no teacher, so only the student is shown."))
        if "best_validation" not in record.networks:
            blocks.append(Note(text="No best-on-validation student was kept in this run."))
    return Section(
        id="result",
        title="Result on the validation cases",
        intro=(
            "Validation cases are never trained on. The exported student is the last moving "
            "average of its weights; the best on validation is shown beside it for comparison "
            "only, because it was chosen on these very cases."
        ),
        blocks=blocks,
    )


def _dice_table(record: RunRecord) -> Table:
    regions = {region.name for region in record.task.regions}
    rivals = _rivals(record)
    has_teacher = rivals.other in record.networks
    rows = []
    for target in _targets(record):
        student, teacher, best = (
            _dice(record, name, target) for name in ("student", rivals.other, "best_validation")
        )
        kind = "" if target == MEAN else "region" if target in regions else "class"
        row = [f"{target} ({kind})" if kind else _mean_name(record)]
        if has_teacher:
            row += [_spread(teacher), _spread(student)]
            gain = _gain(student, teacher) if student and teacher else None
            row += [number(gain.mean, sign=True), _interval(gain)] if gain else [NOTHING, NOTHING]
        else:
            row += [_spread(student)]
        row.append(_spread(best))
        rows.append(tuple(row))
    head = ["Class or region"]
    if has_teacher:
        head += [rivals.title(rivals.other), rivals.title("student"), "Difference", "95 % interval"]
    else:
        head.append("Student")
    return Table(
        title="Dice by class and region (Liu, table II)",
        head=(*head, "Best on validation"),
        rows=tuple(rows),
        strong_rows=(len(rows) - 1,) if len(rows) > 1 else (),
        caption=(
            "Mean ± standard deviation over the validation cases. The interval is a paired "
            "bootstrap over cases (10,000 drawings). A target that is empty in both label maps "
            f"counts as 1, in one of them as 0.{_compared(record)}"
        ),
    )


def _distance_table(record: RunRecord) -> Table:
    rivals = _rivals(record)
    networks = [name for name in (rivals.other, "student") if name in record.networks]
    metrics = (("iou", "IoU", 3), ("hd95_mm", "HD95, mm", 1), ("assd_mm", "ASSD, mm", 2))
    head = ["Class or region"]
    head += [f"{title}, {_called(rivals, name)}" for _, title, _ in metrics for name in networks]
    rows = []
    for target in record.task.targets:
        row = [target]
        for metric, _, digits in metrics:
            for network in networks:
                values = record.figures(network, target, metric).values()
                row.append(number(fmean(values), digits) if values else NOTHING)
        for network in networks:
            row.append(str(_one_empty(record, network, target)))
        rows.append(tuple(row))
    head += [f"Empty, {_called(rivals, name)}" for name in networks]
    return Table(
        title="Overlap and distances",
        head=tuple(head),
        rows=tuple(rows),
        caption=(
            "Means over the validation cases. HD95: 95th percentile of the surface distance; "
            "ASSD: its mean. Empty: cases in which prediction or reference, but not both, is "
            "empty; their distance counts as the diagonal of the field of view."
            f"{_compared(record)}"
        ),
    )


def _called(rivals: _Rivals, network: str) -> str:
    return rivals.ours if network == "student" else rivals.theirs


def _forest(record: RunRecord) -> Figure:
    targets, rivals = _targets(record), _rivals(record)
    with drawing(max(1.2, 0.8 + 0.27 * len(targets))) as (figure, (axes,)):
        axes.axvline(0, color=MUTED, linewidth=1)
        for row, target in enumerate(targets):
            student, teacher = _dice(record, "student", target), _dice(record, rivals.other, target)
            if not student or not teacher:
                continue
            gain = _gain(student, teacher)
            y = -row
            if gain.low is not None and gain.high is not None:
                axes.plot([gain.low, gain.high], [y, y], color=STUDENT, linewidth=2.4)
            filled = STUDENT if gain.is_outside_noise else "none"
            axes.plot(
                gain.mean,
                y,
                "D" if target == MEAN else "o",
                markersize=7,
                color=STUDENT,
                markerfacecolor=filled,
                markeredgewidth=1.6,
            )
        axes.set_yticks([-row for row in range(len(targets))], targets)
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.grid(visible=False, axis="y")
        axes.margins(y=0.08)
        axes.locator_params(axis="x", nbins=5)
        axes.set_xlabel(f"difference of Dice, {rivals.ours} {MINUS} {rivals.theirs}")
        svg = to_svg(
            figure,
            f"Difference of Dice between {rivals.ours} and {rivals.theirs} by class and region",
        )
    return Figure(
        svg=svg,
        title=rivals.gain,
        caption=(
            f"Mean over cases with 95 % bootstrap interval (from {MIN_CASES} cases on). A filled "
            f"mark: the interval leaves out 0. To the right of 0 the {rivals.names[0]} is better."
            f"{_compared(record)}"
        ),
    )


def _pairs(record: RunRecord) -> Figure:
    rivals = _rivals(record)
    student, teacher = record.mean_dice("student"), record.mean_dice(rivals.other)
    shared = [case for case in student if case in teacher]
    better = sum(student[case] > teacher[case] for case in shared)
    with drawing(max(2.2, 0.8 + 0.27 * len(_targets(record)))) as (figure, (axes,)):
        low = min([*student.values(), *teacher.values()])
        axes.plot([low, 1], [low, 1], color=MUTED, linewidth=1)
        axes.annotate(
            f"{rivals.names[0]} better",
            (0.04, 0.96),
            xycoords="axes fraction",
            va="top",
            color=STUDENT,
        )
        axes.annotate(
            f"{rivals.names[1]} better",
            (0.96, 0.04),
            xycoords="axes fraction",
            ha="right",
            color=TEACHER,
        )
        for case in shared:
            gain = student[case] - teacher[case]
            color, marker = (STUDENT, "o") if gain > 0 else (TEACHER, "s")
            if gain == 0:
                color, marker = MUTED, "D"
            axes.plot(teacher[case], student[case], marker, color=color, alpha=0.8, markersize=5.5)
        axes.set_xlabel(f"{rivals.theirs}, Dice")
        axes.set_ylabel(f"{rivals.ours}, Dice")
        svg = to_svg(figure, f"Dice of {rivals.ours} against {rivals.theirs}, case by case")
    return Figure(
        svg=svg,
        title="Case by case",
        caption=(
            f"{_mean_name(record)} of each validation case; the {rivals.names[0]} is better in "
            f"{better} of {len(shared)}. On the line both are equal.{_compared(record)}"
        ),
    )


def error_section(record: RunRecord) -> Section:
    """Return what kind of mistakes the networks make, Liu's figure 10."""
    details: Mapping[str, Mapping[str, Mapping[str, Mapping[str, float]]]] = (
        record.validation or {}
    ).get("details", {})
    blocks: list[Block] = []
    rivals = _rivals(record)
    networks = [name for name in (rivals.other, "student") if name in record.networks]
    titles = {
        "boundary": "boundary",
        "false_positive": "false positive",
        "false_negative": "false negative",
        "class_confusion": "wrong class",
    }
    means = {
        network: {
            kind: fmean(one[network]["errors_ml"][kind] for one in details.values())
            for kind in titles
        }
        for network in networks
        if details
    }
    if means:
        named = {_called(rivals, name): one for name, one in means.items()}
        blocks.append(_error_figure(named, titles))
        rows = []
        for kind, title in titles.items():
            row = [title, *(number(means[name][kind], 2) for name in networks)]
            if len(networks) == 2:
                row.append(_change(means[rivals.other][kind], means["student"][kind]))
            rows.append(tuple(row))
        totals = {name: sum(means[name].values()) for name in networks}
        row = ["all", *(number(totals[name], 2) for name in networks)]
        if len(networks) == 2:
            row.append(_change(totals[rivals.other], totals["student"]))
        change = ("Change",) if len(networks) == 2 else ()
        blocks.append(
            Table(
                title="Wrong volume by kind",
                head=("Kind", *(f"{rivals.title(name)}, mL" for name in networks), *change),
                rows=(*rows, tuple(row)),
                strong_rows=(len(rows),),
                half=True,
                caption=(
                    "Mean over the validation cases. Boundary: a border that both label maps "
                    "have lies up to 2 mm off (one voxel, where voxels are larger). Wrong class: "
                    "foreground in both, of different class."
                ),
            )
        )
    else:
        blocks.append(Note(text=record.absence("Errors by kind")))
    return Section(id="errors", title="Errors (Liu, figure 10)", blocks=blocks)


def _error_figure(means: Mapping[str, Mapping[str, float]], titles: Mapping[str, str]) -> Figure:
    with drawing(2.4) as (figure, (axes,)):
        height = 0.8 / len(means)
        for place, (network, by_kind) in enumerate(means.items()):
            shift = (place - (len(means) - 1) / 2) * height
            is_last = place == len(means) - 1
            bars = axes.barh(
                [-row - shift for row in range(len(titles))],
                [by_kind[kind] for kind in titles],
                height=0.9 * height,
                color=STUDENT if is_last else TEACHER,
                label=network,
                hatch=None if is_last else "///",
                edgecolor=GRID,
                linewidth=0,
            )
            axes.bar_label(bars, fmt="%.2f", padding=3, fontsize=8, color=INK)
        axes.set_yticks([-row for row in range(len(titles))], list(titles.values()))
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.grid(visible=False, axis="y")
        axes.margins(x=0.14)
        axes.set_xlabel("wrong volume, mL per case")
        legend_below(figure, axes)
        svg = to_svg(figure, "Wrong volume by kind of error")
    return Figure(
        svg=svg,
        title="What kind of mistakes",
        caption="Every wrong voxel belongs to one kind; shorter is better.",
    )


def _why_no_result(record: RunRecord) -> str:
    if not record.config["split"]["validation"]:
        return "This run has no validation cases, so nothing can be said about its quality."
    if record.status is RunStatus.FINISHED:
        return "The run is finished, but validation/cases.json is missing: no result to show."
    return (
        "The networks are judged on the validation cases when the run is finished; until then "
        "only the curves below can be shown."
    )


def _dice(record: RunRecord, network: str, target: str) -> dict[str, float]:
    if target == MEAN:
        return record.mean_dice(network)
    return record.figures(network, target, "dice")


def _targets(record: RunRecord) -> list[str]:
    targets = list(record.task.targets)
    return [*targets, MEAN] if len(targets) > 1 else targets


def _gain(student: Mapping[str, float], teacher: Mapping[str, float]) -> Interval:
    shared = [case for case in student if case in teacher]
    return bootstrap_difference(
        [student[case] for case in shared], [teacher[case] for case in shared]
    )


def _interval(gain: Interval) -> str:
    if gain.low is None or gain.high is None:
        return f"under {MIN_CASES} cases: no interval"
    return f"{number(gain.low, sign=True)} to {number(gain.high, sign=True)}"


def _spread(values: Mapping[str, float]) -> str:
    if not values:
        return NOTHING
    mean = number(fmean(values.values()))
    return f"{mean} ± {number(stdev(values.values()))}" if len(values) > 1 else mean


def _mean_name(record: RunRecord) -> str:
    names = record.task.headline_targets
    return f"Mean of {', '.join(names)}" if len(names) > 1 else f"Dice of {names[0]}"


def _one_empty(record: RunRecord, network: str, target: str) -> int:
    cases = (record.validation or {}).get("cases", {})
    return sum(
        one.get(network, {}).get(target, {}).get("empty") == "one_empty" for one in cases.values()
    )


def _change(before: float, after: float) -> str:
    return f"{number(100 * (after / before - 1), 0, sign=True)} %" if before else NOTHING
