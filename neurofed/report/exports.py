"""A run written for other tools. Their packages are loaded when they are asked for."""

from __future__ import annotations

import importlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from neurofed.errors import ConfigError, DataError
from neurofed.files import make_folder, storing
from neurofed.report.data import Data
from neurofed.report.html import render_html
from neurofed.report.scalars import Recorded, Scalar, scalars
from neurofed.spec import require_run_id

_BATCH: Final = 1000
"""Metrics that MLflow takes in one request."""
_STATES: Final = {"completed": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
_HEAD: Final = ("run_id", "workload", "preset", "seed", "workers", "rounds_planned", "strategy", "codec", "chips")
_NOT_OF_MLFLOW: Final = re.compile(r"[^A-Za-z0-9_\-. :/]")


def json_lines(run: Recorded) -> Iterator[str]:
    """A run as lines of JSON: one of kind `run`, one of kind `round` for each round, and one of kind `final`.

    The objects are those of report.json, a round with `run_id` and the time of its evaluation; without line breaks.
    """
    report = run.report
    bulk = ("rounds", "final")
    lines: list[Data] = [{"kind": "run", **{key: value for key, value in report.items() if key not in bulk}}]
    for row in report["rounds"]:
        when = {"run_id": report["run_id"], "time_unix_s": run.times.get(row["round"])}
        lines.append({"kind": "round", **when, **row})
    lines.append({"kind": "final", "run_id": report["run_id"], **report["final"]})
    return (json.dumps(line, ensure_ascii=False, allow_nan=False) for line in lines)


def to_tensorboard(run: Recorded, folder: Path) -> Path:
    """Write a run's numbers as an event file of TensorBoard.

    Args:
        run: the run.
        folder: the log folder of TensorBoard; the run gets a folder of its name in it.

    Returns:
        The run's folder.

    Raises:
        ConfigError: if the extra is missing, or the run's name is no name of a folder.
        DataError: if the run is there already: TensorBoard would show both.
        StorageError: if the disk does not take it.
    """
    writers = _load("tensorboard.summary.writer.event_file_writer", "tensorboard")
    protos = [_load(f"tensorboard.compat.proto.{name}_pb2", "tensorboard") for name in ("event", "summary")]
    event_pb2, summary_pb2 = protos
    target: Path = folder / require_run_id(run.report["run_id"])
    if any(target.glob("events.out.tfevents.*")):
        raise DataError(f"expected no earlier export in {target}, found one: remove it, or export elsewhere")
    make_folder(target)
    with storing(target):
        writer = writers.EventFileWriter(str(target))
        for number in scalars(run):
            value = summary_pb2.Summary.Value(tag=number.tag, simple_value=number.value)
            summary = summary_pb2.Summary(value=[value])
            writer.add_event(event_pb2.Event(wall_time=number.time_unix_s, step=number.step, summary=summary))
        writer.close()
    return target


def to_mlflow(run: Recorded, target: str) -> str:
    """Record a run in MLflow: parameters, numbers by round, tags, and the report as artifact.

    Args:
        run: the run.
        target: a tracking URI, or a folder, in which MLflow keeps files.

    Returns:
        MLflow's id of the run.

    Raises:
        ConfigError: if the extra is missing.
        DataError: if MLflow does not take it.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    if "://" not in target:
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # a folder is asked for, so it is meant
        target = Path(target).absolute().as_uri()
    mlflow, entities = _load("mlflow", "mlflow"), _load("mlflow.entities", "mlflow")
    try:
        return _record(run, mlflow.MlflowClient(tracking_uri=target), entities)
    except (mlflow.exceptions.MlflowException, ImportError) as error:  # a data base needs more than the extra brings
        raise DataError(f"expected MLflow at {target} to take the run, got: {error}") from None


def _record(run: Recorded, client: Any, entities: Any) -> str:
    report = run.report
    name = f"neurofed/{report['workload']}"
    known = client.get_experiment_by_name(name)
    experiment = known.experiment_id if known else client.create_experiment(name)
    began_ms, ended_ms = (int(1000 * report[key]) for key in ("started_unix_s", "updated_unix_s"))
    made = client.create_run(experiment, start_time=began_ms, run_name=report["run_id"])
    run_id: str = made.info.run_id
    parameters = {**{key: report[key] for key in _HEAD}, **{f"settings.{k}": v for k, v in report["settings"].items()}}
    client.log_batch(run_id, params=[entities.Param(_mlflow_name(k), str(v)) for k, v in parameters.items()])
    tags = {"neurofed.version": report["version"], "neurofed.commit": report["commit"]}
    tags |= {"neurofed.state": report["state"], "neurofed.reason": report["reason"]}
    client.log_batch(run_id, tags=[entities.RunTag(key, str(value)) for key, value in tags.items()])
    numbers = list(scalars(run))
    for start in range(0, len(numbers), _BATCH):
        batch = [_metric(number, entities) for number in numbers[start : start + _BATCH]]
        client.log_batch(run_id, metrics=batch)
    client.log_text(run_id, json.dumps(report, indent=1, allow_nan=False), "report.json")
    client.log_text(run_id, render_html(report), "report.html")
    client.set_terminated(run_id, _STATES.get(report["state"], "RUNNING"), ended_ms)
    return run_id


def _metric(number: Scalar, entities: Any) -> Any:
    return entities.Metric(_mlflow_name(number.tag), number.value, int(1000 * number.time_unix_s), number.step)


def _mlflow_name(name: str) -> str:
    return _NOT_OF_MLFLOW.sub("_", name)


def _load(module: str, extra: str) -> Any:
    """Import what an extra of ours brings.

    Raises:
        ConfigError: saying how to install it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(f"expected the extra `{extra}` ({error}): pip install 'neurofed[{extra}]'") from None
