"""Adds results, hyperparameters and pictures of all runs to TensorBoard, for one `tensorboard --logdir`. Imports no torch.

Training writes its scalars into the same folder per run. For a network that was trained elsewhere and comes from a shared store,
they are written here, from its metrics.jsonl.
"""

from __future__ import annotations

import io
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api_pb2, metadata
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo, SessionStartInfo
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from spikedistill.plan.stages import DistillSpec, TeacherSpec
from spikedistill.report.compare import flatten
from spikedistill.report.plots.pictures import as_picture
from spikedistill.report.records import RunRecord
from spikedistill.report.tables.columns import ACCURACY, ENERGY, FIRING_RATE, MEASURES, Column, robustness_columns

SUFFIX = ".report"
COMPARED = (ACCURACY, ENERGY, FIRING_RATE)  # the metrics in TensorBoard's table of hyperparameters
MIN_HEIGHT = 96  # of a picture, in pixels
FOLDERS = {spec.role: spec.folder for spec in (TeacherSpec, DistillSpec)}


def write_tensorboard(records: Sequence[RunRecord], folder: Path) -> None:
    """Write the results of every measured run; those of an earlier report are replaced.

    Args:
        records: the runs; runs that share a network share a folder.
        folder: folder of all TensorBoard logs.
    """
    measured = {f"{FOLDERS[run.role]}/{run.artifact}": run for run in records if run.evaluation is not None}
    for name, run in measured.items():
        for old in (folder / name).glob(f"events.*{SUFFIX}"):
            old.unlink()
        trained_elsewhere = not any((folder / name).glob("events.*"))
        writer = EventFileWriter(str(folder / name), filename_suffix=SUFFIX)
        try:
            now_s = time.time()
            for step, summary in _summaries(run, with_training=trained_elsewhere):
                writer.add_event(Event(wall_time=now_s, step=step, summary=summary))
        finally:
            writer.close()


def _summaries(run: RunRecord, *, with_training: bool) -> Iterator[tuple[int, Summary]]:
    assert run.evaluation is not None
    if with_training:
        for record in run.metrics:
            for tag, value in record.items():
                if "/" in tag:
                    yield record["epoch"], _scalar(tag, value)
    last = len(run.metrics)
    for column in (*MEASURES, *robustness_columns([run.evaluation])):
        value = column.read(run.evaluation)
        if value is not None:
            yield last, _scalar(_tag(column), value * column.factor)
    for step, accuracy in enumerate(run.evaluation.get("accuracy_at_step", []), start=1):
        yield step, _scalar("accuracy_over_time/mean_of_first_t(%)", 100 * accuracy)
    for layer in run.evaluation.get("firing_rate", {}).get("layers", []):
        yield last, _scalar(f"firing_rate/{layer['name']}", layer["rate"])
    yield from ((last, summary) for summary in _hyperparameters(run))
    if run.examples is not None:
        samples = [as_picture(sample) for sample in run.examples["samples"]]
        yield last, _image("examples/samples", samples)
        yield last, _image("examples/attention", list(run.examples["maps"]))


def _tag(column: Column) -> str:
    """Return the tag of a quantity, such as `eval/energy(µJ)`."""
    return f"eval/{column.header.replace(' (', '(').replace(' ', '_')}"


def _scalar(tag: str, value: float) -> Summary:
    return Summary(value=[Summary.Value(tag=tag, simple_value=value)])


def _hyperparameters(run: RunRecord) -> Iterator[Summary]:
    values = _values({"experiment": run.experiment, **run.manifest.get("spec", {})})
    infos = [
        api_pb2.HParamInfo(name=name, type=api_pb2.DATA_TYPE_STRING if isinstance(value, str) else api_pb2.DATA_TYPE_FLOAT64)
        for name, value in values.items()
    ]
    metrics = [api_pb2.MetricInfo(name=api_pb2.MetricName(tag=_tag(column))) for column in COMPARED]
    start = SessionStartInfo()
    for name, value in values.items():
        if isinstance(value, str):
            start.hparams[name].string_value = value
        else:
            start.hparams[name].number_value = value
    experiment = api_pb2.Experiment(hparam_infos=infos, metric_infos=metrics)
    end = SessionEndInfo(status=api_pb2.STATUS_SUCCESS)
    yield _plugin(metadata.EXPERIMENT_TAG, HParamsPluginData(experiment=experiment))
    yield _plugin(metadata.SESSION_START_INFO_TAG, HParamsPluginData(session_start_info=start))
    yield _plugin(metadata.SESSION_END_INFO_TAG, HParamsPluginData(session_end_info=end))


def _plugin(tag: str, content: HParamsPluginData) -> Summary:
    return Summary(value=[Summary.Value(tag=tag, metadata=metadata.create_summary_metadata(content))])


def _values(spec: Mapping[str, Any]) -> dict[str, float | str]:
    """Return a spec as TensorBoard takes it: by dotted key, as numbers and strings."""
    flat = {key: value for key, value in flatten(spec) if value is not None}
    return {
        key: float(value) if isinstance(value, int | float) and not isinstance(value, bool) else str(value)
        for key, value in flat.items()
    }


def _image(tag: str, pictures: Sequence[npt.NDArray[Any]]) -> Summary:
    """Return pictures side by side, each scaled by its own maximum."""
    tiles = [np.pad(_bytes(each), ((0, 0), (0, 2), (0, 0)), constant_values=255) for each in pictures]
    row = np.concatenate(tiles, axis=1)
    enlarged = row.repeat(factor := -(-MIN_HEIGHT // row.shape[0]), axis=0).repeat(factor, axis=1)
    stream = io.BytesIO()
    Image.fromarray(enlarged).save(stream, format="PNG")
    height, width, channels = enlarged.shape
    encoded = Summary.Image(height=height, width=width, colorspace=channels, encoded_image_string=stream.getvalue())
    return Summary(value=[Summary.Value(tag=tag, image=encoded)])


def _bytes(image: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Convert a picture of any type to uint8 [H, W, 3]."""
    scaled = np.asarray(255 * image / (float(image.max()) or 1.0)).clip(0, 255).astype(np.uint8)
    return np.stack([scaled] * 3, axis=-1) if scaled.ndim == 2 else scaled
