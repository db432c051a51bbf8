"""Quote the words of a job's command for a shell; Snakemake uses `repr`, which is wrong for names with both kinds of quotes."""

import contextlib
import shlex
from collections.abc import Iterator
from typing import Any

from snakemake_interface_executor_plugins import utils


@contextlib.contextmanager
def shell_quotes() -> Iterator[None]:
    """Make `format_cli_arg` of Snakemake's interface quote for a shell inside the `with` block."""
    original = utils.format_cli_value

    def format_cli_value(value: Any, quote: bool = False, base64_encode: bool = False) -> str:
        if isinstance(value, str) and quote and not base64_encode and not utils.is_quoted(value):
            return shlex.quote(value)
        return str(original(value, quote=quote, base64_encode=base64_encode))

    utils.format_cli_value = format_cli_value
    try:
        yield
    finally:
        utils.format_cli_value = original
