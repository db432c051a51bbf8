"""Text as LaTeX. Imports no torch."""

from __future__ import annotations

_ESCAPED = str.maketrans(
    {
        **{character: f"\\{character}" for character in "&%$#_{}"},
        **{"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}"},
        **{"<": r"\textless{}", ">": r"\textgreater{}", "[": "{[}", "]": "{]}"},
        **{"±": r"$\pm$", "µ": r"$\mu$", "†": r"$\dagger$"},
    }
)


def escape(text: str) -> str:
    """Return text with the characters escaped that LaTeX gives a meaning; a line break becomes a space."""
    return " ".join(text.split()).translate(_ESCAPED)
