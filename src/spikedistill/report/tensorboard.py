"""What a comparison adds to TensorBoard, so that one `tensorboard --logdir` shows all runs: results, hyperparameters, pictures.

Training writes its scalars itself, into the same folder per run. A run whose network came from a shared store has none here;
its scalars are written from its metrics.jsonl. Imports no torch.
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

from spikedistill.report.compare import flatten
from spikedistill.report.plots.pictures import picture
from spikedistill.report.records import RunRecord
from spikedistill.report.tables import ACCURACY, ENERGY, FIRING_RATE, MEASURES, Column

SUFFIX = ".report"
COMPARED = (ACCURACY, ENERGY, FIRING_RATE)
"""The metrics in TensorBoard's table of hyperparameters."""
TILE = 96
"""Least height of a picture, in pixels."""


def write_board(records: Sequence[RunRecord], folder: Path) -> None:
    """Write the results of every measured run; what an earlier report wrote is replaced.

    Args:
        records: the runs; runs that share a network share a folder.
        folder: of all TensorBoard logs.
    """
    measured = {f"{run.role}s/{run.artifact}": run for run in records if run.evaluation is not None}
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
    for column in MEASURES:
        value = column.read(run.evaluation)
        if value is not None:
            yield last, _scalar(_tag(column), value * column.factor)
    for step, accuracy in enumerate(run.evaluation.get("accuracy_at_step", []), start=1):
        yield step, _scalar("accuracy_over_time/mean_of_first_t(%)", 100 * accuracy)
    for layer in run.evaluation.get("firing_rate", {}).get("layers", []):
        yield last, _scalar(f"firing_rate/{layer['name']}", layer["rate"])
    yield from ((last, summary) for summary in _hyperparameters(run))
    if run.examples is not None:
        samples = [picture(sample) for sample in run.examples["samples"]]
        yield last, _image("examples/samples", samples)
        yield last, _image("examples/attention", list(run.examples["maps"]))


def _tag(column: Column) -> str:
    """As in `eval/energy(µJ)`."""
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
    """A spec as TensorBoard takes it: numbers and words."""
    flat = {key: value for key, value in flatten(spec) if value is not None}
    return {
        key: float(value) if isinstance(value, int | float) and not isinstance(value, bool) else str(value)
        for key, value in flat.items()
    }


def _image(tag: str, pictures: Sequence[npt.NDArray[Any]]) -> Summary:
    """Pictures side by side, each scaled to its own largest value."""
    tiles = [np.pad(_bytes(each), ((0, 0), (0, 2), (0, 0)), constant_values=255) for each in pictures]
    row = np.concatenate(tiles, axis=1)
    enlarged = row.repeat(factor := -(-TILE // row.shape[0]), axis=0).repeat(factor, axis=1)
    stream = io.BytesIO()
    Image.fromarray(enlarged).save(stream, format="PNG")
    height, width, channels = enlarged.shape
    encoded = Summary.Image(height=height, width=width, colorspace=channels, encoded_image_string=stream.getvalue())
    return Summary(value=[Summary.Value(tag=tag, image=encoded)])


def _bytes(image: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Any picture as uint8 [H, W, 3]."""
    scaled = np.asarray(255 * image / (float(image.max()) or 1.0)).clip(0, 255).astype(np.uint8)
    return np.stack([scaled] * 3, axis=-1) if scaled.ndim == 2 else scaled
