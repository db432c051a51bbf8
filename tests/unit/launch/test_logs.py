import io
import threading
import time

import pytest

from spikedistill.config.check import parse_config
from spikedistill.errors import ConfigError
from spikedistill.launch.logs import Logs
from spikedistill.plan.build import build_plan


def followed(logs, change):
    """What is printed while `change` runs, and after it."""
    done = threading.Event()
    thread = threading.Thread(target=logs.follow, args=(done.is_set,))
    thread.start()
    try:
        change()
    finally:
        done.set()
        thread.join(20)
    assert not thread.is_alive()


def test_the_last_lines_of_each_log_under_its_name(tmp_path):
    for name in "ab":
        (tmp_path / name).write_text("".join(f"{name}{i}\n" for i in range(5)))
    out = io.StringIO()
    assert Logs([tmp_path / "a", tmp_path / "b", tmp_path / "c"], out).print_ends(2) == [tmp_path / "c"]
    assert out.getvalue().splitlines() == [f"==> {tmp_path}/a <==", "a3", "a4", f"==> {tmp_path}/b <==", "b3", "b4"]


def test_a_line_that_was_never_ended_is_shown(tmp_path):
    (tmp_path / "a").write_text("1\n2\nkilled he")
    out = io.StringIO()
    logs = Logs([tmp_path / "a"], out)
    logs.print_ends(1)
    logs.print_rests()
    assert out.getvalue().splitlines()[1:] == ["2", "killed he"]


def test_all_lines_for_zero(tmp_path):
    (tmp_path / "a").write_text("1\n2\n3\n")
    out = io.StringIO()
    Logs([tmp_path / "a"], out).print_ends(0)
    assert out.getvalue().splitlines()[1:] == ["1", "2", "3"]


def test_what_is_added_is_followed_in_whole_lines_and_nothing_twice(tmp_path):
    log, out = tmp_path / "a", io.StringIO()
    log.write_text("1\n")
    logs = Logs([log], out)
    logs.print_ends(10)

    def change():
        with log.open("a") as stream:
            for part in ("2\n3", "", "3\n"):
                stream.write(part)
                stream.flush()
                time.sleep(0.6)

    followed(logs, change)
    assert out.getvalue().splitlines() == [f"==> {log} <==", "1", "2", "33"]


def test_a_log_that_comes_later_and_one_that_is_replaced_are_read_from_their_beginning(tmp_path):
    late, replaced, out = tmp_path / "late", tmp_path / "replaced", io.StringIO()
    replaced.write_text("first start, a long line\n")
    logs = Logs([late, replaced], out)
    logs.print_ends(10)

    def change():
        late.write_text("here\n")
        (tmp_path / "new").write_text("second start\n")
        (tmp_path / "new").replace(replaced)

    followed(logs, change)
    lines = out.getvalue().splitlines()
    assert [line for line in lines if "==>" not in line] == ["first start, a long line", "here", "second start"]
    assert lines.index(f"==> {late} <==") == lines.index("here") - 1


def test_bytes_that_are_no_text_end_nothing(tmp_path):
    (tmp_path / "a").write_bytes(b"\xff\xfe broken\n")
    out = io.StringIO()
    Logs([tmp_path / "a"], out).print_ends(1)
    assert "broken" in out.getvalue()


PLAN = build_plan(
    parse_config(
        {
            "seeds": [0, 1],
            "experiments": {
                "one": {
                    "dataset": {"name": "digits"},
                    "student": {"arch": "resnet8", "time_steps": 2, "train": {"epochs": 1, "batch_size": 50}},
                    "methods": {"ce": {}, "tet": {}},
                }
            },
        }
    )
)


def test_names_and_patterns_choose_stages_each_once():
    assert [spec.stage for spec in PLAN.select(["data/digits", "digits-resnet8-ce-seed0"])] == ["preprocess", "distill"]
    assert len(PLAN.select(["students/*tet*", "digits-resnet8-tet-seed[01]-*"])) == 2
    assert len(PLAN.select(["*"])) == len(PLAN.stages)


@pytest.mark.parametrize(
    ("name", "message"), [("*kd*", "no stage fits the pattern"), ("digits-resnet8", "fits 4 stages"), ("x", "unknown stage")]
)
def test_a_name_that_means_nothing_or_several_is_told(name, message):
    with pytest.raises(ConfigError, match=message):
        PLAN.select([name])
