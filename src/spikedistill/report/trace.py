"""Where a figure or table comes from, and what was made of an artifact. Imports no torch.

The report writes `sources.json` beside its files: which runs each file shows, and the artifacts behind each run, with their
digests and the commits that made them. `spikedistill trace` reads it, and compares it with what the store holds now.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from spikedistill.errors import ArtifactError
from spikedistill.plan.code import describe_code
from spikedistill.report.sources import FILE, facts, read_sources
from spikedistill.store.artifacts import Store
from spikedistill.store.inventory import Entry, artifacts

MAX_NAMED = 3
Node = dict[str, Any]


def trace(target: str, store: Store, results: Path) -> Node:
    """Return where a file of a report or an artifact comes from, and what was made of it, as plain values.

    Args:
        target: a file in the folder of a report, or an artifact (the beginning of a name will do; a former name, too).
        store: the store.
        results: folder of the report whose files are searched for an artifact.

    Raises:
        ArtifactError: if there is no such file or artifact, or nothing is recorded about it.
    """
    entries = artifacts(store)
    path = Path(target)
    if path.is_file() or path.suffix[1:] in ("svg", "pdf", "csv", "html", "md", "tex"):
        return _trace_file(path, entries)
    return _trace_artifact(_find(target, store, entries), entries, results)


def as_text(node: Node) -> str:
    """Return the result of `trace` as trees of plain text."""
    lines = [node["target"]]
    if "runs" in node:
        lines += [f"configuration: {node['configuration']}", ""]
        lines += _tree([{"text": _run_name(run), "below": [run["evaluation"]]} for run in node["runs"]], _file_children)
    else:
        for title, key in (("made from", "upstream"), ("made of it", "downstream")):
            below = node[key]
            lines += ["", f"{title}:" if below else f"{title}: nothing in this store"]
            lines += _tree(below, lambda each, key=key: each[key])  # type: ignore[misc]
        if node["shown_in"]:
            lines += ["", f"shown in: {', '.join(node['shown_in'])}"]
    return "\n".join(lines)


def _run_name(run: Node) -> str:
    return f"{run['experiment']}, {run['method']}, seed {run['seed']}"


def _trace_file(path: Path, entries: Mapping[str, Entry]) -> Node:
    if not path.is_file():
        raise ArtifactError(f"{path}: no such file; give a file that `spikedistill report` wrote, or the name of an artifact")
    sources = read_sources(path.parent)
    if path.name not in sources["files"]:
        raise ArtifactError(f"{path}: not a file of the report in {path.parent}, which has: {', '.join(sources['files'])}")
    known = sources["artifacts"]
    config = path.parent / "config.json"
    return {
        "target": str(path),
        "configuration": str(config) if config.is_file() else f"key `config` of {path.parent / FILE}",
        "runs": [
            run | {"evaluation": _recorded(run["evaluation"], known, entries)}
            for number, run in enumerate(sources["runs"])
            if run["evaluation"] and _is_shown(number, sources["files"][path.name])
        ],
    }


def _recorded(ref: str, known: Mapping[str, Node], entries: Mapping[str, Entry]) -> Node:
    """Return an artifact as a report recorded it, with all that it was made from."""
    found = known[ref]
    if ref not in entries:
        state = "not in the store any more"
    else:
        state = "ok" if entries[ref].digest == found["digest"] else "another one is in the store now"
        state = f"damaged: {entries[ref].problem}" if entries[ref].problem else state
    upstream = [_recorded(each, known, entries) for each in found["upstream"]]
    return {
        "artifact": ref,
        **{k: found[k] for k in ("digest", "created", "commit", "code")},
        "state": state,
        "upstream": upstream,
    }


def _find(name: str, store: Store, entries: Mapping[str, Entry]) -> str:
    """Return the reference of an artifact, which may be given by a name that it had under an earlier version."""
    for ref, entry in entries.items():
        if name in entry.former_names or name in [each.partition("/")[2] for each in entry.former_names]:
            return ref
    return store.find(name)


def _trace_artifact(ref: str, entries: Mapping[str, Entry], results: Path) -> Node:
    below: dict[str, list[str]] = {}
    for other, entry in entries.items():
        for upstream in entry.upstream:
            below.setdefault(upstream, []).append(other)
    return {
        "target": _label(_stored(ref, None, entries)),
        **_stored(ref, None, entries),
        "spec": entries[ref].manifest.get("spec"),
        "upstream": _up(ref, entries),
        "downstream": _down(ref, below, entries, ()),
        "shown_in": _shown_in(ref, results),
    }


def _stored(ref: str, digest: str | None, entries: Mapping[str, Entry]) -> Node:
    """Return an artifact as the store has it; `digest` is the one that another artifact was made from."""
    entry = entries.get(ref)
    if entry is None:
        return {"artifact": ref, "digest": digest, "created": None, "commit": None, "code": {}, "state": "not in this store"}
    state = "ok" if digest in (None, entry.digest) else "another one is in the store now"
    known = facts(entry.manifest) if entry.manifest else {"digest": None, "created": None, "commit": None, "code": {}}
    known.pop("upstream", None)
    return {"artifact": ref, **known, "state": f"damaged: {entry.problem}" if entry.problem else state}


def _up(ref: str, entries: Mapping[str, Entry]) -> list[Node]:
    upstream = entries[ref].upstream if ref in entries else {}
    return [
        _stored(each, digest, entries) | {"upstream": _up(each, entries) if each != ref else []}
        for each, digest in upstream.items()
    ]


def _down(ref: str, below: Mapping[str, list[str]], entries: Mapping[str, Entry], above: tuple[str, ...]) -> list[Node]:
    nodes = []
    for each in below.get(ref, []):
        if each not in above:
            made_from = entries[each].upstream[ref]
            node = _stored(each, None, entries) | {"downstream": _down(each, below, entries, (*above, ref))}
            if made_from != entries[ref].digest:
                node["state"] = "made from another one of this name"
            nodes.append(node)
    return nodes


def _shown_in(ref: str, results: Path) -> list[str]:
    """Return the files of a report that an artifact is behind; none if there is no report."""
    try:
        sources = read_sources(results)
    except ArtifactError:
        return []
    known = sources["artifacts"]
    runs = {i for i, run in enumerate(sources["runs"]) if ref in _behind(run["evaluation"], known)}
    return [str(results / file) for file, shown in sources["files"].items() if any(_is_shown(run, shown) for run in runs)]


def _is_shown(run: int, shown: list[int] | Literal["all"]) -> bool:
    return shown == "all" or run in shown


def _behind(ref: str | None, known: Mapping[str, Node]) -> set[str]:
    if ref is None or ref not in known:
        return set()
    return {ref}.union(*(_behind(each, known) for each in known[ref]["upstream"]))


def _label(node: Node) -> str:
    state = "" if node["state"] == "ok" else node["state"]
    made = f"made {node['created'][:16]}" if node["created"] else ""
    details = ", ".join(text for text in (_short_commit(node["commit"]), made, _code_in_words(node["code"]), state) if text)
    return f"{node['artifact']}  ({details})" if details else node["artifact"]


def _short_commit(commit: str | None) -> str:
    sha, _, rest = (commit or "").partition(" ")
    return f"commit {sha[:10]}{' ' if rest else ''}{rest}" if len(sha) == 40 else commit or ""


def _code_in_words(code: Mapping[str, str]) -> str:
    """Return which code is not at version 1, with the names of a few files that were edited; all are in the JSON."""
    named = [f"{module} {describe_code(module, entry)}" for module, entry in sorted(code.items())]
    more = f" and {len(named) - MAX_NAMED} more" if len(named) > MAX_NAMED else ""
    return f"code: {', '.join(named[:MAX_NAMED])}{more}" if named else ""


def _file_children(node: Node) -> list[Node]:
    return node["below"] if "below" in node else node["upstream"]


def _tree(nodes: Sequence[Node], children: Callable[[Node], Sequence[Node]]) -> list[str]:
    seen: set[str] = set()
    return list(_branches(nodes, children, "", seen))


def _branches(nodes: Sequence[Node], children: Callable[[Node], Sequence[Node]], indent: str, seen: set[str]) -> Iterator[str]:
    for i, node in enumerate(nodes):
        is_last = i == len(nodes) - 1
        below = children(node)
        ref = node.get("artifact")
        is_repeated = ref in seen
        repeated = "  (see above)" if is_repeated and below else ""
        text = node["text"] if ref is None else ref if is_repeated else _label(node)
        yield f"{indent}{'└─' if is_last else '├─'} {text}{repeated}"
        if not is_repeated:
            yield from _branches(below, children, indent + ("   " if is_last else "│  "), seen)
        if ref is not None:
            seen.add(ref)
