"""How jobs are sent together, from the thread that does it."""

from slurm_lab.main_process import wait_for
from snakemake_executor_plugin_submitit.submission import submitter as module
from snakemake_executor_plugin_submitit.submission.commands import LimitError
from snakemake_executor_plugin_submitit.submission.submitter import Submitter


def test_a_limit_that_is_learned_while_sending_holds_for_all_that_follow():
    sent = []

    def send(jobs):
        if len(jobs) > 4:
            submitter.max_jobs = 4
            send(jobs[:4])
            send(jobs[4:])
        else:
            sent.append(list(jobs))

    submitter = Submitter(send, lambda job: job % 2, max_jobs=6, warn=print)
    submitter.add(range(24))
    wait_for(lambda: sum(map(len, sent)) == 24, 10, "all jobs to be sent")
    submitter.add(range(100, 106, 2))
    submitter.add(range(106, 110, 2))
    wait_for(lambda: sum(map(len, sent)) == 29, 10, "those that came later")
    assert submitter.stop(5)
    assert sent[:6] == [[0, 2, 4, 6], [8, 10], [12, 14, 16, 18], [20, 22], [1, 3, 5, 7], [9, 11, 13, 15]]
    assert max(map(len, sent)) == 4


def test_jobs_above_a_limit_go_out_in_smaller_groups_and_those_of_another_kind_meanwhile(monkeypatch):
    monkeypatch.setattr(module, "PAUSES_S", (0.1,))
    room, sent = {0: 3, 1: 100}, []

    def send(jobs):
        if len(jobs) > room[jobs[0] % 2]:
            raise LimitError("QOSMaxSubmitJobPerUserLimit")
        room[jobs[0] % 2] -= len(jobs)
        sent.append(list(jobs))

    submitter = Submitter(send, lambda job: job % 2, max_jobs=500, warn=print)
    submitter.add(range(20))
    wait_for(lambda: sum(map(len, sent)) == 13, 10, "what fits to be sent")
    assert sent == [[0, 2, 4], list(range(1, 20, 2))]
    room[0] = 7
    wait_for(lambda: sum(map(len, sent)) == 20, 10, "the others")
    assert submitter.stop(5)
