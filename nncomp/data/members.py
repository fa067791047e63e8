"""Which array of a file feeds which input, and which holds the labels: by names, in one order of precedence.

With a model whose inputs are ``a`` and ``b``, and ``part`` being ``calibration`` or ``evaluation``:

1. ``a_<part>`` and ``b_<part>``; of a model with one input also ``x_<part>``, or whatever one array ends so;
2. ``a`` and ``b``;
3. of a model with one input, the only other array (``x``, ``arr_0``, ...).

Labels are ``labels``, ``label`` or ``y``, with or without ``_<part>``, unless the model has an input of that name.
Arrays of the other part are no concern. Any further array is an error, for it may be a misspelt input. Names are
compared, never used as paths.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, Literal, TypeAlias, get_args

from nncomp.data.inputs import InputSpec, only_input

Part: TypeAlias = Literal["calibration", "evaluation"]

PARTS: Final[tuple[str, ...]] = get_args(Part)
LABELS: Final = ("labels", "label", "y")


def arrays_of_part(names: Iterable[str], specs: Sequence[InputSpec], part: Part) -> dict[str, str]:
    """Return which array to read, by the name that it has without the part: inputs, and what does not belong.

    An array for the only input comes under that input's name. Labels are left out.
    """
    names = list(names)
    own = {name.removesuffix(f"_{part}"): name for name in names if name.endswith(f"_{part}")}
    inputs = {spec.name for spec in specs}
    plain = {name: name for name in names if name in inputs or not name.endswith(tuple(f"_{one}" for one in PARTS))}
    for chosen in (own, plain):
        arrays = {name: array for name, array in chosen.items() if name in inputs or name not in LABELS}
        if arrays:
            return _for_only_input(arrays, specs)
    return {}


def label_array(names: Iterable[str], inputs: Iterable[str], part: Part) -> str | None:
    """Return the array with the labels of a part, None when there is none."""
    names, taken = set(names), set(inputs)
    candidates = [f"{word}_{part}" for word in LABELS] + [word for word in LABELS if word not in taken]
    return next((name for name in candidates if name in names), None)


def _for_only_input(arrays: dict[str, str], specs: Sequence[InputSpec]) -> dict[str, str]:
    spec = only_input(specs)
    optional = {one.name for one in specs if one.optional}
    others = [name for name in arrays if name not in optional]
    if spec is None or spec.name in arrays or len(others) != 1:
        return arrays
    return {spec.name if name == others[0] else name: array for name, array in arrays.items()}
