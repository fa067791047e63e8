"""Values that are no tensors of numbers: sequences, optionals, strings, encoded images. Never folded."""

from __future__ import annotations

from nncomp.ops.counting import free, unpriced
from nncomp.ops.coupling import stays
from nncomp.ops.roles import barrier
from nncomp.ops.semantics import OpSemantics, rows

ROWS: tuple[OpSemantics, ...] = (
    *rows(
        "SequenceAt SequenceConstruct SequenceEmpty SequenceErase SequenceInsert SequenceLength SplitToSequence "
        "ConcatFromSequence",
        axes=stays("works on what is no tensor of numbers"),
        cost=free,
        quant=barrier("works on sequences"),
        foldable=False,
    ),
    *rows(
        "Optional OptionalGetElement OptionalHasElement",
        axes=stays("works on what is no tensor of numbers"),
        cost=free,
        quant=barrier("works on optional values"),
        foldable=False,
    ),
    *rows(
        "StringConcat StringNormalizer StringSplit RegexFullMatch TfIdfVectorizer",
        axes=stays("works on what is no tensor of numbers"),
        cost=unpriced,
        quant=barrier("works on text"),
        foldable=False,
    ),
    *rows(
        "ImageDecoder",
        axes=stays("works on what is no tensor of numbers"),
        cost=unpriced,
        quant=barrier("decodes an image file"),
        foldable=False,
    ),
    *rows(
        "Tokenizer",
        axes=stays("works on what is no tensor of numbers"),
        domain="com.microsoft",
        cost=unpriced,
        quant=barrier("works on text"),
        foldable=False,
    ),
)
