"""Whether all is well: `doctor` for what a run needs, `verify` for what is in the store."""

from __future__ import annotations

import argparse
import collections
import functools
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from spikedistill.cli.arguments import Commands, add_profile, add_stage_names, load_plan
from spikedistill.cpus import own_cpus
from spikedistill.errors import ArtifactError

if TYPE_CHECKING:
    from spikedistill.store.artifacts import Store


def add(commands: Commands, configured: argparse.ArgumentParser) -> None:
    """Add the commands of this module."""
    verify = commands.add_parser("verify", parents=[configured], help="compare every artifact with its checksums")
    add_stage_names(verify, nargs="*", note=" (default: the whole store)")
    verify.add_argument("--set-aside", action="store_true", help="move damaged ones away, so that they are built again")
    verify.set_defaults(command=_verify)
    doctor = commands.add_parser("doctor", parents=[configured], help="check config, torch, Slurm and the store")
    add_profile(doctor, "the Snakemake profile to check")
    doctor.set_defaults(command=_doctor)


def _doctor(options: argparse.Namespace) -> int:
    from spikedistill.launch.doctor import run_checks

    return run_checks(lambda: load_plan(options), options.profile)


def _verify(options: argparse.Namespace) -> int:
    from spikedistill.store.artifacts import Store

    plan = load_plan(options)
    store = Store(plan.config.store)
    refs = [spec.ref for spec in plan.select(options.names)] if options.names else store.refs()

    counts = collections.Counter[str]()
    with ThreadPoolExecutor(own_cpus()) as pool:
        for ref, (state, text) in zip(refs, pool.map(functools.partial(_verified, store), refs), strict=True):
            print(f"{state:8} {text}")
            counts[state] += 1
            if state == "damaged" and options.set_aside:
                counts["left"] += not _move_aside(store, ref)
    unread = f", {counts['unknown']} could not be read" if counts["unknown"] else ""
    print(f"{len(refs)} artifacts, {counts['damaged']} damaged{unread}")
    return int(counts["left" if options.set_aside else "damaged"] + counts["unknown"] > 0)


def _verified(store: Store, ref: str) -> tuple[str, str]:
    """Return the state of an artifact by its checksums, in a word, and what there is to say about it."""
    from spikedistill.store.artifacts import UnreadableError

    try:
        damage = store.verify(ref)
    except FileNotFoundError:
        return "missing", ref
    except (UnreadableError, OSError) as err:
        return "unknown", f"{ref}: {err}"
    return ("damaged", str(damage)) if damage else ("ok", ref)


def _move_aside(store: Store, ref: str) -> bool:
    """Move a damaged artifact away, and say so; return False if it stays damaged where it is."""
    from spikedistill.store.aside import move_aside

    try:
        place = move_aside(store, ref)
    except (ArtifactError, OSError) as err:
        print(f"         not moved: {err}")
        return False
    done = f"moved to {place}; run snakemake to have it built again" if place else "not moved: it was mended meanwhile"
    print(f"         {done}")
    return True
