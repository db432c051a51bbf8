"""The logger that prints a line when a job starts, ends or fails."""

import io
import logging
import re

import pytest
from snakemake.logging import DefaultFormatter
from snakemake_interface_logger_plugins.common import LogEvent
from snakemake_interface_logger_plugins.tests import MockOutputSettings, TestLogHandlerBase

from slurm_lab.main_process import write_snakefile
from slurm_lab.running import run, snakemake
from snakemake_logger_plugin_lines import LogHandler, LogHandlerSettings
from snakemake_logger_plugin_lines.durations import duration
from snakemake_logger_plugin_lines.failure import LAST_LINES, reason

BLOCKS = re.compile(r"^(local)?rule \w+:|^ +jobid: |^Finished jobid|steps \(\d+%\) done|^Reason: |^Job stats:", re.MULTILINE)
"""What Snakemake's own output consists of."""


class TestInterface(TestLogHandlerBase):
    """What Snakemake asks of every logger."""

    __test__ = True

    def get_log_handler_cls(self):
        return LogHandler

    def get_log_handler_settings(self):
        return LogHandlerSettings()


class Output:
    """The handler as Snakemake sets it up, and what it has printed."""

    def __init__(self, monkeypatch, *, terminal=False, blocks=False, nocolor=False):
        self._stream = io.StringIO()
        self._stream.isatty = lambda: terminal
        monkeypatch.setattr("sys.stderr", self._stream)
        monkeypatch.delenv("NO_COLOR", raising=False)
        monkeypatch.setenv("TERM", "xterm")
        settings = MockOutputSettings()
        settings.nocolor = nocolor
        self._handler = LogHandler(settings, LogHandlerSettings(blocks=blocks))
        self._handler.setFormatter(DefaultFormatter(None, True))
        self._now = 1_000_000_000.0

    def log(self, event, message=None, level=logging.INFO, *, after=0, **extra):
        self._now += after
        record = logging.LogRecord("snakemake", level, "", 0, message, (), None)
        record.__dict__.update(extra, event=event, created=self._now)
        self._handler.emit(record)

    def plan(self, **counts):
        self.log(LogEvent.RUN_INFO, "Job stats:\n…", stats={**counts, "total": sum(counts.values())})

    def ready(self, jobid, rule, name=None, *, after=0, output=("x",), shellcmd="true"):
        wildcards = {"name": name} if name else {}
        fields = {"rule_msg": None, "local": False, "is_checkpoint": False, "input": [], "log": [], "benchmark": None}
        fields |= {"reason": "", "resources": {}, "priority": 0, "threads": 1, "indent": False}
        self.log(
            *(LogEvent.JOB_INFO, "…"),
            **{**fields, "jobid": jobid, "rule_name": rule, "wildcards": wildcards, "output": list(output), "shellcmd": shellcmd},
            after=after,
        )

    def done(self, jobid, *, after=0):
        self.log(LogEvent.JOB_FINISHED, f"Finished jobid: {jobid}", job_id=jobid, after=after)

    def failed(self, jobid, rule, message="", logs=(), *, after=0):
        fields = {"rule_name": rule, "rule_msg": message, "input": [], "output": [], "log": list(logs), "aux": {}}
        fields |= {"conda_env": None, "container_img": None, "shellcmd": "false", "indent": False}
        self.log(LogEvent.JOB_ERROR, f"Error in rule {rule}", logging.ERROR, jobid=jobid, after=after, **fields)

    @property
    def text(self):
        return self._stream.getvalue()

    @property
    def lines(self):
        """The lines without their clock."""
        return [re.sub(r"^\d\d:\d\d:\d\d  ", "", line) for line in self.text.splitlines()]


@pytest.fixture
def output(monkeypatch):
    return Output(monkeypatch)


def test_a_run_is_a_line_for_each_start_and_end_with_progress_and_what_is_left(output):
    output.plan(make=2, all=1)
    output.ready(1, "make", "a")
    output.ready(2, "make", "b")
    output.done(1, after=10)
    output.done(2, after=5)
    output.ready(0, "all", output=(), shellcmd=None)
    output.done(0)
    assert output.lines == [
        "0/2  started  make a",
        "0/2  started  make b",
        "1/2  done     make a  (10 s)",
        "2/2  done     make b  (15 s)",
    ]


