"""What the tests of the data share."""

import numpy as np
import pytest

from spikedistill.data.formats.images import ImageFiles
from spikedistill.data.prepare.workers import shared_zeros


@pytest.fixture
def decoded(monkeypatch):
    """The rows that were read, in this process and in its workers."""
    counts = shared_zeros(1000, np.int64)
    content = ImageFiles.content

    def counted(self, row):
        counts[row] += 1
        return content(self, row)

    monkeypatch.setattr(ImageFiles, "content", counted)
    monkeypatch.setattr(ImageFiles, "twins", lambda *arguments: [])
    return counts
