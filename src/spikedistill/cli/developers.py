"""Commands for a checkout: `generate` and `lock`."""

from __future__ import annotations

import argparse

from spikedistill.cli.arguments import Commands


def add(commands: Commands, configured: argparse.ArgumentParser) -> None:
    """Add the commands of this module."""
    generate = commands.add_parser("generate", help="in a checkout: write schema, reference and generated tables again")
    generate.set_defaults(command=_generate)
    lock = commands.add_parser("lock", help="in a checkout: show the code that does not fit components.lock, or lock it")
    lock.add_argument("--keep", nargs="+", default=[], metavar="MODULE", help="results stay the same: keep the version")
    lock.add_argument("--bump", nargs="+", default=[], metavar="MODULE", help="results change: take the next version")
    lock.set_defaults(command=_lock)


def _generate(options: argparse.Namespace) -> None:
    from spikedistill.config.generated import generated_files, write_stale
    from spikedistill.plan.defaults import FILE, defaults_text

    for file in write_stale(generated_files() | {FILE: defaults_text()}):
        print(f"wrote {file}")


def _lock(options: argparse.Namespace) -> int:
    from spikedistill.plan.code import lock, unlocked

    if options.keep or options.bump:
        lock(options.keep, options.bump)
    changed = unlocked()
    for module, reason in changed.items():
        print(f"{module} {reason}")
    print(f"{len(changed)} modules do not fit the lock" if changed else "all modules fit the lock")
    return int(bool(changed))
