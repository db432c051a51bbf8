"""Snakemake's features in one workflow: its tutorial, with stand-ins for the programs, and what the tutorial leaves out."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from slurm_lab.main_process import write_snakefile
from slurm_lab.requirements import require
from slurm_lab.running import snakemake

SAMPLES = ("A", "B", "C")

SNAKEFILE = """
    configfile: "config.yaml"

    storage files:
        provider="fs"

    scattergather:
        split=2

    localrules: all

    rule all:
        input:
            "plots/quals.svg", "gathered.txt", "counted.txt", "piped.txt", "served.txt", "shadowed.txt", "grouped.txt",
            "fetched.txt", storage.files("elsewhere/stored.txt"), "ran.txt",

    # the tutorial
    def reads_of(wildcards):
        return config["samples"][wildcards.sample]

    rule bwa_map:
        input: "data/genome.fa", reads_of
        output: temp("mapped_reads/{sample}.bam")
        params: rg=r"@RG\\tID:{sample}\\tSM:{sample}"
        log: "logs/bwa_mem/{sample}.log"
        benchmark: "benchmarks/{sample}.bwa.txt"
        threads: 2
        shell: "(echo '{params.rg}' && cat {input}) > {output} 2> {log}; echo {threads} threads >> {log}"

    rule samtools_sort:
        input: "mapped_reads/{sample}.bam"
        output: protected("sorted_reads/{sample}.bam")
        shell: "sort {input} > {output}"

    rule samtools_index:
        input: "sorted_reads/{sample}.bam"
        output: "sorted_reads/{sample}.bam.bai"
        shell: "wc -l < {input} > {output}"

    rule bcftools_call:
        input:
            fa="data/genome.fa",
            bam=expand("sorted_reads/{sample}.bam", sample=config["samples"]),
            bai=expand("sorted_reads/{sample}.bam.bai", sample=config["samples"]),
        output: "calls/all.vcf"
        shell: "cat {input.bam} > {output}"

    rule plot_quals:
        input: "calls/all.vcf"
        output: report("plots/quals.svg", category="Calls")
        resources: mem_mb=300
        script: "scripts/plot-quals.py"

    # scatter, gather
    rule scattered:
        output: temp(scatter.split("scattered/{scatteritem}.txt"))
        shell: "for file in {output}; do basename $file .txt > $file; done"
    rule gathered:
        input: gather.split("scattered/{scatteritem}.txt")
        output: "gathered.txt"
        shell: "cat {input} > {output}"

    # a checkpoint: the number of its files is known once it has run
    checkpoint parts:
        output: directory("parts")
        shell: "mkdir {output} && touch {output}/1 {output}/2 {output}/3"
    def all_parts(wildcards):
        folder = checkpoints.parts.get().output[0]
        return expand("doubled/{part}", part=glob_wildcards(folder + "/{part,[0-9]+}").part)
    rule doubled:
        input: "parts/{part}"
        output: "doubled/{part}"
        shell: "echo {wildcards.part}{wildcards.part} > {output}"
    rule counted:
        input: all_parts
        output: "counted.txt"
        shell: "cat {input} | sort > {output}"

    # a pipe, and a service: each with its consumer in one job
    rule writes:
        output: pipe("numbers.{n}")
        shell: "seq {wildcards.n} > {output}"
    rule reads:
        input: "numbers.5"
        output: "piped.txt"
        shell: "tail -1 {input} > {output}"
    rule server:
        output: service("server.fifo")
        shell: "mkfifo {output}; while true; do echo served > {output}; sleep 0.1; done"
    rule client:
        input: "server.fifo"
        output: "served.txt"
        shell: "head -1 {input} > {output}"

    rule shadowed:
        input: "data/genome.fa"
        output: "shadowed.txt"
        shadow: "minimal"
        shell: "echo aside > scratch.txt; cat {input} scratch.txt > {output}"

    # a group, of which the second job reads what the first one leaves
    rule first:
        output: temp("first.txt")
        group: "pair"
        shell: "echo {resources.mem_mb} > {output}"
    rule second:
        input: "first.txt"
        output: "grouped.txt"
        group: "pair"
        shell: "cat {input} > {output}"

    # storage: fetched before the job, stored after it
    rule fetches:
        input: storage.files("elsewhere/there.txt")
        output: "fetched.txt"
        shell: "cat {input} > {output}"
    rule stores:
        output: storage.files("elsewhere/stored.txt")
        shell: "echo stored > {output}"

    rule ran:
        input: before_update("data/genome.fa")
        output: ensure("ran.txt", non_empty=True)
        priority: 5
        run:
            with open(output[0], "w") as stream:
                stream.write(f"{rule} with {threads} thread")
