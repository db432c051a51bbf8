"""Folders that are full, or that have odd names."""

import subprocess

from slurm_lab.main_process import Main, wait_for, write_snakefile
from slurm_lab.odd_places import ODD_NAME, ODD_PLACE, small_disk


def test_a_folder_with_spaces_quotes_and_shell_signs_works(slurm_cluster, tmp_path):
    folder = tmp_path / ODD_NAME
    write_snakefile(folder, ODD_PLACE)
    Main(slurm_cluster, folder, "--config", f"where={folder}").succeeds()
    assert (folder / "out.txt").read_text() == "made\n"


def test_a_folder_that_slurm_would_take_for_a_pattern_is_refused(slurm_cluster, tmp_path):
    write_snakefile(tmp_path, "rule one:\n    output: 'a.txt'\n    shell: 'touch {output}'")
    output = Main(slurm_cluster, tmp_path, "--submitit-folder", "100%jobs").fails()
    assert "Slurm cannot write logs to a path with '%'; use another --submitit-folder" in output


def test_a_full_disk_under_the_jobs_folder_is_named(slurm_cluster, tmp_path):
    write_snakefile(
        tmp_path,
        """
        rule one:
            output: "a.txt"
            shell: "echo run; while [ ! -e full ]; do sleep 0.2; done; touch {output}"
        """,
    )
    with small_disk(tmp_path / "disk", "1M") as disk:
        main = Main(slurm_cluster, tmp_path, "--submitit-folder", str(disk / "jobs"))
        wait_for(lambda: slurm_cluster.queue_of("one", "%T") == ["RUNNING"], 60, "the job to run")
        subprocess.run(["dd", "if=/dev/zero", f"of={disk / 'filler'}"], capture_output=True)
        (tmp_path / "full").touch()
        output = main.fails(60)
        assert "no space is left" in output
        assert not list(disk.glob("jobs/*/*/.result.json*"))
        (tmp_path / "a.txt").unlink(missing_ok=True)
        assert "No space left on device" in Main(slurm_cluster, tmp_path, "--submitit-folder", str(disk / "jobs")).fails()
