"""Text of a message: protobuf hands out bytes where a text is not UTF-8, and takes them back nowhere."""

from __future__ import annotations

from nncomp.errors import ModelError, Where


def require_utf8(*texts: str, where: Where | None = None) -> None:
    """Refuse text that is not UTF-8.

    Raises:
        ModelError: NNC-M023.
    """
    for text in texts:
        if not isinstance(text, str):
            raise ModelError("a name is not valid UTF-8", code="NNC-M023", where=where)
