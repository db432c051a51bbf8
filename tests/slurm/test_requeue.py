"""Jobs whose time, place or node is taken away. All start together and each test waits for its own: limits are in minutes."""

import time

import pytest

from tests.slurm.main_process import Main, lines, wait_for, write_snakefile

# an epoch is a second; a checkpoint after each; the end once the job was started often enough
TRAIN = """\
import os, pathlib, sys, time
starts_wanted = int(sys.argv[1])
checkpoint = pathlib.Path("checkpoint")
starts = len(pathlib.Path("starts").read_text().splitlines()) if pathlib.Path("starts").exists() else 0
starts += 1
with open("starts", "a") as log:
    log.write(os.environ["SLURM_JOB_ID"] + " " + os.environ["SLURMD_NODENAME"] + "\\n")
epoch = int(checkpoint.read_text()) if checkpoint.exists() else 0
last = epoch + 3 if starts >= starts_wanted else 10**6
while epoch < last:
    with open("epochs", "a") as log:
        log.write(f"{epoch}\\n")
    time.sleep(1)
    epoch += 1
    pathlib.Path("checkpoint.new").write_text(str(epoch))
    os.replace("checkpoint.new", "checkpoint")
pathlib.Path(sys.argv[2]).write_text("trained")
"""

TRAIN_RULE = """
    rule {name}:
        output: "out.txt"
        resources: runtime={runtime}, mem_mb=100, slurm_partition="{partition}", slurm_extra="{extra}"
        retries: 0
        shell: "python train.py {starts} {{output}}"
"""

# the second rank loses its node once; the others go on by themselves, as while they compute between two collectives
PAIR = """\
import os, pathlib, time
rank = os.environ["RANK"]
pathlib.Path(f"node{rank}").write_text(os.environ["SLURMD_NODENAME"])
with open("starts" + rank, "a") as log:
    log.write(os.environ["SLURM_JOB_ID"] + " " + os.environ["SLURMD_NODENAME"] + "\\n")
while not pathlib.Path("go").exists():
    time.sleep(0.2)
"""

GANG = """\
import os, pathlib, time
pathlib.Path("pid" + os.environ["RANK"]).write_text(f"{os.getpid()} {os.getppid()} {os.environ['SLURMD_NODENAME']}")
time.sleep(600)
"""


class Scenarios:
    """Main processes by name, each in a folder of its own."""

    def __init__(self, cluster, root):
        self.cluster, self.root, self.mains = cluster, root, {}

    def start(self, name, snakefile, programs, *arguments):
        folder = self.root / name
        write_snakefile(folder, snakefile)
        for program, text in programs.items():
            (folder / program).write_text(text)
        self.mains[name] = Main(self.cluster, folder, *arguments)

    def train(self, name, *, runtime=10, partition="main", extra="", starts=2):
        rule = TRAIN_RULE.format(name=name, runtime=runtime, partition=partition, extra=extra, starts=starts)
        self.start(name, rule, {"train.py": TRAIN})

    def __getitem__(self, name):
        return self.mains[name]


@pytest.fixture(scope="module")
def scenarios(slurm_cluster, tmp_path_factory):
    started = Scenarios(slurm_cluster, tmp_path_factory.mktemp("requeue"))
    started.train("limit", runtime=1, extra="--nodelist=node4", starts=4)
    started.train("exhausted", runtime=1, extra="--nodelist=node4", starts=9)
    started.train("preempted", partition="low", extra="--nodelist=node1")
    started.train("evicted", partition="lowcancel", extra="--nodelist=node1")
    yield started
    for main in started.mains.values():
        if main.process.poll() is None:
            main.interrupt()


def repeated(folder):
    """How many epochs were done more than once."""
    epochs = lines(folder / "epochs")
    return len(epochs) - len(set(epochs))


