"""Whether all is well: `doctor` for what a run needs, `verify` for what is in the store."""

from __future__ import annotations

import argparse
import functools
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from spikedistill.cli.arguments import Commands, add_profile, add_stage_names, load_plan
from spikedistill.cpus import own_cpus

if TYPE_CHECKING:
    from spikedistill.store.artifacts import Damage, Store


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

    damaged = 0
    with ThreadPoolExecutor(own_cpus()) as pool:
        for ref, damage in zip(refs, pool.map(functools.partial(_damage, store), refs), strict=True):
            if isinstance(damage, FileNotFoundError):
                print(f"missing  {ref}")
                continue
            print(f"{'damaged' if damage else 'ok':8} {damage or ref}")
            if damage:
                damaged += 1
                if options.set_aside:
                    print(f"         moved to {store.set_aside(ref)}; run snakemake to have it built again")
    print(f"{len(refs)} artifacts, {damaged} damaged")
    return 1 if damaged and not options.set_aside else 0


def _damage(store: Store, ref: str) -> Damage | FileNotFoundError | None:
    try:
        return store.verify(ref)
    except FileNotFoundError as err:
        return err
