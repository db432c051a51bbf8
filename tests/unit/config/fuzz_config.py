"""Mutated configurations are planned, or refused with a `ConfigError`, in bounded time.

    python tests/unit/config/fuzz_config.py --cases 5000

The shipped config.yaml and the recipes are changed as text (lines lost, repeated, swapped, indented; characters replaced; values
replaced by odd ones) and as data (a value of one key put under another).
"""

from __future__ import annotations

import argparse
import random
import re
import time
import traceback
from pathlib import Path
from typing import Any

import yaml

from spikedistill.config.check import parse_config
from spikedistill.config.yaml_reader import read_yaml
from spikedistill.errors import ConfigError
from spikedistill.plan.build import build_plan

ROOT = Path(__file__).parents[3]
FILES = (ROOT / "config.yaml", *sorted((ROOT / "workflow/recipes").glob("*.yaml")))
LIMIT_S = 10.0
ODD = (
    *(
        "",
        "~",
        "[]",
        "{}",
        "[[]]",
        "[1, 2]",
        "[0.5, '0.5']",
        "true",
        "yes",
        "0",
        "-1",
        "1.5",
        "1e-4",
        "1e400",
        ".inf",
        "-.inf",
        ".nan",
    ),
    *(
        "2020-13-45",
        "2026-11-28",
        "12:30:45",
        "0b_",
        "0x_",
        "0o9",
        "!!int foo",
        "!!set {a}",
        "!!binary '*'",
        "!!python/name:os.system",
    ),
    *(
        "'\\0'",
        '"\\ud800"',
        '"\\n"',
        "a: b",
        "- 1",
        "&x [*x]",
        "*nowhere",
        "<<",
        "|",
        "%",
        "@",
        "`",
        "9" * 400,
        "x" * 5000,
        "../..",
        "~root/x",
    ),
    *(
        "{alpha: [0.1, 0.2, 0.3]}",
        "[4, 8, 16]",
        "rate",
        "bptt",
        "resnet18",
        "digits-dvs",
        "sealkd",
        "1" + "0" * 30,
        "[{}, {}]",
        "null",
    ),
)


def mutate_text(text: str, rng: random.Random) -> str:
    lines = text.splitlines()
    for _ in range(rng.choice((1, 1, 1, 2, 4, 8))):
        at = rng.randrange(len(lines))
        kind = rng.randrange(14)
        if kind == 0:
            del lines[at]
        elif kind == 1:
            lines.insert(at, lines[rng.randrange(len(lines))])
        elif kind == 2:
            lines[at] = " " * rng.randrange(9) + lines[at].strip()
        elif kind == 3:
            place = rng.randrange(len(lines[at]) + 1)
            lines[at] = lines[at][:place] + rng.choice("\t{}[]:,&*!|>'\"%@`#-?\0é\u2028") + lines[at][place:]
        elif kind == 4 and lines[at]:
            place = rng.randrange(len(lines[at]))
            lines[at] = lines[at][:place] + lines[at][place + 1 :]
        elif kind == 5:
            other = rng.randrange(len(lines))
            lines[at], lines[other] = lines[other], lines[at]
        elif ":" in lines[at]:
            lines[at] = f"{lines[at].partition(':')[0]}: {rng.choice(ODD)}"
        if not lines:
            return ""
    return "\n".join(lines) + "\n"


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    for key, each in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        found += places(each, (*path, key))
    return found


def at(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


def mutate_data(text: str, rng: random.Random) -> str:
    value = read_yaml(text, "")
    known = places(value)
    source, target = rng.choice(known), rng.choice(known)
    at(value, target[:-1])[target[-1]] = rng.choice(
        (at(value, source), at(value, source), {str(target[-1]): 1}, [at(value, source)] * 3)
    )
    return yaml.safe_dump(yaml.safe_load(yaml.safe_dump(value)) if source != target[: len(source)] else {})


def check(text: str) -> str:
    """Return "planned" or "refused"; anything else is an error of the program."""
    start = time.monotonic()
    try:
        values = read_yaml(text, "fuzz.yaml")
        if not isinstance(values, dict):
            return "refused"
        build_plan(parse_config(values, source="fuzz.yaml"))
        result = "planned"
    except ConfigError as err:
        assert str(err).strip(), "an empty message"
        str(err).encode("utf-8")
        result = "refused"
    took_s = time.monotonic() - start
    assert took_s < LIMIT_S, f"{took_s:.1f} s"
    return result


def fuzz(cases: int, seed: int) -> dict[str, int]:
    """Check mutated configurations; return how many were planned, refused, and went wrong (printed)."""
    texts = [re.sub(r"\broot: .*", "root: /", file.read_text(encoding="utf-8")) for file in FILES]  # a folder that is there
    counts = {"planned": 0, "refused": 0, "wrong": 0}
    for number in range(cases):
        rng = random.Random(f"{seed} {number}")
        text = rng.choice((mutate_text, mutate_text, mutate_data))(rng.choice((texts[0], rng.choice(texts))), rng)
        try:
            counts[check(text)] += 1
        except Exception:
            counts["wrong"] += 1
            print(f"case {number} of seed {seed}:\n{text}\n{traceback.format_exc()}")
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    counts = fuzz(options.cases, options.seed)
    print(counts)
    raise SystemExit(counts["wrong"] > 0)


if __name__ == "__main__":
    main()
