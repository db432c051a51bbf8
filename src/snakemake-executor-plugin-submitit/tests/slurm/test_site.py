"""What a site, or a user's environment, may have set up in ways that would change or stop jobs."""

import re

from slurm_lab.main_process import Main, lines, wait_for, write_snakefile

RULES = """
    rule all:
        input: "asked.txt", "open.txt", "pair.txt"
    rule asked:
        output: "asked.txt"
        resources: slurm_partition="main", runtime=30, mem_mb=100
        shell: "scontrol show job $SLURM_JOB_ID > {output}; env | grep ^S.*_ > env.txt"
    rule open:
        output: "open.txt"
        resources: mem_mb=100
        shell: "scontrol show job $SLURM_JOB_ID > {output}"
    rule pair:
        output: touch("pair.txt")
        resources: slurm_partition="main", runtime=30, nodes=2, mem_mb=100
        shell: "spmd sh -c 'echo $RANK $MARK > rank$RANK'"
"""
HOSTILE = {
    "SBATCH_PARTITION": "other",
    "SBATCH_TIMELIMIT": "2",
    "SBATCH_MEM_PER_NODE": "7",
    "SBATCH_EXPORT": "NONE",
    "SBATCH_WAIT": "1",
    "SBATCH_ARRAY_INX": "0-3",
    "SBATCH_NO_REQUEUE": "1",
    "SQUEUE_PARTITION": "low",
    "SQUEUE_STATES": "FAILED",
    "SQUEUE_NAMES": "another",
    "SACCT_FORMAT": "user",
    "SCANCEL_PARTITION": "low",
    "SRUN_EXPORT_ENV": "NONE",
    "SLURM_EXPORT_ENV": "NONE",
}


def test_variables_that_stand_for_options_of_slurm_change_nothing_that_a_rule_asks_for(slurm_cluster, tmp_path):
    write_snakefile(tmp_path, RULES)
    Main(slurm_cluster, tmp_path, MARK="it's here", **HOSTILE).succeeds(120)
    asked, left_open = ((tmp_path / name).read_text() for name in ("asked.txt", "open.txt"))
    assert "Partition=main" in asked and "TimeLimit=00:30:00" in asked and "MinMemoryNode=100M" in asked
    assert "Requeue=1" in asked and "ArrayTaskId" not in asked
    assert "Partition=other" in left_open, "it is the user's default where a job leaves the partition open"
    assert "TimeLimit=01:00:00" in left_open
    assert [(tmp_path / f"rank{rank}").read_text().strip() for rank in (0, 1)] == ["0 it's here", "1 it's here"]
    assert {"SBATCH_PARTITION=other", "SBATCH_TIMELIMIT=2", "SQUEUE_PARTITION=low"} <= set(lines(tmp_path / "env.txt")), (
        "the commands of a job have the user's environment"
    )


def test_a_job_whose_start_failed_runs_elsewhere_and_one_that_the_user_holds_is_told(slurm_cluster, tmp_path):
    write_snakefile(
        tmp_path,
        """
        rule all:
            input: "unlucky.txt", "held.txt"
        rule unlucky:
            output: "unlucky.txt"
            resources: exclude="node1,node3", mem_mb=100
            shell: "echo $SLURMD_NODENAME > {output}"
        rule held:
            output: "held.txt"
            resources: slurm_extra="--hold", mem_mb=100
            shell: "touch {output}"
        """,
    )
    with slurm_cluster.broken_prolog("node2"):
        main = Main(slurm_cluster, tmp_path)
        wait_for((tmp_path / "unlucky.txt").exists, 90, lambda: f"the job to run: {main.output}")
        assert "held in Slurm's queue, reason launch failed requeued held: unlucky; released" in main.output
        assert (tmp_path / "unlucky.txt").read_text().strip() == "node4"
    wait_for(lambda: "reason JobHeldUser: held; to release it: scontrol release" in main.output, 30, "the advice")
    (command,) = re.findall(r"scontrol release \d+", main.output)
    assert slurm_cluster.call(*command.split()).returncode == 0
    assert main.succeeds(60).count("JobHeldUser") == 1