def test_jobs_start_when_the_executor_says_so_if_it_does(output):
    output.plan(make=2)
    output.log(None, "jobs run on Slurm", starts_are_told=True)
    output.ready(1, "make", "a")
    output.ready(2, "make", "b")
    output.log(None, "2 jobs as array 7", jobs_queued={1: "slurm job 7_0", 2: "slurm job 7_1"})
    output.log(None, "running: make.b", jobs_running={2: "slurm job 7_1"}, after=100)
    output.log(None, "running: make.b", jobs_running={2: "slurm job 7_1"}, after=1)
    output.done(2, after=7)
    assert output.lines == [
        "0/2  queued   2 jobs  (slurm job 7_0 and following)",
        "0/2  started  make b  (slurm job 7_1)",
        "1/2  done     make b  (8 s, about 8 s left)",
    ]


def test_the_workflow_may_say_what_is_cached_what_its_target_is_and_how_long_jobs_take(output):
    output.plan(make=2, everything=1)
    expected = {"seconds": {"make a": 10.0, "make b": 30.0}, "cached": 3, "target": "everything"}
    output.log(None, "5 stages: 3 cached", expected=expected)
    output.ready(1, "make", "a")
    output.done(1, after=20)
    assert output.lines == ["5 stages: 3 cached", "3/5  started  make a", "4/5  done     make a  (20 s, about 60 s left)"]


def test_what_is_left_is_shared_by_the_jobs_that_run_at_once_and_not_less_than_the_longest(output):
    output.plan(make=6, all=1)
    for jobid, name in enumerate("abc"):
        output.ready(jobid, "make", name)
    output.done(0, after=10)
    assert output.lines[-1].endswith("(10 s, about 10 s left)")  # two of 10 s that should be over, and three of 10 s, on three
    output.ready(3, "make", "d")
    output.done(1, after=10)
    assert output.lines[-1].endswith("(20 s, about 15 s left)")


def test_unknown_messages_warnings_and_errors_are_printed_and_known_noise_is_not(output):
    output.log(None, "Building DAG of jobs...")
    output.log(None, "Using shell: /usr/bin/bash")
    output.log(None, "something new")
    output.log(None, "Building DAG of jobs... is slow", logging.WARNING)
    output.log(LogEvent.ERROR, "WorkflowError:\nno", logging.ERROR)
    output.log("an event of a later Snakemake", "and its text")
    assert output.text == "something new\nBuilding DAG of jobs... is slow\nWorkflowError:\nno\nand its text\n"


def test_an_event_without_the_fields_of_today_is_printed_as_its_text_and_later_ones_too(output):
    output.log(LogEvent.JOB_FINISHED, "Finished jobid: 7")
    output.log(None, "goes on")
    assert output.text == "Finished jobid: 7\ngoes on\n"


def test_a_failed_job_shows_what_the_executor_says_and_the_end_of_its_log(output, tmp_path):
    log = tmp_path / "make.log"
    log.write_text("".join(f"line {n}\n\n" for n in range(100)) + "DataError: no such file\n")
    output.plan(make=1)
    output.ready(1, "make", "a")
    message = (
        "make.a: local job 5 failed, exit status 1\nlog: out\nlast lines of out:\n    Error in rule make:\n        jobid: 0\n"
    )
    output.failed(1, "make", message, [str(log)], after=3)
    assert output.lines[1:5] == ["0/1  failed   make a  (3 s)", "    make.a: local job 5 failed, exit status 1", "    log: out",
                                 f"    last lines of {log}:"]  # fmt: skip
    assert output.lines[5] == "        line 86"
    assert output.lines[-1] == "        DataError: no such file"
    assert len(output.lines) == 5 + LAST_LINES


@pytest.mark.parametrize("content", [None, "", b"\xff\xfe"], ids=["missing", "empty", "not text"])
def test_without_a_log_of_the_rule_the_output_of_the_job_is_shown(tmp_path, content):
    log = tmp_path / "make.log"
    if content is not None:
        log.write_bytes(content if isinstance(content, bytes) else content.encode())
    said = reason("failed\nlast lines of out:\n    killed", [str(log)], {})
    if isinstance(content, bytes):
        assert said[:2] == ["failed", f"last lines of {log}:"]
    else:
        assert said == ["failed", "last lines of out:", "    killed"]