"""
PLOT = """\
from pathlib import Path
calls = Path(snakemake.input[0]).read_text().splitlines()
Path(snakemake.output[0]).write_text(f"<svg xmlns='http://www.w3.org/2000/svg'><text>{len(calls)}</text></svg>")
"""
CONTENTS = {
    "gathered.txt": "1-of-2\n2-of-2\n",
    "counted.txt": "11\n22\n33\n",
    "piped.txt": "5\n",
    "served.txt": "served\n",
    "shadowed.txt": "ACGT\naside\n",
    "grouped.txt": "100\n",
    "fetched.txt": "there\n",
    "elsewhere/stored.txt": "stored\n",
    "ran.txt": "ran with 1 thread",
}
GONE = ["mapped_reads/A.bam", "scattered/1-of-2.txt", "numbers.5", "server.fifo", "scratch.txt", "first.txt"]


def write_features(folder: Path) -> None:
    """Write the workflow and what it reads."""
    write_snakefile(folder, SNAKEFILE)
    samples = {sample: f"data/samples/{sample}.fastq" for sample in SAMPLES}
    (folder / "config.yaml").write_text(json.dumps({"samples": samples}))
    for name in ("data/samples", "scripts", "elsewhere"):
        (folder / name).mkdir(parents=True)
    (folder / "data/genome.fa").write_text("ACGT\n")
    for sample, path in samples.items():
        (folder / path).write_text(f"read {sample}\n")
    (folder / "scripts/plot-quals.py").write_text(PLOT)
    (folder / "elsewhere/there.txt").write_text("there\n")


OFFLINE = """
import requests
requests.get = lambda address, **options: type("Response", (), {"status_code": 200, "text": ""})
"""
"""For `--report`, which fetches the scripts that it puts into the page: they are left out, no network is needed."""


def check_report(folder: Path, flags: tuple[str, ...], cluster: str, variables: dict[str, str]) -> None:
    """Have Snakemake write its report, and look for what it knows of the jobs: their results, rules, and run times."""
    (folder / "offline").mkdir()
    (folder / "offline" / "sitecustomize.py").write_text(OFFLINE)
    path = os.pathsep.join(filter(None, [str(folder / "offline"), os.environ.get("PYTHONPATH")]))
    done = snakemake(folder, *flags, "--report", "report.html", cluster=cluster, **{**variables, "PYTHONPATH": path})
    assert done.returncode == 0, done.stdout
    page = (folder / "report.html").read_text()
    assert "quals.svg" in page
    for rule in ("bwa_map", "samtools_sort", "bcftools_call", "plot_quals"):
        assert rule in page.partition("runtimes")[2], rule


def check_features(folder: Path, *flags: str, cluster: str, **variables: str) -> None:
    """Run the workflow and look at everything that it leaves, and at what Snakemake's commands say of it afterwards."""
    require("the storage plugin fs", ["rsync"], "on Debian, as root: apt-get install rsync")
    write_features(folder)
    flags = ("--default-resources", "mem_mb=100", *flags)

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        return snakemake(folder, *flags, *arguments, cluster=cluster, **variables)

    part = call("--until", "shadowed")
    assert part.returncode == 0, part.stdout
    assert (folder / "shadowed.txt").exists() and not (folder / "gathered.txt").exists()
    whole = call()
    assert whole.returncode == 0, whole.stdout
    assert {name: (folder / name).read_text() for name in CONTENTS} == CONTENTS
    assert [name for name in GONE if (folder / name).exists()] == []
    assert "<text>9</text>" in (folder / "plots/quals.svg").read_text()  # three lines of each sample
    assert (folder / "logs/bwa_mem/B.log").read_text() == "2 threads\n"
    assert (folder / "benchmarks/A.bwa.txt").read_text().startswith("s\th:m:s")
    assert (folder / "sorted_reads/A.bam").stat().st_mode & 0o222 == 0, "it is protected"
    assert call("--unlock").returncode == 0
    assert "Nothing to be done" in call().stdout
    check_report(folder, flags, cluster, variables)
    (folder / "data/genome.fa").write_text("ACGTA\n")
    assert "Nothing to be done" not in call("--dry-run").stdout
    touched = call("--touch")
    assert touched.returncode == 0, touched.stdout
    assert "Nothing to be done" in call("--dry-run").stdout
