"""A site without slurmdbd: how a job ended is known from its own files, and from squeue while Slurm remembers it."""

from slurm_lab.main_process import Main, lines, wait_for, write_snakefile

TWO_FATES = """
    rule all:
        input: "cancelled.txt", "grows.txt"
    rule cancelled:
        output: "cancelled.txt"
        resources: mem_mb=200, runtime=5
        shell: "echo x >> cancelled.count; sleep 600"
    rule grows:
        output: "grows.txt"
        resources: mem_mb=lambda wildcards, attempt: 300 * attempt, runtime=5
        retries: 2
        shell: "echo {resources.mem_mb} $SLURM_JOB_ID >> grows.count; python grow.py; touch {output}"
"""
GROW = "import time; held = bytearray(450 * 2**20); time.sleep(4)"


def test_a_cancelled_job_and_one_killed_for_memory_are_known_with_the_reason_and_memory_grows(bare_cluster, tmp_path):
    write_snakefile(tmp_path, TWO_FATES)
    (tmp_path / "grow.py").write_text(GROW)
    main = Main(bare_cluster, tmp_path, "--keep-going")
    wait_for(lambda: lines(tmp_path / "cancelled.count"), 90, "the job to run")
    bare_cluster.call("scancel", "-n", "cancelled")
    output = main.fails(120)
    assert "state CANCELLED" in output
    assert "state OUT_OF_MEMORY" in output
    assert "hint: it needs more memory: raise mem_mb" in output
    grown = [line.split() for line in lines(tmp_path / "grows.count")]
    assert [int(mem_mb) for mem_mb, _ in grown] == [300, 600, 900][: len(grown)]
    assert len(grown) > 1
    assert len({job_id for _, job_id in grown}) == len(grown)
    assert (tmp_path / "grows.txt").exists()
    assert not (tmp_path / "cancelled.txt").exists()