def test_a_retried_job_is_named_and_is_no_failure_in_the_end(output):
    output.plan(make=1)
    output.ready(1, "make", "a")
    output.failed(1, "make", "why")
    output.log(None, "Trying to restart job 1.")
    output.ready(1, "make", "a")
    output.done(1, after=2)
    output.log(None, "Complete log(s): /elsewhere/run.log")
    output.log(None, "Elapsed time: 0:00:02")
    assert output.lines[3] == "0/1  again    make a"
    assert re.fullmatch(r"1 of 1 steps done, in \S+ \w+; full log: /elsewhere/run.log", output.lines[-1])


def test_the_end_names_what_failed(output):
    output.plan(make=2)
    output.ready(1, "make", "a")
    output.failed(1, "make", "why")
    output.log(None, "Elapsed time: 0:00:02")
    assert output.lines[-1].startswith("0 of 2 steps done, 1 failed: make a, in ")


def test_colours_are_for_terminals(monkeypatch):
    for terminal, nocolor, expected in ((True, False, True), (True, True, False), (False, False, False)):
        output = Output(monkeypatch, terminal=terminal, nocolor=nocolor)
        output.log(None, "beware", logging.WARNING)
        assert ("\033[33m" in output.text) is expected
        assert "beware" in output.text


def test_blocks_are_those_of_snakemake(monkeypatch):
    output = Output(monkeypatch, blocks=True)
    output.ready(1, "make", "a")
    output.done(1)
    assert BLOCKS.findall(output.text)
    assert "rule make:\n" in output.text


@pytest.mark.parametrize(
    ("seconds", "text"), [(-1, "0 s"), (8.4, "8 s"), (99, "99 s"), (150, "2 min"), (5400, "90 min"), (9000, "2.5 h"),
                          (90_000, "25 h"), (400_000, "5 days")]
)  # fmt: skip
def test_durations_have_about_two_digits(seconds, text):
    assert duration(seconds) == text


SNAKEFILE = """
rule all:
    input: "a.txt", "b.txt"
rule make:
    output: "{name}.txt"
    log: "{name}.log"
    resources: mem_mb=100
    shell: "( [ {wildcards.name} = a ] || ( echo the reason; exit 3 ) ) > {log} && touch {output}"
"""


@pytest.mark.slow
def test_a_run_prints_lines_once_and_the_reason_of_a_failure_and_the_log_file_has_everything(tmp_path):
    write_snakefile(tmp_path, SNAKEFILE)
    done = snakemake(tmp_path, "--keep-going", "--show-failed-logs", "--logger", "lines", cluster="local")
    assert done.returncode == 1
    assert not BLOCKS.search(done.stdout), done.stdout
    for line in ("started  make a  (local job", "done     make a", "started  make b", "failed   make b"):
        assert done.stdout.count(line) == 1, done.stdout
    assert "        the reason\n" in done.stdout
    (end,) = re.findall(r"^1 of 2 steps done, 1 failed: make b, in .*; full log: (\S+)$", done.stdout, re.MULTILINE)
    everything = (tmp_path / end).read_text()
    assert BLOCKS.search(everything)
    assert "make.b: local job" in everything


@pytest.mark.slow
@pytest.mark.parametrize("flag", ["--logger-lines-blocks", "--verbose", "--dry-run"])
def test_the_blocks_come_back_when_asked_for(tmp_path, flag):
    write_snakefile(tmp_path, SNAKEFILE)
    done = run(tmp_path, "snakemake", "--cores", "1", "a.txt", "--logger", "lines", flag)
    assert done.returncode == 0
    assert BLOCKS.search(done.stdout), done.stdout
    assert "started  make" not in done.stdout


@pytest.mark.slow
def test_other_executors_are_told_by_lines_too(tmp_path):
    write_snakefile(tmp_path, SNAKEFILE)
    done = run(tmp_path, "snakemake", "a.txt", "--cores", "1", "--logger", "lines")
    assert done.returncode == 0
    assert re.findall(r"^\S+  (\d/1)  (\w+) +make a", done.stdout, re.MULTILINE) == [("0/1", "started"), ("1/1", "done")]
