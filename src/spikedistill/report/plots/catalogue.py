"""The figures of the report: names of their files, titles, captions. Imports matplotlib, and no torch.

The captions are those of the page, of `figures.tex` and, as files of `workflow/report`, of Snakemake's report.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from spikedistill.report.plots import confusion, curves, frames, saliency, sweeps, training, validation
from spikedistill.report.plots.panels import Panel, Rendered, render
from spikedistill.report.records import RunRecord


class FigureKind(NamedTuple):
    """A figure of the report.

    Attributes:
        title: its title.
        caption: what it shows.
        draw: makes its panels.
        absent: what it says if there is nothing to draw.
    """

    title: str
    caption: str
    draw: Callable[[Sequence[RunRecord]], Sequence[Panel]]
    absent: str = "nothing measured"

    def render(self, records: Sequence[RunRecord]) -> Rendered:
        """Draw it as files."""
        return render(lambda: self.draw(records), title=self.title, absent=self.absent)


FIGURES: dict[str, FigureKind] = {
    "accuracy_over_time": FigureKind(
        "Accuracy over time steps",
        "Test accuracy of a student that is stopped after t time steps: it predicts from the mean of its first t logits. Points "
        "and bars are the mean and sample standard deviation over seeds; the dashed line is the teacher, without time steps.",
        curves.accuracy_over_time,
    ),
    "accuracy_over_energy": FigureKind(
        "Accuracy against energy",
        "Test accuracy against the energy of synaptic arithmetic per sample: multiply-accumulates in layers with real-valued "
        "input, additions in layers with spiking input, with the energy constants of the configuration (default: 4.6 pJ and "
        "0.9 pJ, 45 nm). Memory access is not included. Points and bars are the mean and sample standard deviation over seeds.",
        curves.accuracy_over_energy,
    ),
    "accuracy_over_sweep": FigureKind(
        "Accuracy against a swept number",
        "Test accuracy against the number that an experiment is swept over. Points and bars are the mean and the 95 % confidence "
        "interval of Student's t over seeds, each on its own, not corrected for their number; teachers are dashed.",
        sweeps.accuracy_over_sweep,
        "no experiment is swept over one number",
    ),
    "validation_over_sweep": FigureKind(
        "Sweeps on the validation split",
        "Mean accuracy over seeds on the validation split, by the values of swept keys. The best combination is framed, or drawn "
        "as a thick line. The test split is not used.",
        validation.validation_over_sweep,
        "no sweep with a validation split",
    ),
    "training_curves": FigureKind(
        "Training curves",
        "Training accuracy and loss: lines are the mean over runs, bands reach from the lowest to the highest run. The loss is "
        "the sum of a method's weighted terms, which differ between methods: its trend can be compared, its level cannot.",
        training.training_curves,
        "nothing trained",
    ),
    "firing_rates": FigureKind(
        "Firing rates",
        "Spikes per neuron and time step in each spiking layer, on the test split. Points and bars are the mean and sample "
        "standard deviation over seeds. Fewer spikes mean less work on neuromorphic hardware.",
        curves.firing_rates,
    ),
    "confusion_matrices": FigureKind(
        "Confusion matrices",
        "The share of the test samples of each true class (rows) that is predicted as each class (columns), in percent, over all "
        "seeds of a method. Cells without a number are below half a percent; with many classes there are no numbers.",
        confusion.confusion_matrices,
    ),
    "saliency_maps": FigureKind(
        "Saliency maps",
        "The first test sample of a few classes. For the teacher, the gradient-weighted class activation map (Grad-CAM) of the "
        "true class after the last stage; for each student, with its first seed, the mean output of the last stage over time and "
        "channels. Each map is scaled by its own largest value; above it is the predicted class, with a cross if it is wrong.",
        saliency.saliency_maps,
        "no examples",
    ),
    "event_frames": FigureKind(
        "Event frames",
        "Event frames of a few test recordings, evenly spaced in time. Orange pixels have more ON events, purple pixels more OFF "
        "events; each frame is scaled by its own largest difference.",
        frames.event_frames,
        "no event frames in this comparison",
    ),
}
