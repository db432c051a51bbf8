"""The main process is killed, or leaves; the same command goes on with the jobs that it left behind."""

import json
import signal

from slurm_lab.main_process import Main, lines, wait_for, write_snakefile

FOUR_FATES = """
    rule all:
        input: "runs.txt", "finishes.txt", "fails.txt", "was_there.txt"
    rule was_there:
        output: "was_there.txt"
        shell: "echo x >> was_there.count; echo made > {output}"
    rule runs:
        input: "was_there.txt"
        output: "runs.txt"
        shell: "echo x >> runs.count; echo part > {output}; while [ ! -e go ]; do sleep 0.2; done; echo made >> {output}"
    rule finishes:
        input: "was_there.txt"
        output: "finishes.txt"
        shell: "echo x >> finishes.count; while [ ! -e killed ]; do sleep 0.2; done; echo made > {output}"
    rule fails:
        input: "was_there.txt"
        output: "fails.txt"
        shell:
            "echo x >> fails.count; [ -e back ] || {{ while [ ! -e killed ]; do sleep 0.2; done; exit 1; }};"
            "echo made > {output}"
"""


def counts(folder):
    return {path.stem: len(lines(path)) for path in folder.glob("*.count")}


def test_after_a_kill_the_same_command_adopts_takes_and_makes_anew(slurm_cluster, tmp_path):
    write_snakefile(tmp_path, FOUR_FATES)
    main = Main(slurm_cluster, tmp_path, "--keep-going")
    wait_for(lambda: len(counts(tmp_path)) == 4, 90, "all jobs to run")
    main.kill()
    (tmp_path / "killed").touch()
    wait_for(lambda: len(list(tmp_path.glob(".snakemake/submitit/*/latest/result.json"))) == 3, 60, "two jobs to end")
    (tmp_path / "back").touch()
    main = Main(slurm_cluster, tmp_path, "--keep-going")
    wait_for(lambda: "runs: adopted slurm job" in main.output, 60, "the adoption")
    (tmp_path / "go").touch()
    output = main.succeeds()
    assert counts(tmp_path) == {"was_there": 1, "runs": 1, "finishes": 1, "fails": 2}
    assert (tmp_path / "runs.txt").read_text() == "part\nmade\n"
    assert "finishes: finished while Snakemake was away" in output
    assert len(list((tmp_path / ".snakemake/metadata").iterdir())) == 4
    assert not list((tmp_path / ".snakemake/submitit/registry").iterdir())
    assert "Nothing to be done" in Main(slurm_cluster, tmp_path).succeeds()


def test_a_job_is_adopted_when_the_main_process_died_before_it_knew_the_id(slurm_cluster, tmp_path):
    write_snakefile(
        tmp_path,
        """
        rule all:
            input: "a.txt", "b.txt"
        rule one:
            output: "{name}.txt"
            shell: "echo x >> {wildcards.name}.count; while [ ! -e go ]; do sleep 0.2; done; touch {output}"
        """,
    )
    main = Main(slurm_cluster, tmp_path)
    wait_for(lambda: len(counts(tmp_path)) == 2, 90, "both jobs to run")
    main.process.send_signal(signal.SIGHUP)  # as when the connection of a terminal is lost
    main.process.wait(60)
    (note,) = (tmp_path / ".snakemake/submitit/registry").iterdir()
    note.write_text(json.dumps(json.loads(note.read_text()) | {"job_id": None}))
    main = Main(slurm_cluster, tmp_path)
    wait_for(lambda: main.output.count("adopted slurm job") == 2, 60, "the adoption")
    (tmp_path / "go").touch()
    main.succeeds()
    assert counts(tmp_path) == {"a": 1, "b": 1}


def test_detaching_leaves_jobs_running_with_their_folders_and_the_same_command_adopts_them(slurm_cluster, tmp_path):
    write_snakefile(
        tmp_path,
        """
        rule slow:
            output: "deep/er/out.txt"
            shell: "echo x >> slow.count; while [ ! -e go ]; do sleep 0.2; done; touch {output}"
        """,
    )
    main = Main(slurm_cluster, tmp_path, "--submitit-detach")
    wait_for(lambda: counts(tmp_path), 60, "the job to run")
    main.interrupt()
    assert "1 jobs are left running" in main.output
    assert slurm_cluster.queue_of("slow", "%T") == ["RUNNING"]
    assert (tmp_path / "deep/er").is_dir()
    main = Main(slurm_cluster, tmp_path)
    wait_for(lambda: "slow: adopted slurm job" in main.output, 60, "the adoption")
    (tmp_path / "go").touch()
    main.succeeds()
    assert counts(tmp_path) == {"slow": 1}


def test_a_job_that_a_killed_main_process_left_finds_its_folder_after_another_run_has_ended(slurm_cluster, tmp_path):
    write_snakefile(
        tmp_path,
        """
        rule slow:
            output: "deep/er/out.txt"
            shell: "echo x >> slow.count; while [ ! -e go ]; do sleep 0.2; done; touch {output}"
        rule bad:
            output: "bad.txt"
            priority: 50
            shell: "exit 1"
        """,
    )
    main = Main(slurm_cluster, tmp_path, "slow")
    wait_for(lambda: counts(tmp_path), 60, "the job to run")
    main.kill()
    other = Main(slurm_cluster, tmp_path, "--jobs", "1", "bad.txt", "deep/er/out.txt")
    assert "adopted" not in other.fails(), "it has ended before it comes to the job"
    assert (tmp_path / "deep/er").is_dir()
    (tmp_path / "go").touch()
    wait_for((tmp_path / "deep/er/out.txt").exists, 30, "the output")
    assert counts(tmp_path) == {"slow": 1}


def test_a_lock_is_kept_while_its_owner_lives(slurm_cluster, tmp_path):
    write_snakefile(
        tmp_path,
        """
        rule slow:
            output: "out.txt"
            shell: "echo x >> slow.count; while [ ! -e go ]; do sleep 0.2; done; touch {output}"
        """,
    )
    first = Main(slurm_cluster, tmp_path)
    wait_for(lambda: counts(tmp_path), 60, "the job to run")
    assert "Directory cannot be locked" in Main(slurm_cluster, tmp_path).fails()
    (tmp_path / "go").touch()
    first.succeeds()
    assert counts(tmp_path) == {"slow": 1}
