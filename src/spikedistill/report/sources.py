"""Which runs each file of a report shows, and the artifacts behind them: `sources.json`, beside the files. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from spikedistill.errors import ArtifactError
from spikedistill.report.records import Comparison, RunRecord
from spikedistill.report.sections.swept import swept_numbers
from spikedistill.store.provenance import commit_of

FILE = "sources.json"
NOTE = (
    "`spikedistill trace NAME` shows all that is behind an artifact and what was made of it; it takes a file of this report, too."
)
Sources = dict[str, Any]


def facts(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a report records about an artifact, from its manifest."""
    return {
        "digest": manifest["digest"],
        "created": manifest.get("created"),
        "commit": commit_of(manifest) if manifest.get("spikedistill") else None,
        "code": (manifest["spec"] or {}).get("code") or {},
        "upstream": list(manifest["upstream"]),
    }


def origin(record: RunRecord) -> list[str]:
    """Return the cells about the origin of a run: its evaluation, what its network was made from, and the commit of that."""
    *_, evaluation = record.sources or [""]
    network = next((ref for ref in record.sources if ref.endswith(f"/{record.artifact}")), None)
    if network is None:
        return ["", "", ""]
    made = record.sources[network]
    return [evaluation.partition("/")[2], ", ".join(made["upstream"]), made["commit"] or "?"]


def sources_text(comparison: Comparison, files: Iterable[str]) -> str:
    """Return the content of `sources.json`.

    Args:
        comparison: content of the report.
        files: names of its files.
    """
    measured = [record for record in comparison.records if record.evaluation is not None]
    known: dict[str, Mapping[str, Any]] = {}
    for record in measured:
        known |= record.sources
    swept = {label for sweep in swept_numbers(comparison.records) for label in sweep.variants}
    content = {
        "schema": 1,
        "files": {file: _shown(file, measured, swept) for file in files},
        "runs": [_run(record) for record in measured],
        "artifacts": {ref: known[ref] for ref in sorted(known)},
        "config": comparison.config,
    }
    return json.dumps(content, indent=1) + "\n"


def _shown(file: str, records: Sequence[RunRecord], swept: Collection[str]) -> list[int] | Literal["all"]:
    """Return the numbers of the runs that a file of the report shows; `swept`: the labels of experiments in a sweep."""
    shown: dict[Any, int] = {}
    runs = [(number, record) for number, record in enumerate(records) if record.examples is not None]
    stem = file.rpartition(".")[0]
    if stem == "event_frames":
        for number, record in runs:
            if record.examples is not None and record.examples["samples"].ndim == 5:
                shown.setdefault(record.experiment, number)
    elif stem == "accuracy_over_sweep":
        return [number for number, record in enumerate(records) if record.experiment in swept]
    elif stem == "saliency_maps":
        for number, record in sorted(runs, key=lambda run: run[1].seed):
            shown.setdefault((record.experiment, record.method), number)
    else:
        return "all"
    return list(shown.values())


def _run(record: RunRecord) -> Sources:
    *_, evaluation = record.sources or [None]
    return {
        "experiment": record.experiment,
        "method": record.method,
        "seed": record.seed,
        "network": record.artifact,
        "evaluation": evaluation,
    }


def read_sources(folder: Path) -> Sources:
    """Read the sources of the report in a folder.

    Raises:
        ArtifactError: if there are none, or they cannot be read.
    """
    file = folder / FILE
    try:
        sources = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as err:
        raise ArtifactError(
            f"{file}: not there, so nothing is recorded; `spikedistill report` writes it with the report"
        ) from err
    except (OSError, ValueError) as err:
        raise ArtifactError(f"{file}: cannot be read ({err}); `spikedistill report` writes it again") from err
    if not isinstance(sources, dict) or not {"files", "runs", "artifacts"} <= sources.keys():
        raise ArtifactError(f"{file}: does not hold the sources of a report; `spikedistill report` writes it again")
    return sources
