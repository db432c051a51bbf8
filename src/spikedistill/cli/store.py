"""Keeping house in the store: `store ls | du | prune | pull | push | upgrade`."""

from __future__ import annotations

import argparse
import json

from spikedistill import components
from spikedistill.cli.arguments import Commands, chosen_files, for_argument, open_store, plan_of, plan_of_further, store_argument
from spikedistill.errors import ConfigError


def add(commands: Commands, configured: argparse.ArgumentParser) -> None:
    """Add the commands of this module."""
    store = commands.add_parser("store", help="keep house in the store: ls, du, prune, pull, push, upgrade")
    actions = store.add_subparsers(required=True, metavar="COMMAND")
    for add in (_add_views, _add_changes, _add_transfers):
        add(actions, configured)


def _add_views(actions: Commands, configured: argparse.ArgumentParser) -> None:
    listing = actions.add_parser(
        "ls",
        parents=[configured, _needs_arguments()],
        help="list the artifacts: size, age, commit, which configurations need them",
    )
    listing.add_argument("name", nargs="*", help="only artifacts whose name or folder/name begins so or fits a pattern")
    listing.add_argument("--json", action="store_true", help="print them as JSON, one a line, with their specs")
    listing.set_defaults(command=_ls)
    usage = actions.add_parser("du", parents=[configured, store_argument()], help="show what takes how much")
    usage.set_defaults(command=_du)


def _add_changes(actions: Commands, configured: argparse.ArgumentParser) -> None:
    prune = actions.add_parser(
        "prune",
        parents=[configured, _needs_arguments()],
        help="remove what no given configuration, no running job and no kept artifact needs",
    )
    prune.add_argument(
        "--older-than", default="30d", metavar="AGE", help="only what is in the store for longer: 12h, 30d, 8w (default: 30d)"
    )
    prune.add_argument("--yes", action="store_true", help="remove it; without this, only show what would go")
    prune.set_defaults(command=_prune)
    upgrade = actions.add_parser(
        "upgrade", parents=[configured, store_argument()], help="take over the artifacts of an earlier version of spikedistill"
    )
    upgrade.add_argument("--yes", action="store_true", help="do it; without this, only show what would be done")
    upgrade.set_defaults(command=_upgrade)


def _add_transfers(actions: Commands, configured: argparse.ArgumentParser) -> None:
    place = "a folder, or HOST:FOLDER for rsync over ssh"
    pull = actions.add_parser(
        "pull", parents=[configured, store_argument()], help="copy artifacts and what they were made from out of another store"
    )
    pull.add_argument("place", metavar="SOURCE", help=f"the other store: {place}")
    pull.add_argument("name", nargs="+", help="artifacts, unambiguous beginnings of names, or patterns such as '*kd*'")
    pull.set_defaults(command=_pull)
    push = actions.add_parser(
        "push", parents=[configured, store_argument()], help="copy artifacts and what they were made from into another store"
    )
    push.add_argument("place", metavar="TARGET", help=f"the other store, which exists: {place}")
    push.add_argument("name", nargs="+", help="artifacts, unambiguous beginnings of names, or patterns such as '*kd*'")
    push.set_defaults(command=_push)


def _needs_arguments() -> argparse.ArgumentParser:
    return argparse.ArgumentParser(add_help=False, parents=[store_argument(), for_argument("whose artifacts are needed")])


def _needed(options: argparse.Namespace) -> dict[str, frozenset[str]]:
    """Return what each given configuration needs: name to show -> references of artifacts."""
    chosen = chosen_files(options)
    plans = [(chosen, plan_of(chosen, options.config))] if chosen else []
    plans += [(files, plan_of_further(files)) for files in options.needed_for]
    return {" + ".join(map(str, files)): frozenset(plan.stages) for files, plan in plans}


def _ls(options: argparse.Namespace) -> None:
    from spikedistill.plan.takeover import summary, takeovers
    from spikedistill.store.inventory import artifacts, as_json, listing

    store, needed = open_store(options), _needed(options)
    entries = artifacts(store)
    shown = [entry for entry in entries.values() if not options.name or any(_means(name, entry.ref) for name in options.name)]
    if options.json:
        for entry in shown:
            print(json.dumps(as_json(entry, needed)))
        return
    print(listing(shown, needed))
    note = summary(takeovers(store, entries))
    print(f"\n{len(shown)} artifacts in {store.root}" + (f"\n{note}" if note else ""))


def _means(name: str, ref: str) -> bool:
    fitting = components.fitting(name, [ref])
    return bool(components.matching(name, [ref]) if fitting is None else fitting)


def _du(options: argparse.Namespace) -> None:
    from spikedistill.store.inventory import usage

    print(usage(open_store(options)))


def _prune(options: argparse.Namespace) -> int:
    from spikedistill.store.housekeeping import describe, plan_prune, remove
    from spikedistill.store.inventory import format_size, parse_age

    if not (chosen_files(options) or options.needed_for):
        raise ConfigError("there is no config.yaml here: name each configuration whose artifacts are to stay, with --for FILE")
    store = open_store(options)
    prune = plan_prune(store, _needed(options), parse_age(options.older_than))
    print(describe(prune, store))
    if not options.yes:
        print("nothing was removed; with --yes it is")
        return 0
    problems = remove(store, prune)
    print(*problems, f"removed: {len(prune) - len(problems)} of {len(prune)}, {format_size(prune.size)} in all", sep="\n")
    return int(bool(problems))


def _upgrade(options: argparse.Namespace) -> int:
    from spikedistill.plan.takeover import describe, summary, take_over, takeovers

    store = open_store(options)
    found = takeovers(store)
    if not found:
        print("every artifact is of this version: nothing to do")
        return 0
    if not options.yes:
        print(describe(found), "", summary(found), "nothing was changed; with --yes it is", sep="\n")
        return 0
    lines = []
    for line in take_over(store, found):
        print(line, flush=True)
        lines.append(line)
    return int(any(line.startswith("left") for line in lines))


def _pull(options: argparse.Namespace) -> None:
    from spikedistill.store.transfer import open_place, pull

    for line in pull(open_place(options.place), open_store(options), options.name):
        print(line, flush=True)


def _push(options: argparse.Namespace) -> None:
    from spikedistill.store.transfer import open_place, push

    for line in push(open_place(options.place), open_store(options), options.name):
        print(line, flush=True)
