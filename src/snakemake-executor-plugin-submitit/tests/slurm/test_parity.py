"""Options that users request besides CPUs and time reach Slurm: one run of plain rules, one rule for each option."""

import csv
import sys

import pytest

from slurm_lab.main_process import Main, wait_for, write_snakefile
from slurm_lab.running import run, snakemake

SNAKEFILE = """
SHOW = "scontrol -d show job $SLURM_JOB_ID > {output}"

rule all:
    input: expand("{n}.txt", n="gpus gres placed booked licence reserved alone extra mailed fits module mpi second used".split())
rule gpus:
    output: "gpus.txt"
    resources: gpus_per_node=2, gpu_model="a100"
    shell: SHOW
rule gres:
    output: "gres.txt"
    resources: gres="gpu:a100:1"
    shell: SHOW
rule licence:
    output: "licence.txt"
    resources: licenses="toolbox:2"
    shell: SHOW
rule reserved:
    output: "reserved.txt"
    resources: reservation="course", slurm_acount="lab"
    shell: SHOW
rule placed:
    output: "placed.txt"
    resources: constraint="fast", nodelist="node2", exclude="node3,node4", mem_mb_per_cpu=70, cpus_per_task=2
    shell: SHOW
rule booked:
    output: "booked.txt"
    resources: slurm_account="lab", qos="normal", dependency="singleton", requeue=False
    shell: SHOW
rule alone:
    output: "alone.txt"
    resources: exclusive=True
    shell: SHOW
rule extra:
    output: "extra.txt"
    resources: slurm_extra="--nice=7 --comment='two words'"
    shell: SHOW
rule mailed:
    output: "mailed.txt"
    resources: mail_type="END", mail_user="someone@example.org"
    shell: SHOW
rule fits:
    output: "fits.txt"
    resources: slurm_partition="", runtime=200
    shell: SHOW
rule module:
    output: "module.txt"
    envmodules: "toolbox/1.2"
    shell: "printf %s \\"$LOADED\\" > {output}"
rule mpi:
    output: "mpi.txt"
    resources: mpi="srun", nodes=2, tasks=4, mem_mb=300
    shell: "{resources.mpi} bash -c 'echo $SLURM_PROCID on $SLURMD_NODENAME' > {output}; spmd echo alone >> {output}"
rule first:
    output: temp("first.txt")
    group: "pair"
    shell: "echo $SLURM_JOB_ID > {output}"
rule second:
    input: "first.txt"
    output: "second.txt"
    group: "pair"
    shell: "cat {input} > {output}; echo $SLURM_JOB_ID >> {output}"
rule used:
    output: "used.txt"
    resources: mem_mb=400, runtime=3
    shell: "{{python}} -c 'import time; held = bytearray(150 << 20); time.sleep(3)' && touch {output}"
"""
PARTITIONS = """
partitions:
  main: {max_runtime: 2h}
  other: {max_runtime: 4h, max_gpus: 2}
"""


@pytest.fixture
def account(slurm_cluster):
    for entity in (("account", "lab"), ("user", "root", "account=lab")):
        made = slurm_cluster.call("sacctmgr", "-i", "add", *entity)
        assert made.returncode == 0, made.stderr + made.stdout


@pytest.fixture
def reservation(slurm_cluster):
    course = ("reservation=course", "starttime=now", "duration=10", "users=root", "nodes=node1", "flags=ignore_jobs")
    made = slurm_cluster.call("scontrol", "create", *course)
    assert made.returncode == 0, made.stderr
    yield
    delete = ("scontrol", "delete", "reservation=course")  # it would keep other tests from node1
    wait_for(lambda: slurm_cluster.call(*delete).returncode == 0, 30, "the end of the reservation")


