"""What plugins tell in their own words, as far as the page understands it; whatever has another form is not shown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, FiniteFloat, NonNegativeInt, ValidationError


class Dimension(BaseModel):
    """What pruning left of a dimension."""

    size: NonNegativeInt
    left: NonNegativeInt


class Decomposed(BaseModel):
    """What became of a layer that was decomposed; ``spectrum`` falls."""

    ranks: tuple[NonNegativeInt, ...]
    form: str = ""
    spectrum: tuple[FiniteFloat, ...] = ()
    macs: NonNegativeInt | None = None
    error: FiniteFloat | None = None


class Sparse(BaseModel):
    """The share of a layer's weights that is zero."""

    share: FiniteFloat


class PricedBits(BaseModel):
    """Bits of one number."""

    bits: NonNegativeInt


class PricedLayer(BaseModel):
    """What a cost model says of a layer; ``bits`` by tensor."""

    name: str
    bound: str = ""
    energy_pj: dict[str, FiniteFloat] = {}
    utilization: dict[str, FiniteFloat] = {}
    bits: dict[str, PricedBits] = {}


class Island(BaseModel):
    """A float kernel among integer ones, and why."""

    node: str = ""
    kind: str = ""
    cause: str = ""


class Energies(BaseModel):
    """Energy by part, µJ."""

    parts: dict[str, FiniteFloat]


T = TypeVar("T", bound=BaseModel)


def dimensions(results: Mapping[str, Any]) -> dict[str, Dimension]:
    """Return the dimensions that passes tell of."""
    return dict(_items(results, "dimensions", Dimension, lambda facts: facts))


def decomposed(results: Mapping[str, Any]) -> dict[str, Decomposed]:
    """Return the layers that passes decomposed."""
    return dict(_items(results, "layers", Decomposed, lambda facts: facts))


def sparse(results: Mapping[str, Any]) -> dict[str, Sparse]:
    """Return the layers that passes made sparse."""
    return dict(_items(results, "layers", Sparse, lambda share: {"share": share}))


def priced(target_report: Mapping[str, Any]) -> list[PricedLayer]:
    """Return the layers that a target prices."""
    return _listed(target_report, "layers", PricedLayer)


def islands(target_report: Mapping[str, Any]) -> list[Island]:
    """Return the float kernels that a target tells of."""
    return _listed(target_report, "float_islands", Island)


def energies(target_report: Mapping[str, Any]) -> dict[str, float]:
    """Return the energy of a run by part, µJ; empty when a target knows none."""
    found = _read(Energies, {"parts": target_report.get("energy_uj_by_part")})
    return {} if found is None else found.parts


def hardware(target_report: Mapping[str, Any]) -> str:
    """Return the name of an accelerator; "" when a target knows none."""
    found = target_report.get("hardware")
    return str(found.get("name", "")) if isinstance(found, Mapping) else ""


def _items(results: Mapping[str, Any], key: str, kind: type[T], facts: Any) -> Iterator[tuple[str, T]]:
    for result in results.values():
        told = result.get(key) if isinstance(result, Mapping) else None
        for name, value in told.items() if isinstance(told, Mapping) else ():
            found = _read(kind, facts(value))
            if found is not None:
                yield str(name), found


def _listed(target_report: Mapping[str, Any], key: str, kind: type[T]) -> list[T]:
    told = target_report.get(key)
    read = [_read(kind, one) for one in told] if isinstance(told, list) else []
    return [one for one in read if one is not None]


def _read(kind: type[T], value: Any) -> T | None:
    try:
        return kind.model_validate(value)
    except ValidationError:
        return None
