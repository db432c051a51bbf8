"""Symptoms in docs/troubleshooting.md are what the programs print."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
OF_OTHERS = {
    "TIMEOUT",
    "LockException",
    "OUT_OF_MEMORY",
    "CUDA out of memory",
    "Segmentation fault",
}  # Snakemake's, Slurm's, torch's
OF_KEYS = {"dataset.root", "spikedistill"}  # named, not printed


def test_messages_are_those_of_the_code():
    text = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    symptoms = [line.split("|")[1] for line in text.splitlines() if line.startswith("| ") and "you see" not in line]
    quoted = {fragment for symptom in symptoms for fragment in re.findall(r"`([^`]+)`", symptom)} - OF_OTHERS - OF_KEYS
    source = " ".join(file.read_text(encoding="utf-8") for file in sorted((ROOT / "src").rglob("*.py")))
    source = re.sub(r'["\']\s*\n\s*f?["\']', "", source)  # strings over several lines
    assert len(quoted) > 20
    # "unknown key" and the like are put together from a word and what was looked for
    assert [each for each in sorted(quoted) if each not in source and not each.startswith("unknown ")] == []