def test_what_users_ask_for_reaches_slurm_and_the_report_tells_what_was_used(slurm_cluster, tmp_path, account, reservation):
    (tmp_path / "Snakefile").write_text(SNAKEFILE.replace("{{python}}", sys.executable))
    (tmp_path / "partitions.yaml").write_text(PARTITIONS)
    modules = {"BASH_FUNC_module%%": '() { [ "$1" = load ] && export LOADED="$2"; return 0; }'}
    flags = ["--submitit-efficiency-report", "--submitit-partitions", "partitions.yaml", "--sdm", "env-modules", "-j", "20"]
    done = snakemake(tmp_path, *flags, cluster="slurm", **slurm_cluster.environment, **modules, SLURM_CLUSTERS="lab")
    assert done.returncode == 0, done.stdout
    shown = {path.stem: path.read_text() for path in tmp_path.glob("*.txt")}
    assert "gres/gpu=2" in shown["gpus"] and "gpu:a100:2" in shown["gpus"]
    assert "gres/gpu=1" in shown["gres"]
    assert "Licenses=toolbox:2" in shown["licence"]
    assert "resource slurm_acount is ignored by the submitit executor; did you mean slurm_account?" in done.stdout
    assert "Reservation=course" in shown["reserved"]
    asked = ("Features=fast", "NodeList=node2", "ExcNodeList=node[3-4]", "MinMemoryCPU=70M", "CPUs/Task=2")
    assert [words for words in asked if words not in shown["placed"]] == []
    asked = ("Account=lab", "QOS=normal", "Requeue=0")
    assert [words for words in asked if words not in shown["booked"]] == []
    assert "OverSubscribe=NO" in shown["alone"]
    assert "Nice=7" in shown["extra"]
    assert "Partition=other" in shown["fits"]  # runtime of 200 minutes
    assert shown["module"] == "toolbox/1.2"
    *ranks, alone = shown["mpi"].splitlines()
    assert sorted(line.split()[0] for line in ranks) == ["0", "1", "2", "3"]
    assert len({line.split()[2] for line in ranks}) == 2
    assert alone == "alone"
    first, second = shown["second"].split()
    assert first == second, "jobs of a group share one Slurm job"
    mails = slurm_cluster.root / "log" / "mails"
    wait_for(lambda: mails.exists() and "someone@example.org" in mails.read_text())
    assert "used" in done.stdout and "peak" in done.stdout, done.stdout
    with (tmp_path / ".snakemake/submitit/efficiency.tsv").open() as stream:
        rows = {row["rule"]: row for row in csv.DictReader(stream, delimiter="\t")}
    assert len(rows) == 14  # the group is one job
    assert (rows["used"]["state"], float(rows["used"]["minutes_asked"])) == ("COMPLETED", 3)
    assert float(rows["used"]["mem_mb_asked"]) == 400
    assert 150 <= float(rows["used"]["mem_mb_used"]) < 400
    assert rows["gpus"]["gpus"] == "2"
    assert (rows["mpi"]["nodes"], float(rows["mpi"]["mem_mb_asked"])) == ("2", 300)
    assert rows["group"]["job"].startswith("group.")
    command = ["python", "-m", "snakemake_executor_plugin_submitit.tracking.efficiency"]
    again = run(tmp_path, *command, **slurm_cluster.environment)
    assert again.returncode == 0 and "used" in again.stdout, again.stdout


def test_a_job_that_can_never_start_is_told_to_the_user(slurm_cluster, tmp_path):
    write_snakefile(
        tmp_path,
        """
        rule all:
            input: "vast.txt", "many.txt"
        rule vast:
            output: "vast.txt"
            resources: nodes=9, mem_mb=100
            shell: "spmd touch {output}"
        rule many:
            output: "many.txt"
            resources: gpus_per_node=3, mem_mb=100
            shell: "touch {output}"
        """,
    )
    main = Main(slurm_cluster, tmp_path, "--keep-going")
    try:
        wait_for(lambda: "reason PartitionNodeLimit: vast; it will not start as it is" in main.output)
        assert "many: the job requests 3 GPUs per node, and no node of partition main has more than 2" in main.output
    finally:
        main.interrupt()
