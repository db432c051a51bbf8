"""What authors put into a paper: the table and the figures, compiled by LaTeX."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace

import pytest

from slurm_lab.requirements import require
from spikedistill.report.findings import Findings
from spikedistill.report.paper import table
from spikedistill.report.paper.figures import FigurePages, figures_tex
from spikedistill.report.paper.table import latex_tables
from spikedistill.report.paper.text import escape
from spikedistill.report.plots.catalogue import FIGURES
from spikedistill.report.writer import write_report

PAPER = r"""
\documentclass[twocolumn]{article}
\usepackage[margin=0.75in]{geometry}
\usepackage{booktabs,graphicx}
\begin{document}
Tables \ref{tab:results} and Figure \ref{fig:accuracy-over-time-1}.
\input{results.tex}
\input{figures.tex}
\end{document}
"""


def latex_of(comparison):
    findings = Findings.of(comparison)
    return latex_tables(findings.rows, len(findings.tests))


def row_of(text, method):
    (line,) = (line.strip() for line in text.splitlines() if line.strip().startswith(f"{method} &"))
    return [cell.strip() for cell in line.removesuffix(r"\\").split(" & ")]


def three_seeds(make, **accuracies):
    runs = [
        make.student(method, seed, accuracy + offset)
        for method, (accuracy, offsets) in accuracies.items()
        for seed, offset in enumerate(offsets)
    ]
    return make.comparison(runs, baselines={"digits": (next(iter(accuracies)),)})


@pytest.mark.slow
def test_a_paper_with_the_table_and_every_figure_compiles_and_all_fonts_are_in_it(compared, make, tmp_path):
    require(
        "LaTeX", ["pdflatex", "pdffonts"], "on Debian: apt-get install texlive-latex-base texlive-latex-recommended poppler-utils"
    )
    hard = make.student("a_b & {50%} #1 x^2 ~\\ ±µ <[alpha=0.3]", 0, 0.9)
    swept = [
        replace(make.student("kd", 0, 0.9, experiment=f"s-dvs[lr={lr},n={n}]"), validation=0.5 + lr)
        for lr in (1, 2)
        for n in (1, 2)
    ]
    numbers = [make.student("kd", 0, 0.9, experiment=f"t[n={n}]") for n in (1, 2)]
    write_report(Findings.of(replace(compared, records=[*compared.records, hard, *swept, *numbers])), tmp_path)
    (tmp_path / "paper.tex").write_text(PAPER)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "paper.tex"]
    for _ in range(2):  # the second time with the references
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", timeout=300)
        assert done.returncode == 0, done.stdout[-3000:]
    log = (tmp_path / "paper.log").read_text(errors="replace")
    assert not re.search(r"Overfull \\hbox|undefined|multiply defined|Missing character", log), log[-3000:]
    for stem in FIGURES:
        assert f"<./{stem}.pdf>" in log.replace("\n", "")
    fonts = subprocess.run(
        ["pdffonts", "paper.pdf"], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout.splitlines()[2:]
    assert any("DejaVuSans" in font for font in fonts)
    for font in fonts:
        assert re.search(r"\b(Type 1|TrueType|CID TrueType)\b.* yes (yes|no)  ?(yes|no) ", font), font


def test_table_is_a_float_with_caption_label_and_rules_of_booktabs(compared):
    text = latex_of(compared)
    for part in (r"\begin{table*}", r"\caption{Test accuracy", r"\label{tab:results}", r"\toprule", r"\midrule", r"\bottomrule"):
        assert text.count(part) >= 1
    body = text[text.index(r"\toprule") : text.index(r"\bottomrule")]
    rows = [line for line in body.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
    assert {line.count(" & ") for line in rows} == {9}
    assert r"kd, reported: unconfirmed: notes" in text
    assert r"\textit{97.50}" in text


def test_the_best_student_of_an_experiment_is_bold_and_teachers_are_not(compared):
    text = latex_of(compared)
    assert row_of(text, "kd")[3] == r"\textbf{96.00}"
    assert row_of(text, "teacher")[3] == "98.00"
    assert text.count(r"\textbf{") == 2  # one in each experiment


def test_methods_that_are_equally_good_as_shown_are_all_bold(make):
    text = latex_of(make.comparison([make.student("a", 0, 0.90001), make.student("b", 0, 0.9), make.student("c", 0, 0.89)]))
    assert [row_of(text, method)[3] for method in "abc"] == [r"\textbf{90.00}", r"\textbf{90.00}", "89.00"]


def test_a_dagger_marks_what_differs_significantly_and_the_caption_says_what_it_means(make):
    better = three_seeds(make, tet=(0.5, (0, 0.001, 0.002)), kd=(0.7, (0, 0.001, 0.0021)))
    text = latex_of(better)
    assert row_of(text, "kd")[3].startswith(r"\textbf{70.10")
    assert row_of(text, "kd")[3].endswith(r"\rlap{$^{\dagger}$}")
    assert "dagger" not in row_of(text, "tet")[3]
    assert "after Holm's correction for 1 tests" in text
    equal = latex_of(three_seeds(make, tet=(0.5, (0, 0.1, 0.2)), kd=(0.51, (0.2, 0, 0.1))))
    assert "rlap" not in equal
    assert "dagger" not in latex_of(make.comparison([make.student("tet", 0, 0.5)]))


def test_signs_powers_and_gaps_are_set_as_mathematics(make):
    cells = row_of(latex_of(three_seeds(make, tet=(0.5, (0, 0.01, 0.03)), kd=(0.4, (0, 0.01, 0.03001)))), "kd")
    assert re.fullmatch(r"\$-\$10\.00 \[\$-\$1?\d\.\d\d, \$-\$1?\d\.\d\d\]", cells[4])
    assert re.fullmatch(r"\$\d\.\d\\cdot10\^\{-\d\}\$", cells[5])
    assert "--" in row_of(latex_of(make.comparison([make.teacher(0.9)])), "teacher")


def test_a_long_comparison_becomes_several_floats_cut_between_experiments(make, monkeypatch):
    monkeypatch.setattr(table, "MAX_ROWS", 3)
    runs = [make.student(method, 0, 0.5, experiment=f"set{i}") for i in range(3) for method in ("tet", "kd")]
    text = latex_of(make.comparison(runs))
    assert re.findall(r"\\label\{(.*)\}", text) == ["tab:results-1", "tab:results-2", "tab:results-3"]
    assert "(part 2 of 3)" in text


def test_a_comparison_of_nothing_is_a_table_without_rows():
    assert r"\toprule" in latex_tables((), 0)


def test_text_keeps_its_characters():
    assert escape("a_b & 5%\n^[x]") == r"a\_b \& 5\% \textasciicircum{}{[}x{]}"


def test_each_page_of_a_figure_has_a_float_and_a_figure_of_nothing_has_none():
    text = figures_tex([FigurePages("firing_rates", "Rates.", ("a_1", "b")), FigurePages("event_frames", "Frames.", ())])
    assert re.findall(r"\\includegraphics\[page=(\d)\]\{(.*)\}", text) == [("1", "firing_rates.pdf"), ("2", "firing_rates.pdf")]
    assert re.findall(r"\\label\{(.*)\}", text) == ["fig:firing-rates-1", "fig:firing-rates-2"]
    assert r"\caption{a\_1. Rates.}" in text
    assert "event_frames" not in text