def test_preemption_with_grace_and_by_cancel_ends_in_success(slurm_cluster, scenarios):
    folders = {name: scenarios[name].folder for name in ("preempted", "evicted")}
    wait_for(lambda: all(len(lines(folder / "epochs")) >= 2 for folder in folders.values()), 90, "both to train")
    taker = ["sbatch", "-p", "high", "-w", "node1", "-c", "4", "-t", "5", "-o", "/dev/null", "--wrap", "sleep 8"]
    assert slurm_cluster.call(*taker).returncode == 0
    for name, folder in folders.items():
        output = scenarios[name].succeeds()
        assert (folder / "out.txt").read_text() == "trained"
        assert len(lines(folder / "starts")) == 2
        assert repeated(folder) <= 1
        assert "Trying to restart" not in output
    ids = {name: {line.split()[0] for line in lines(folder / "starts")} for name, folder in folders.items()}
    assert len(ids["preempted"]) == 1
    assert len(ids["evicted"]) == 2
    assert "lost its place (state PREEMPTED)" in scenarios["evicted"].output


def test_a_node_that_dies_under_a_rank_is_left_out_and_the_job_runs_elsewhere(slurm_cluster, scenarios):
    scenarios.start(
        "pair",
        """
        rule pair:
            output: touch("done")
            resources: nodes=2, tasks_per_node=1, mem_mb=100, slurm_extra="--exclude=node4"
            shell: "spmd python pair.py"
        """,
        {"pair.py": PAIR},
    )
    main = scenarios["pair"]
    wait_for(lambda: (main.folder / "starts1").exists(), 90, "the second rank")
    node = (main.folder / "node1").read_text()
    slurm_cluster.kill_node(node)
    try:
        wait_for(lambda: "lost its place" in main.output, 30, "the verdict")
        wait_for(lambda: len(lines(main.folder / "starts1")) == 2, 90, "the new job")
        (main.folder / "go").touch()
        output = main.succeeds()
    finally:
        slurm_cluster.start_node(node)
    assert f"node {node} failed" in output
    starts = [line.split() for rank in "01" for line in lines(main.folder / f"starts{rank}")]
    second = max(starts, key=lambda start: int(start[0]))[0]
    assert node not in {where for job_id, where in starts if job_id == second}
    assert "Trying to restart" not in output


def test_a_node_that_dies_under_a_single_job_makes_slurm_start_it_elsewhere(slurm_cluster, scenarios):
    scenarios.train("orphan", extra="--exclude=node1,node4")
    main = scenarios["orphan"]
    wait_for(lambda: len(lines(main.folder / "epochs")) >= 2, 90, "the training")
    node = lines(main.folder / "starts")[0].split()[1]
    slurm_cluster.kill_node(node)
    try:
        main.succeeds()
    finally:
        slurm_cluster.start_node(node)
    (_, first), (_, second) = (line.split() for line in lines(main.folder / "starts"))
    assert (first, second == node) == (node, False)
    assert repeated(main.folder) <= 1


@pytest.mark.parametrize("victim", ["program", "task"])
def test_a_rank_that_is_killed_takes_the_job_down_at_once_and_is_named(slurm_cluster, scenarios, victim):
    name = f"gang_{victim}"
    scenarios.start(
        name,
        f"""
        rule {name}:
            output: touch("done")
            resources: nodes=2, tasks_per_node=2, mem_mb=100, slurm_extra="--exclude=node4"
            shell: "spmd python gang.py"
        """,
        {"gang.py": GANG},
    )
    main = scenarios[name]
    wait_for(lambda: len(list(main.folder.glob("pid*"))) == 4, 90, "all ranks")
    program, task, node = (main.folder / "pid2").read_text().split()
    started = time.monotonic()
    slurm_cluster.kill_process(int(program if victim == "program" else task))
    wait_for(lambda: not slurm_cluster.queue_of(name), 10, "the job to be down")
    output = main.fails(20 - (time.monotonic() - started))
    assert "rank 2 failed first" in output
    assert f"node {node}" in output
    assert "_2_log.out" in output


def test_the_time_limit_three_times_is_one_success(scenarios):
    main = scenarios["limit"]
    output = main.succeeds(400)
    assert len(lines(main.folder / "starts")) == 4
    assert len({line.split()[0] for line in lines(main.folder / "starts")}) == 1
    assert repeated(main.folder) <= 3
    assert "Trying to restart" not in output


def test_the_time_limit_once_too_often_is_an_error_that_says_so(scenarios):
    main = scenarios["exhausted"]
    output = main.fails(400)
    assert len(lines(main.folder / "starts")) == 4
    assert "state TIMEOUT (the time limit was reached 4 times)" in output
    assert "hint: it needs more time: raise runtime" in output
