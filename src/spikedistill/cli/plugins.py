"""Components of one's own: `new` writes the file of one, `check-plugin` checks what they promise."""

from __future__ import annotations

import argparse
from pathlib import Path

from spikedistill import plugins
from spikedistill.cli.arguments import Commands, folder, use_plugins
from spikedistill.errors import ConfigError
from spikedistill.project.new import NAMES, new_component


def add(commands: Commands, configured: argparse.ArgumentParser) -> None:
    """Add the commands of this module."""
    new = commands.add_parser("new", parents=[configured], help="write the file of a component of your own")
    new.add_argument("kind", choices=NAMES)
    new.add_argument("name", help="its name in the configuration")
    new.add_argument("--plugin", type=folder, metavar="FOLDER", help="the plug-in (default: the first folder of `plugins:`)")
    new.set_defaults(command=_new)
    check = commands.add_parser(
        "check-plugin", parents=[configured], help="run the tests that every component must pass on those of plug-ins"
    )
    check.add_argument("plugin", nargs="*", help="packages and folders (default: those of the configuration, and installed ones)")
    check.add_argument("--verbose", action="store_true", help="list the promises that hold, too")
    check.set_defaults(command=_check)


def _new(options: argparse.Namespace) -> None:
    use_plugins(options)
    named = next(filter(plugins.is_folder, plugins.named()), "./plugins")
    folder = (options.plugin or Path(named)).expanduser()
    print(f"wrote {new_component(options.kind, options.name, folder)}")
    name = str(folder) if folder.is_absolute() else f"./{folder}"
    if folder.resolve() not in [source.folder for source in plugins.sources()]:
        print(f"to use it, add to config.yaml: plugins: [{name}]")
    print(f"to check it: spikedistill check-plugin {name}")


def _check(options: argparse.Namespace) -> int:
    from spikedistill.contract.check import check_plugin

    if options.plugin:
        plugins.activate(options.plugin)
    else:
        use_plugins(options)
    sources = [source for source in plugins.sources() if source != plugins.OWN]
    if options.plugin:
        sources = [source for source in sources if source.name in options.plugin]
    if not sources:
        raise ConfigError("no plug-in to check: name a package or folder, or list it under plugins: in config.yaml")
    broken = 0
    for source in sources:
        findings = list(check_plugin(source))
        problems = [finding for finding in findings if finding.problem]
        for finding in findings if options.verbose else problems:
            print(f"{'FAILED' if finding.problem else 'ok':7} {finding.component}: {finding.promise}")
            if finding.problem:
                print(f"        {finding.problem}")
        broken += len(problems)
        of = len({finding.component for finding in findings})
        print(f"{source.origin} ({source.folder}): {of} components checked, {len(findings)} promises, {len(problems)} broken")
    return int(broken > 0)
