"""Workflows that run at the same time, each in a folder of its own, and a training that goes on from its checkpoint."""

from slurm_lab.main_process import Main, lines, write_snakefile

# an epoch is a second; a checkpoint after each; the end once the job was started often enough; other ranks only wait. When it is
# told to end, it takes two seconds to save
TRAIN = """\
import os, pathlib, signal, sys, time
def save(number, frame):
    signal.signal(number, signal.SIG_IGN)
    time.sleep(2)
    with open("saves", "a") as log:
        log.write("saved\\n")
    sys.exit(143)
starts_wanted = int(sys.argv[1])
while os.environ.get("RANK", "0") != "0":
    time.sleep(1)
signal.signal(signal.SIGTERM, save)
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
"""

TRAIN_RULES = """
    rule all:
        input: expand("{{which}}/out.txt", which={copies})
    rule {name}:
        output: "{{which}}/out.txt"
        resources: runtime={runtime}, mem_mb=100, slurm_partition="{partition}", {extra}
        shell: "cd {{wildcards.which}} && spmd python ../train.py {starts} && touch out.txt"
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

    def train(self, name, *, copies="a", runtime=10, partition="main", extra="", starts=2):
        """Start a training; with two `copies`, the jobs are one array."""
        rules = TRAIN_RULES.format(
            name=name, copies=list(copies), runtime=runtime, partition=partition, extra=extra, starts=starts
        )
        self.start(name, rules, {"train.py": TRAIN})

    def __enter__(self):
        return self

    def __exit__(self, *error):
        for main in self.mains.values():
            if main.process.poll() is None:
                main.interrupt()

    def __getitem__(self, name):
        return self.mains[name]


def repeated(folder):
    """Return how many epochs were repeated."""
    epochs = lines(folder / "epochs")
    return len(epochs) - len(set(epochs))


def starts(folder):
    """Return job id and node of each start of a training."""
    return [tuple(line.split()) for line in lines(folder / "starts")]
