"""Values of configuration keys about networks from elsewhere. Imports no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from spikedistill.components import Section


class NetworkInputs(Section):
    """What a teacher takes, where that differs from what the student sees. Batches are converted on the device."""

    size: int | Literal["dataset"] | None = Field(
        None,
        description="Side in pixels to which samples are resized, bilinearly with antialiasing; dataset: as for the student. "
        "Default: that of the weights for a model of another library, else dataset.",
    )
    normalize: Literal["dataset", "cifar10", "cifar100", "imagenet"] | None = Field(
        None,
        description="Images: mean and standard deviation per channel; dataset: those of dataset.inputs. "
        "Default: those of the weights for a model of another library, else dataset.",
    )
    mean: tuple[float, ...] | None = Field(
        None, min_length=1, description="Images: mean per channel, of pixels in [0, 1]; with `std`, instead of `normalize`."
    )
    std: tuple[float, ...] | None = Field(None, min_length=1, description="Images: standard deviation per channel, with `mean`.")
    channels: Literal[1, 2, 3] | None = Field(
        None,
        description="Channels that the teacher takes; 3 from grey images: the same three times. "
        "Default: 3 for weights of another library's model, else those of the dataset.",
    )
    events: Literal["grey"] | None = Field(
        None,
        description="Event frames as images: grey, the mean of the counts over time and polarity, divided by its maximum. "
        "Default: the mean over time, 2 channels.",
    )

    def channels_for(self, dataset_channels: int, *, zoo_weights: bool) -> tuple[int, int]:
        """Return the number of channels before conversion (1 if events become grey), and the number that the teacher takes.

        Args:
            dataset_channels: channels of a sample of the dataset.
            zoo_weights: whether the teacher is another library's model with weights.
        """
        given = 1 if self.events else dataset_channels
        return given, self.channels or (3 if zoo_weights else given)

    @model_validator(mode="after")
    def _check_statistics(self) -> NetworkInputs:
        if (self.mean is None) != (self.std is None):
            raise ValueError("mean and std belong together; give both or none")
        if self.mean is not None and self.normalize is not None:
            raise ValueError("give either normalize or mean and std")
        if self.mean is not None and self.std is not None and len(self.mean) != len(self.std):
            raise ValueError(f"as many values in mean as in std; found {len(self.mean)} and {len(self.std)}")
        if self.std is not None and min(self.std) <= 0:
            raise ValueError("std must be above 0 for every channel")
        if isinstance(self.size, int) and self.size < 1:
            raise ValueError("size must be at least 1")
        return self
