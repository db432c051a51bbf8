"""Snakemake logger plugin that prints one line when a job starts, ends or fails: `--logger lines`.

Every Snakemake process imports this module, so it imports nothing heavy. Snakemake's own log file stays as it is, with
everything in it.
"""

import sys
from dataclasses import dataclass, field
from logging import Formatter, Handler, LogRecord

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.settings import LogHandlerSettingsBase

from snakemake_logger_plugin_lines.colours import colourer
from snakemake_logger_plugin_lines.lines import Lines

__all__ = ["LogHandler", "LogHandlerSettings"]


@dataclass
class LogHandlerSettings(LogHandlerSettingsBase):
    """Settings of the logger; each is a flag `--logger-lines-…` and a profile key `logger-lines-…`."""

    blocks: bool = field(
        default=False,
        metadata={"help": "Print Snakemake's usual output, a block for each job, as --verbose and --dry-run do."},
    )


class LogHandler(LogHandlerBase):
    """Print a run as lines, to stderr."""

    writes_to_stream = True
    writes_to_file = False
    has_filter = False
    has_formatter = False
    needs_rulegraph = False

    def __post_init__(self) -> None:
        """Choose between lines and blocks; called by Snakemake."""
        output = self.common_settings
        self._stream = sys.stdout if output.stdout else sys.stderr
        asked = isinstance(self.settings, LogHandlerSettings) and self.settings.blocks
        self._blocks: Handler | None = None
        if asked or output.verbose or output.dryrun or output.debug_dag:
            from snakemake.logging import ColorizingTextHandler

            self._blocks = ColorizingTextHandler(nocolor=output.nocolor, stream=self._stream)
        self._colour = colourer(self._stream, output.nocolor)
        self._lines = Lines(self.format)

    def setFormatter(self, fmt: Formatter | None) -> None:
        """Use Snakemake's formatter for blocks and for whatever has no line of its own."""
        super().setFormatter(fmt)
        if self._blocks is not None:
            self._blocks.setFormatter(fmt)

    def emit(self, record: LogRecord) -> None:
        """Print the lines of a record; never raise, or Snakemake's logging thread would end and print nothing more."""
        try:
            if self._blocks is not None:
                self._blocks.emit(record)
                return
            try:
                lines = self._lines.of(record)
            except Exception:  # an event with unexpected fields: print at least its text
                lines = [(record.levelname, record.getMessage())]
            self._print(lines)
        except BrokenPipeError:
            return  # nobody reads any more; the jobs go on
        except Exception:
            self.handleError(record)

    def _print(self, lines: list[tuple[str, str]]) -> None:
        if self._blocks is None and lines:
            self._stream.write("".join(f"{self._colour(kind, text)}\n" for kind, text in lines))
            self._stream.flush()
