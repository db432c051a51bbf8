"""What is known about the jobs of a run: how many are done, which ones run, and how long the others may take."""

import collections
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass
class Job:
    """A job that Snakemake has given to its executor.

    Attributes:
        label: rule and values of the wildcards.
        rule: name of the rule.
        is_target: whether it does nothing itself, like `rule all`.
        started: time in seconds since the epoch; None while it waits.
        seconds: how long it ran, once it has ended.
    """

    label: str
    rule: str
    is_target: bool = False
    started: float | None = None
    seconds: float = 0.0


class Run:
    """The jobs of a run, by Snakemake's number."""

    def __init__(self) -> None:
        """Begin without jobs."""
        self.began = 0.0
        self.failed: list[str] = []
        self._jobs: dict[str, Job] = {}
        self._labels: dict[str, str] = {}
        self._targets = {"all"}
        self._counts: collections.Counter[str] = collections.Counter()
        self._finished: collections.Counter[str] = collections.Counter()
        self._seconds: dict[str, list[tuple[str, float]]] = collections.defaultdict(list)
        self._expected: dict[str, float] = {}
        self._cached = self._added = 0
        self._most_at_once = 1

    @property
    def total(self) -> int:
        """Steps in total, including cached ones."""
        return sum(count for rule, count in self._counts.items() if rule not in self._targets) + self._added + self._cached

    @property
    def done(self) -> int:
        """Steps done, including cached ones."""
        return sum(count for rule, count in self._finished.items() if rule not in self._targets) + self._cached

    def plan(self, counts: Mapping[str, int], now: float) -> None:
        """Set the number of jobs of each rule."""
        self._counts, self.began = collections.Counter(counts), now

    def expect(self, seconds: Mapping[str, float], cached: int, target: str | None) -> None:
        """Set what the workflow knows beforehand.

        Args:
            seconds: how long its jobs will take, by label.
            cached: how many steps need not be done any more.
            target: the rule that asks for everything and does nothing itself.
        """
        self._expected, self._cached = dict(seconds), cached
        self._targets |= {target} if target else set()

    def correct(self, total: int) -> None:
        """Set Snakemake's own count of jobs, which includes jobs that were added to the graph later."""
        self._added = total - self._counts.total()

    def give_out(self, jobid: Any, label: str, rule: str, *, is_target: bool) -> Job:
        """Note a job that is ready to run, for the first or another time."""
        self._labels[str(jobid)] = label
        job = self._jobs[str(jobid)] = Job(label, rule, is_target)
        return job

    def label(self, jobid: Any) -> str:
        """Return what a job is called."""
        return self._labels.get(str(jobid), f"job {jobid}")

    def start(self, jobid: Any, now: float) -> Job | None:
        """Note that a job runs; return it, None if it is not known or runs already."""
        job = self._jobs.get(str(jobid))
        if job is None or job.started is not None:
            return None
        job.started = now
        self._most_at_once = max(self._most_at_once, sum(1 for _ in self._running()))
        return job

    def finish(self, jobid: Any, now: float) -> Job | None:
        """Note that a job has ended well; return it, None if it is not known."""
        job = self._end(jobid, now)
        if job is None:
            return None
        self._finished[job.rule] += 1
        self._seconds[job.rule].append((job.label, job.seconds))
        if job.label in self.failed:  # an earlier attempt
            self.failed.remove(job.label)
        return job

    def fail(self, jobid: Any, now: float) -> Job | None:
        """Note that a job has failed; return it, None if it is not known."""
        job = self._end(jobid, now)
        if job is not None and job.label not in self.failed:
            self.failed.append(job.label)
        return job

    def seconds_left(self, now: float) -> float:
        """Return about how long the run will take from now, in seconds; 0 if nothing is known or left.

        This is the work that is left, divided by the most jobs that have run at once, but at least the longest job left.
        """
        left = list(self._seconds_of_jobs_left(now))
        return max([sum(left) / self._most_at_once, *left]) if left else 0.0

    def _end(self, jobid: Any, now: float) -> Job | None:
        job = self._jobs.pop(str(jobid), None)
        if job is not None:
            job.seconds = now - (now if job.started is None else job.started)
        return job

    def _running(self) -> Iterator[Job]:
        return (job for job in self._jobs.values() if job.started is not None and not job.is_target)

    def _seconds_of_jobs_left(self, now: float) -> Iterator[float]:
        running = {job.label: now - job.started for job in self._running() if job.started is not None}
        rules = {job.label: job.rule for job in self._running()} | {label: label.partition(" ")[0] for label in self._expected}
        finished = {label for entries in self._seconds.values() for label, _ in entries}
        for rule, count in self._counts.items():
            if rule in self._targets:
                continue
            left = count - self._finished[rule]
            known = [label for label in rules if rules[label] == rule and label not in finished][:left]
            for label in known:
                yield max(0.0, self._guess(label, rule) - running.get(label, 0.0))
            yield from [self._mean(rule)] * (left - len(known))

    def _guess(self, label: str, rule: str) -> float:
        """Return how long a job will take in all."""
        return self._expected[label] * self._pace(rule) if label in self._expected else self._mean(rule)

    def _pace(self, rule: str) -> float:
        """Return the ratio of actual to expected time, for jobs of the rule, or else for all that have ended."""
        for rules in ([rule], list(self._seconds)):
            took = {label: seconds for each in rules for label, seconds in self._seconds[each] if label in self._expected}
            expected = sum(self._expected[label] for label in took)
            if expected > 0:
                return sum(took.values()) / expected
        return 1.0

    def _mean(self, rule: str) -> float:
        """Return how long jobs of a rule took on average; 0 if none has ended."""
        took = [seconds for _, seconds in self._seconds[rule]]
        return sum(took) / len(took) if took else 0.0
