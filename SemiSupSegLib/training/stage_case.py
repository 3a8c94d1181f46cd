"""A pseudo-labelled case of a stage as a result folder, while its run goes on.

The run folder is only read. What the networks make of the case comes from the run's newest complete
checkpoint, or from its student if it is finished; the pseudo-label and its weights are those that
the stage learns from.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from SemiSupSegLib.cases.case import Case
from SemiSupSegLib.cases.discovery import discover
from SemiSupSegLib.cases.reading import content_hash
from SemiSupSegLib.cases.task import Task, task_from_json
from SemiSupSegLib.counting import counted
from SemiSupSegLib.errors import SemiSupSegError
from SemiSupSegLib.files import read_json
from SemiSupSegLib.inference.calibration import uncalibrated
from SemiSupSegLib.inference.maps import OUTSIDE
from SemiSupSegLib.inference.predictor import Predictor
from SemiSupSegLib.inference.writing import write_result
from SemiSupSegLib.models.package import MANIFEST, ModelPackage, read_package, write_package
from SemiSupSegLib.networks.base import SegmentationNetwork
from SemiSupSegLib.networks.catalogue import build_network
from SemiSupSegLib.preparation.prepare import prepare_case
from SemiSupSegLib.preparation.restoring import restore
from SemiSupSegLib.runs.run_folder import RunFolder
from SemiSupSegLib.runs.stages import ShownCase, pseudo_label_of
from SemiSupSegLib.training.checkpoints import Checkpoint, load_network_tensors, peek_weights
from SemiSupSegLib.training.configuration import RunConfig, config_from_json
from SemiSupSegLib.training.description import describe_model
from SemiSupSegLib.training.start import scan_cache


class StageCases:
    """Writes cases of a run's stages as results.

    Args:
        run: The run folder; nothing is written there.
        cases: The folder of cases, where it is now; None: where it was at the run's start.
        device: Where windows are computed.
        passes: Stochastic passes of the student; None: as the model needs.

    Raises:
        SemiSupSegError: If the folder is no run, has no checkpoint yet, or its cases have gone.
    """

    def __init__(
        self,
        run: RunFolder,
        *,
        cases: Path | None,
        device: torch.device,
        passes: int | None = None,
    ) -> None:
        self._run = run
        self._content = run.read_config()
        self._task = task_from_json(self._content["task"], run.run_json)
        self._config = config_from_json(self._content["config"])
        self._found = self._discover(cases)
        with _networks(run, self._content, self._task, self._config) as (package, warnings):
            self._sha256, self._warnings = package.sha256, warnings
            self._predictor = Predictor(package, device=device, passes=passes)

    def write(self, stage: int, shown: ShownCase, out: Path) -> Path:
        """Write OUT/<case>/ with all maps, and return it.

        Raises:
            SemiSupSegError: If the case's images have gone or changed since the run's start.
        """
        case = self._case(shown.case)
        prepared = prepare_case(case, self._task, self._config.preparation)
        label, weight = pseudo_label_of(self._run, stage, shown.case)
        if label.shape != prepared.shape:
            raise SemiSupSegError(
                f"The pseudo-label of {shown.case} in stage {stage} lies on another grid than the "
                "case, which was prepared otherwise then. Open it with the SemiSupSeg of the run."
            )
        maps = self._predictor.predict(prepared, maps="all", pseudo_label=label)
        weights = np.divide(weight[None], 255, dtype=np.float32)
        trust = restore(weights, prepared, outside=(OUTSIDE["trust"],))[0]
        return write_result(
            out,
            shown.case,
            replace(maps, trust=trust.clip(0, 1)),
            self._task,
            original=prepared.original,
            like=prepared.reference,
            model_sha256=self._sha256,
            model_name=f"{self._run.path.name}, stage {stage}",
            inputs=case.channels,
            warnings=(self._about(stage, shown), *self._warnings, *prepared.warnings),
        )

    def _about(self, stage: int, shown: ShownCase) -> str:
        partial = shown.case in set(self._content.get("partial", ()))
        return (
            f"Stage {stage} of the run {self._run.path.name}, its "
            f"{'median' if shown.rank == 'median' else shown.rank + ' confident'} case (image "
            f"confidence {shown.image_confidence:.2f}): the pseudo-label is the one that this "
            "stage learns from, trust its weight there."
            + (
                " Where a person has labelled the case, that label is learnt from instead: there "
                "trust is 0, and the pseudo-label shown is the teacher's."
                if partial
                else ""
            )
        )

    def _discover(self, cases: Path | None) -> Mapping[str, Case]:
        folder = Path(self._content["request"]["cases"]["folder"]) if cases is None else cases
        if not folder.is_dir():
            raise SemiSupSegError(
                f"{folder}, the folder of cases of {self._run.path}, is not there. If it was "
                "moved, give its new place with --cases; else put it back."
            )
        scan = discover(
            folder,
            self._task,
            check_content=False,
            cache=scan_cache(folder, Path(self._content["store"])),
            label_ids=(),
        )
        return {case.id: case for case in scan.cases}

    def _case(self, case_id: str) -> Case:
        case = self._found.get(case_id)
        if case is None:
            raise SemiSupSegError(
                f"Case {case_id} of {self._run.path} is not among its cases any more. Put its "
                "files back, or give the right folder with --cases."
            )
        for name, source in case.channels.items():
            if self._content["inputs"][case_id].get(name) != content_hash(source):
                raise SemiSupSegError(
                    f"{source} has changed since the run was started, so its pseudo-label does not "
                    "belong to it. Put the former file back."
                )
        return case


@contextmanager
def _networks(
    run: RunFolder, content: Mapping[str, Any], task: Task, config: RunConfig
) -> Iterator[tuple[ModelPackage, tuple[str, ...]]]:
    """Give the networks as a package, and what has to be said of them."""
    if (run.models / "student" / MANIFEST).is_file():
        yield read_package(run.models / "student"), ()
        return
    checkpoint = peek_weights(run.checkpoints)
    if checkpoint is None:
        raise SemiSupSegError(
            f"{run.path} has no checkpoint yet. Try again when its first stage has begun."
        )
    with tempfile.TemporaryDirectory(prefix="semisupseg-stage-") as folder:
        package = _unfinished_package(Path(folder), checkpoint, run, content, task, config)
        yield package, _unfinished_warnings(checkpoint, config)


def _unfinished_package(
    folder: Path,
    checkpoint: Checkpoint,
    run: RunFolder,
    content: Mapping[str, Any],
    task: Task,
    config: RunConfig,
) -> ModelPackage:
    """Write student and present labeller of a checkpoint as a package, as they are."""
    since = int(checkpoint.state["method"].get("labelling_since", 0))
    names = {"student": "student", "teacher": "labelling" if since else "teacher"}
    networks = {
        role: _network(name, checkpoint.weights, task, config) for role, name in names.items()
    }
    if not all(one.is_head_taught for one in networks.values()):
        # As in `export`: what is not taught yet says nothing.
        for one in networks.values():
            one.log_variance_head = None
    labeller = f"student_before_{since:02d}" if since else "teacher"
    scores = run.stages / labeller / "scores.json"
    temperature = float(read_json(scores)["temperature"]) if scores.is_file() else 1.0
    calibration = replace(uncalibrated(task.num_classes), teacher_temperature=temperature)
    depth, height, width = content["patch_size"]
    manifest = describe_model(task, config, (depth, height, width), calibration)
    if not networks["student"].has_log_variance:
        manifest["network"]["options"]["log_variance_head"] = False
    return write_package(
        folder / "package",
        manifest={
            **manifest,
            "name": f"{task.name[:60]} {config.method} student, unfinished",
            # The same checkpoint is the same model, however often it is looked at.
            "created": content["created"],
        },
        weights={
            role: {name: value.numpy() for name, value in network.state_dict().items()}
            for role, network in networks.items()
        },
        card="Student and teacher of a run that goes on. Not for use.\n",
    )


def _network(
    name: str, weights: Mapping[str, Tensor], task: Task, config: RunConfig
) -> SegmentationNetwork:
    options = config.options.network
    network = build_network(
        options.name,
        options.options,
        in_channels=len(task.channels),
        num_classes=task.num_classes,
    )
    load_network_tensors({name: network}, weights)
    return network.eval().requires_grad_(False)


def _unfinished_warnings(checkpoint: Checkpoint, config: RunConfig) -> tuple[str, ...]:
    done = int(checkpoint.state["position"]["iteration"])
    learnt = int(checkpoint.state["method"].get("student_iteration", 0))
    lines = [
        f"The student is not finished: the label is what it says after {done:,} of the run's "
        f"{counted(config.iterations, 'updates')}, {learnt:,} of them its own. Its confidence "
        "is not calibrated before the run ends."
    ]
    if not learnt:
        lines.append(
            "The student has not learnt anything of its own yet: look at the pseudo-label, not at "
            "label, confidence, uncertainty, agreement or comparison."
        )
    return tuple(lines)
