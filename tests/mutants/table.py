"""The table of faults: what is changed in which file, and which tests must notice."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "spikedistill"
TABLES = sorted(Path(__file__).parent.glob("*.toml"))
Run = tuple[str, str]
"""A run of pytest: its selection of markers, and a test file."""


class StaleFault(Exception):
    """A fault does not fit the source any more."""


@dataclass(frozen=True)
class Fault:
    """One change of one module.

    Attributes:
        table: file name of the table that has it.
        file: the module, relative to src/spikedistill.
        name: what is wrong afterwards.
        was: text that occurs in the module exactly once.
        becomes: what it is replaced by.
        tests: test files whose quick tests look at the module, relative to tests/, the fastest first.
        slow: test files whose slow tests must help.
        equivalent: why no test can notice; empty for a fault that one must notice.
    """

    table: str
    file: str
    name: str
    was: str
    becomes: str
    tests: tuple[str, ...]
    slow: tuple[str, ...] = ()
    equivalent: str = ""

    @property
    def runs(self) -> tuple[Run, ...]:
        """The runs of pytest that must notice, in order."""
        return (*(("not slow", file) for file in self.tests), *(("slow", file) for file in self.slow))

    def __str__(self) -> str:
        return f"{self.file}: {self.name}"

    def applied(self, source: str) -> str:
        """Return the source of the module with the fault.

        Raises:
            StaleFault: if its text does not occur exactly once.
        """
        found = source.count(self.was)
        if found != 1:
            raise StaleFault(
                f"{self.file} has the text of the fault {self.name!r} {found} times instead of once: "
                f"change `was` and `becomes` in tests/mutants/{self.table}, or take the fault out\n{self.was}"
            )
        return source.replace(self.was, self.becomes)


def all_faults() -> list[Fault]:
    """Return the faults of all tables, in their order."""
    return [
        Fault(path.name, module["file"], tests=tuple(module["tests"]), slow=tuple(module.get("slow", ())), **fault)
        for path in TABLES
        for module in tomllib.loads(path.read_text(encoding="utf-8"))["module"]
        for fault in module["fault"]
    ]
