"""The figures: what they draw, that their files are the same every time, and that they fit a column of a paper."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from spikedistill.report.plots import confusion, curves, pictures, saliency, style, training
from spikedistill.report.plots.catalogue import FIGURES
from spikedistill.report.records import group_records

KINDS = list(FIGURES.values())
CAPTIONS = Path(__file__).parents[3] / "workflow" / "report"


def _panel(draw, records, **more):
    groups = group_records(records)
    axes = Figure().subplots()
    draw(axes, groups=groups, styles=style.method_styles(groups), **more)
    return axes


def _texts(panels):
    """All text in some panels."""
    return {text.get_text() for panel in panels for text in panel.figure.findobj(matplotlib.text.Text)}


@pytest.fixture
def swept(make):
    """Runs of which every figure has something to draw."""
    labels = [(f"dvs[lr={lr}]", f"kd[alpha={alpha}]") for lr in (0.1, 0.2) for alpha in (1, 2)]
    return [replace(make.student(method, s, 0.8, experiment=name), validation=0.8) for name, method in labels for s in range(2)]


@pytest.mark.parametrize("name", FIGURES)
def test_files_are_the_same_every_time_whatever_the_users_settings_of_matplotlib(name, records):
    first = FIGURES[name].render(records)
    assert ElementTree.fromstring(first.svg).tag == "{http://www.w3.org/2000/svg}svg"
    assert first.pdf.startswith(b"%PDF")
    with matplotlib.rc_context({"font.size": 31, "svg.hashsalt": "another", "pdf.fonttype": 3}):
        assert FIGURES[name].render(records) == first
        assert matplotlib.rcParams["font.size"] == 31


def test_panels_side_by_side_are_in_the_units_of_the_whole_and_do_not_overlap(swept):
    whole = ElementTree.fromstring(FIGURES["accuracy_over_time"].render(swept).svg)
    panels = whole.findall("{http://www.w3.org/2000/svg}svg")
    assert len(panels) == 2
    for panel in panels:
        assert panel.get("viewBox") == f"0 0 {panel.get('width')} {panel.get('height')}"
    assert float(panels[1].get("x")) >= float(panels[0].get("width"))
    assert whole.get("viewBox").split()[2] == f"{sum(float(panel.get('width')) for panel in panels):g}"


@pytest.mark.parametrize("kind", KINDS)
def test_a_figure_of_no_runs_says_so_in_both_files(kind):
    drawn = kind.render([])
    assert drawn.subjects == ()
    assert len(drawn.panels) == 1
    assert drawn.pdf.count(b"/Type /Page ") == 1


@pytest.mark.parametrize("kind", KINDS)
def test_panels_are_as_wide_as_a_column_with_type_of_seven_points_or_more(kind, records):
    with style.report_style():
        for panel in kind.draw(records):
            assert panel.figure.get_figwidth() == pytest.approx(style.COLUMN_IN)
            assert panel.figure.get_figheight() < 9  # the height of a page
            shown = [text for text in panel.figure.findobj(matplotlib.text.Text) if text.get_text()]
            assert min(text.get_fontsize() for text in shown) >= style.FONT_PT


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_reaches_beyond_the_edge_of_its_panel(kind, records, make):
    curve = [{"epoch": e, "train/loss": 2.0 - e, "train/accuracy(%)": 50.0} for e in range(2)]
    method = "sealkd[alpha=0.3,beta=0.7,temperature=4.0,self_target=hard]$\\alpha$"  # no mathematics
    experiment = "cifar10-dvs[num_frames=10,time_steps=10,lr={},decay=0.25]"
    long = [make.student(method, 0, 0.9, experiment=experiment.format(lr), metrics=curve) for lr in (0.1, 0.2)]
    long = [replace(run, validation=0.5, examples=records[-1].examples) for run in long]
    with style.report_style():
        for panel in kind.draw([*records, *long]):
            panel.figure.draw_without_rendering()
            drawn = panel.figure.get_tightbbox()  # in inches
            assert drawn.x0 > -0.01
            assert drawn.y0 > -0.01
            assert drawn.x1 < panel.figure.get_figwidth() + 0.01
            assert drawn.y1 < panel.figure.get_figheight() + 0.01


def test_a_pdf_has_a_page_for_each_panel_and_its_fonts_are_truetype_and_inside(make, caplog):
    caplog.set_level("INFO")
    runs = [make.student(method, 0, 0.9, experiment=f"set{i}") for i in range(3) for method in ("tet", "kd")]
    drawn = FIGURES["accuracy_over_time"].render(runs)
    assert drawn.subjects == ("set0", "set1", "set2")
    assert drawn.pdf.count(b"/Type /Page ") == 3
    assert b"/FontFile2" in drawn.pdf
    assert b"/Type3" not in drawn.pdf
    assert b"CreationDate" not in drawn.pdf
    assert caplog.records == []  # embedding fonts tells nobody anything


def test_the_svg_has_its_panels_beside_and_below_each_other(make):
    runs = [make.student("tet", 0, 0.9, experiment=f"set{i}") for i in range(4)]
    drawn = FIGURES["accuracy_over_time"].render(runs)
    nested = ElementTree.fromstring(drawn.svg).findall("{http://www.w3.org/2000/svg}svg")
    assert len(nested) == len(drawn.panels) == 4
    places = [(float(each.get("x")), float(each.get("y"))) for each in nested]
    assert places[0] == (0, 0)
    assert 0 < places[1][0] < places[2][0]
    assert places[3][0] == 0
    assert places[3][1] > 0


@pytest.mark.parametrize("name", FIGURES)
def test_captions_are_those_of_snakemakes_report(name):
    assert " ".join((CAPTIONS / f"{name}.rst").read_text().split()) == FIGURES[name].caption


def test_methods_beyond_the_colours_differ_in_marker_and_dashes(make):
    styles = style.method_styles(group_records([make.student(f"m{i}", 0, 0.5) for i in range(24)]))
    assert len({(each["color"], each["marker"]) for each in styles.values()}) == 24
    assert len({(each["color"], each["linestyle"]) for each in styles.values()}) == 24


def test_accuracy_panel_shows_percent_over_steps_with_the_teacher_as_a_level(make):
    runs = [
        make.teacher(0.98),
        make.student("tet", 0, 0.90, at_step=(0.5, 0.9)),
        make.student("tet", 1, 0.94, at_step=(0.7, 0.94)),
    ]
    axes = _panel(curves._draw_accuracy, runs)
    level, mean = axes.lines[0], axes.containers[0].lines[0]
    assert list(level.get_ydata()) == [98.0, 98.0]
    assert list(mean.get_xdata()) == [1, 2]
    np.testing.assert_allclose(mean.get_ydata(), [60.0, 92.0])
    (bars,) = axes.containers[0].lines[2]
    lower, upper = bars.get_segments()[0][:, 1]
    assert upper - lower == pytest.approx(2 * 14.1421356)


def test_firing_panel_names_layers_in_network_order(make):
    runs = [make.student("tet", 0, 0.9, rates=(0.25, 0.0625)), make.student("tet", 1, 0.9, rates=(0.35, 0.0625))]
    axes = _panel(curves._draw_rates, runs)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["stage0.lif", "stage1.lif"]
    np.testing.assert_allclose(axes.containers[0].lines[0].get_ydata(), [0.30, 0.0625])


def test_training_curve_counts_epochs_from_one_and_passes_over_records_without_the_tag(make):
    metrics = [{"epoch": 0, "train/loss": 2.0}, {"epoch": 0, "test/loss": 9.0}, {"epoch": 1, "train/loss": 1.0}]
    axes = _panel(training._draw, [make.student("tet", 0, 0.9, metrics=metrics)], tag=training.LOSS)
    assert [list(axes.lines[0].get_xdata()), list(axes.lines[0].get_ydata())] == [[1, 2], [2.0, 1.0]]


def test_training_curve_is_the_mean_of_the_runs_with_a_band_from_lowest_to_highest(make):
    runs = [
        make.student("tet", 0, 0.9, metrics=[{"epoch": 0, "train/loss": 1.0}, {"epoch": 1, "train/loss": 1.0}]),
        make.student("tet", 1, 0.9, metrics=[{"epoch": 0, "train/loss": 2.0}]),
    ]
    axes = _panel(training._draw, runs, tag=training.LOSS)
    assert [list(axes.lines[0].get_xdata()), list(axes.lines[0].get_ydata())] == [[1, 2], [1.5, 1.0]]
    (band,) = axes.collections
    heights = band.get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == (1, 2)


def test_losses_of_unlike_methods_are_not_compared_without_a_word(records):
    with style.report_style():
        labels = [panel.figure.axes[0].get_ylabel() for panel in training.training_curves(records) if "loss" in panel.subject]
    assert labels
    assert all("unlike terms by method" in label for label in labels)


def test_method_keeps_its_colour_in_every_panel(records):
    styles = style.method_styles(group_records(records))
    assert styles["tet"]["color"] != styles["kd"]["color"]
    assert styles["teacher"]["color"] == style.TEACHER_COLOUR


def test_axes_name_quantity_and_unit(swept, records):
    with style.report_style():
        texts = _texts(panel for kind in KINDS for panel in [*kind.draw(records), *kind.draw(swept)])
    told = "\n".join(texts)
    for name in (
        "Test accuracy after t steps (%)",
        "Training loss (nats)",
        "Training accuracy (%)",
        "Validation accuracy (%)",
        "(spikes per neuron and step)",
        "Time steps t",
        "Energy per sample (µJ)",
        "Share of the true class (%)",
        "Predicted class",
        "Events, relative to",
        "Activation, relative to",
        "Epoch",
    ):
        assert name in told, name


def test_layer_names_lose_the_parents_that_all_share_and_keep_their_last_part():
    assert curves.without_common_parents(["net.stem.lif", "net.block0.lif"]) == ["stem.lif", "block0.lif"]
    assert curves.without_common_parents(["net.lif"]) == ["lif"]
    assert curves.without_common_parents(["a.lif", "b.lif"]) == ["a.lif", "b.lif"]


def test_energy_panel_shows_the_mean_of_both_in_their_units(make):
    runs = [make.student("tet", 0, 0.90, energy_uj=1.0), make.student("tet", 1, 0.94, energy_uj=3.0), make.teacher(0.98)]
    axes = _panel(curves._draw_energy, runs)
    teacher, tet = (container.lines[0] for container in axes.containers)
    assert (list(tet.get_xdata()), list(tet.get_ydata())) == ([2.0], [92.0])
    assert list(teacher.get_xdata()) == [23.0]


def test_event_pictures_count_and_images_keep_their_values():
    frames = np.zeros((3, 2, 2, 2), dtype=np.uint8)
    frames[:, 0, 0, 1] = 2
    frames[0, 1, 1, 1] = 3
    np.testing.assert_allclose(pictures.as_picture(frames), [[0, 1], [0, 0.5]])
    image = np.arange(12, dtype=np.uint8).reshape(3, 2, 2)
    assert pictures.as_picture(image).shape == (2, 2, 3)
    np.testing.assert_allclose(pictures.as_picture(image)[0, 1] * 255, [1, 5, 9])
    np.testing.assert_allclose(pictures.as_picture(image[:2])[0, 1] * 255, 3)


def test_names_of_classes_have_no_characters_that_a_figure_cannot_hold(make):
    run = make.student("tet", 0, 0.9)
    run.evaluation["class_names"] = ["a\x1bb", "ö 零"]
    assert pictures.class_names(run) == ["a\ufffdb", "ö 零"]


def test_sheets_name_classes_networks_and_predictions_and_mark_the_wrong_ones(records):
    with style.report_style():
        texts = _texts(saliency.saliency_maps(records))
    assert {"digits", "digits-dvs", "sample", "teacher (CAM)", "tet", "zero", "one"} <= texts
    assert "✗ zero" in texts  # predicted for a sample of class one
    assert "✗ one" not in texts


def test_frames_of_a_long_recording_are_evenly_spaced(make):
    run = make.student("tet", 0, 0.9, experiment="a-dvs")
    run.examples["samples"] = np.zeros((2, 9, 2, 6, 6), dtype=np.uint8)
    with style.report_style():
        texts = _texts(FIGURES["event_frames"].draw([run]))
    assert {"frame 1", "3", "5", "7", "9", "class zero"} <= texts
    assert "2" not in texts
    assert FIGURES["event_frames"].draw([make.student("tet", 0, 0.9)]) == []


def test_confusion_matrices_have_numbers_where_they_fit(make):
    runs = [make.student("tet", 0, 0.9), make.student("kd", 0, 0.9)]
    runs[0].evaluation["confusion"] = [[3, 1], [0, 4]]
    runs[1].evaluation.update(confusion=np.eye(50).tolist(), class_names=[str(k) for k in range(50)])
    with style.report_style():
        few, many = confusion.confusion_matrices(runs)
    assert {text.get_text() for text in few.figure.axes[0].texts} == {"75", "25", "100"}
    assert len(many.figure.axes[0].texts) == 0


def test_figures_of_a_large_sweep_show_its_first_methods_and_say_so(make, monkeypatch):
    monkeypatch.setattr(confusion, "MAX_MATRICES", 1)
    with style.report_style():
        (panel,) = confusion.confusion_matrices([make.student("tet", 0, 0.9, experiment=f"{i}") for i in range(2)])
    assert "The first 1 of 2 methods" in _texts([panel])
