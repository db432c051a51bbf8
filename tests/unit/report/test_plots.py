from __future__ import annotations

from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from spikedistill.report.plots import curves, pictures, style
from spikedistill.report.records import group_records
from spikedistill.report.writer import FIGURES

DRAWINGS = [draw for _, draw in FIGURES.values()]


def _panel(draw, records):
    groups = group_records(records)
    axes = Figure().subplots()
    draw(axes, groups, style.method_styles(groups))
    return axes


@pytest.mark.parametrize("draw", DRAWINGS)
def test_figure_is_svg_and_the_same_every_time(draw, records):
    first = draw(records)
    assert ElementTree.fromstring(first).tag == "{http://www.w3.org/2000/svg}svg"
    assert draw(records) == first


@pytest.mark.parametrize("draw", DRAWINGS)
def test_figure_ignores_the_users_matplotlib_settings_and_leaves_them_alone(draw, records):
    first = draw(records)
    with matplotlib.rc_context({"font.size": 31, "svg.hashsalt": "another"}):
        assert draw(records) == first
        assert matplotlib.rcParams["font.size"] == 31


@pytest.mark.parametrize("draw", DRAWINGS)
def test_figure_of_more_panels_than_fill_its_rows_can_be_drawn(draw, make):
    runs = [make.student(method, 0, 0.9, experiment=f"{i}-dvs") for i in range(4) for method in ("tet", "kd")]
    assert draw(runs[:-1]).rstrip().endswith("</svg>")


@pytest.mark.parametrize("draw", DRAWINGS)
def test_figure_of_no_runs_can_be_drawn(draw):
    assert draw([]).rstrip().endswith("</svg>")


def test_accuracy_panel_shows_percent_over_steps_with_the_teacher_as_a_level(make):
    runs = [
        make.teacher(0.98),
        make.student("tet", 0, 0.90, at_step=(0.5, 0.9)),
        make.student("tet", 1, 0.94, at_step=(0.7, 0.94)),
    ]
    axes = _panel(curves._accuracy_panel, runs)
    level, mean = axes.lines[0], axes.containers[0].lines[0]
    assert list(level.get_ydata()) == [98.0, 98.0]
    assert list(mean.get_xdata()) == [1, 2]
    np.testing.assert_allclose(mean.get_ydata(), [60.0, 92.0])
    (bars,) = axes.containers[0].lines[2]
    lower, upper = bars.get_segments()[0][:, 1]
    assert upper - lower == pytest.approx(2 * 14.1421356)


def test_firing_panel_names_layers_in_network_order(make):
    runs = [make.student("tet", 0, 0.9, rates=(0.25, 0.0625)), make.student("tet", 1, 0.9, rates=(0.35, 0.0625))]
    axes = _panel(curves._firing_panel, runs)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["stage0.lif", "stage1.lif"]
    np.testing.assert_allclose(axes.containers[0].lines[0].get_ydata(), [0.30, 0.0625])


def test_training_curve_counts_epochs_from_one_and_passes_over_records_without_the_tag(make):
    metrics = [{"epoch": 0, "train/loss": 2.0}, {"epoch": 0, "test/loss": 9.0}, {"epoch": 1, "train/loss": 1.0}]
    axes = _panel(curves._loss_panel, [make.student("tet", 0, 0.9, metrics=metrics)])
    assert [list(axes.lines[0].get_xdata()), list(axes.lines[0].get_ydata())] == [[1, 2], [2.0, 1.0]]


def test_method_keeps_its_colour_in_every_panel(records):
    styles = style.method_styles(group_records(records))
    assert styles["tet"]["color"] != styles["kd"]["color"]
    assert styles["teacher"]["color"] == style.TEACHER_COLOUR


def test_axes_name_quantity_and_unit(records, monkeypatch):
    monkeypatch.setitem(style._RC, "svg.fonttype", "none")  # text as text
    drawn = "".join(draw(records) for draw in DRAWINGS)
    for name in (
        "Test accuracy after t steps (%)",
        "Training loss (nats)",
        "(spikes per neuron and step)",
        "Time steps t",
        "Energy per sample (µJ)",
        "Share of the true class (%)",
        "Predicted class",
        "Events, relative to",
        "Epoch",
    ):
        assert name in drawn


def test_layer_names_lose_the_parents_that_all_share_and_keep_their_last_part():
    assert curves._without_common_parents(["net.stem.lif", "net.block0.lif"]) == ["stem.lif", "block0.lif"]
    assert curves._without_common_parents(["net.lif"]) == ["lif"]
    assert curves._without_common_parents(["a.lif", "b.lif"]) == ["a.lif", "b.lif"]


def test_energy_panel_shows_the_mean_of_both_in_their_units(make):
    runs = [make.student("tet", 0, 0.90, energy_uj=1.0), make.student("tet", 1, 0.94, energy_uj=3.0), make.teacher(0.98)]
    axes = _panel(curves._energy_panel, runs)
    teacher, tet = (container.lines[0] for container in axes.containers)
    assert (list(tet.get_xdata()), list(tet.get_ydata())) == ([2.0], [92.0])
    assert list(teacher.get_xdata()) == [23.0]


def test_event_pictures_count_and_images_keep_their_values():
    frames = np.zeros((3, 2, 2, 2), dtype=np.uint8)
    frames[:, 0, 0, 1] = 2
    frames[0, 1, 1, 1] = 3
    np.testing.assert_allclose(pictures.picture(frames), [[0, 1], [0, 0.5]])
    image = np.arange(12, dtype=np.uint8).reshape(3, 2, 2)
    assert pictures.picture(image).shape == (2, 2, 3)
    np.testing.assert_allclose(pictures.picture(image)[0, 1] * 255, [1, 5, 9])


def test_pictures_name_classes_networks_and_predictions(records, monkeypatch):
    monkeypatch.setitem(style._RC, "svg.fonttype", "none")
    drawn = pictures.saliency_maps(records)
    for name in ("class zero", "class one", "says zero", "CAM", "activation", "digits-dvs"):
        assert name in drawn
    assert "frame 3" in pictures.event_frames(records)
    assert "no event frames in this comparison" in pictures.event_frames(records[:2])


def test_figures_of_a_large_sweep_show_its_first_experiments_and_say_so(make, monkeypatch):
    monkeypatch.setitem(style._RC, "svg.fonttype", "none")
    monkeypatch.setattr(pictures, "MAX_BLOCKS", 1)
    monkeypatch.setattr(pictures, "MAX_MATRICES", 1)
    sweep = [make.student("tet", 0, 0.9, experiment=f"{i}-dvs") for i in range(2)]
    assert "The first 1 of 2 methods" in pictures.confusion_matrices(sweep)
    for draw in (pictures.saliency_maps, pictures.event_frames):
        drawn = draw(sweep)
        assert "The first 1 of 2 experiments" in drawn
        assert "0-dvs" in drawn
        assert "1-dvs" not in drawn
