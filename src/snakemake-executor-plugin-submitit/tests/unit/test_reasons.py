"""Slurm's reasons in words."""

import pytest

from snakemake_executor_plugin_submitit.submission.reasons import WORDS, in_words
from snakemake_executor_plugin_submitit.submission.states import UNSATISFIABLE_REASONS


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("Priority", "ahead of it in the queue"),
        ("ReqNodeNotAvail, UnavailableNodes:node[1-4]", "down, drained or reserved"),
        ("launch failed requeued held", "Slurm holds it"),
        ("launch_failed_requeued_held", "Slurm holds it"),
        ("QOSMaxGRESPerUser", "a limit of the QOS is reached, on what one user may use at a time (QOSMaxGRESPerUser)"),
        ("QOSGrpCpuLimit", "a limit of the QOS is reached, on what all jobs of it may use together"),
        ("AssocGrpGRESRunMinutes", "a limit of the account is reached, on what all jobs of it may use together"),
        ("AssocMaxJobsLimit", "a limit of the account is reached, on what may be used at a time"),
        ("QOSMaxCpuPerJobLimit", "what a single job may request: it will not start"),
        ("SomethingNew", "SomethingNew"),
        ("", ""),
    ],
)
def test_a_reason_in_words(reason, words):
    assert words in in_words(reason)


def test_what_never_starts_is_told_so_here_as_in_the_warnings_of_the_executor():
    for reason, words in WORDS.items():
        assert bool(UNSATISFIABLE_REASONS.search(reason)) == ("will not start" in words), reason
