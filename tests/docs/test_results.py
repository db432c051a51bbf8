"""The tables of docs/results.md are those of the files that were kept of the run."""

import importlib.util
from pathlib import Path

from spikedistill.config.generated import update_marked

ROOT = Path(__file__).parents[2]


def test_the_tables_are_those_of_the_kept_files():
    spec = importlib.util.spec_from_file_location("mnist5k_tables", ROOT / "benchmarks/mnist5k_tables.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    text = (ROOT / "docs/results.md").read_text(encoding="utf-8")
    tables = script.tables(ROOT / "benchmarks/results/mnist5k")
    assert all(f"<!-- measured: {name} -->" in text for name in tables)
    assert update_marked(text, tables, "measured") == text, "run python benchmarks/mnist5k_tables.py"
