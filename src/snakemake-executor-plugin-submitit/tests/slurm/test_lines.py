"""`--logger lines` on Slurm: when jobs are queued, start and end."""

import re

import pytest

from slurm_lab.main_process import Main, write_snakefile

pytestmark = pytest.mark.slow


def test_jobs_are_queued_start_and_end_with_their_numbers(slurm_cluster, tmp_path):
    write_snakefile(
        tmp_path,
        """
        rule all:
            input: "a.txt", "b.txt"
        rule make:
            output: "{name}.txt"
            log: "{name}.log"
            resources: mem_mb=100, runtime=5
            shell: "sleep 12; echo because {wildcards.name} > {log}; [ {wildcards.name} = a ] && touch {output}"
        """,
    )
    output = Main(slurm_cluster, tmp_path, "--logger", "lines", "--keep-going", "--show-failed-logs").fails()
    lines = re.findall(r"^\d\d:\d\d:\d\d  (\d/2)  (\w+) +(.*)$", output, re.MULTILINE)
    assert [text for _, kind, text in lines if kind == "queued"], output
    assert all("slurm job" in text for _, kind, text in lines if kind == "queued"), output
    started = sorted(text.partition("  (slurm job")[0] for _, kind, text in lines if kind == "started")
    assert started == ["make a", "make b"], output
    assert all(re.search(r"\(slurm job \S+ on node\d\)$", text) for _, kind, text in lines if kind == "started"), output
    assert [kind for _, kind, text in lines if text.startswith("make a") and kind != "queued"] == ["started", "done"]
    assert [kind for _, kind, text in lines if text.startswith("make b") and kind != "queued"] == ["started", "failed"]
    assert "\n        because b\n" in output
    assert re.search(r"^1 of 2 steps done, 1 failed: make b, in ", output, re.MULTILINE)
