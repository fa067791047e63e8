"""ONNX's own text syntax: graphs as people, tests and diffs read them."""

from nncomp.text.digest import digest, model_digest, short_digest, summary, value_range
from nncomp.text.lexer import has_header, tokens
from nncomp.text.parser import Fill, parse_graph
from nncomp.text.printer import attribute_text, constants_of, inexpressible, op_line, print_graph

__all__ = [
    "Fill",
    "attribute_text",
    "constants_of",
    "digest",
    "has_header",
    "inexpressible",
    "model_digest",
    "op_line",
    "parse_graph",
    "print_graph",
    "short_digest",
    "summary",
    "tokens",
    "value_range",
]
