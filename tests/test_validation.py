"""One line out of what pydantic refuses: which field, what was expected, what was found."""

from ipaddress import IPv4Address
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from nncomp.validation import Refusal, refusal


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Circle(Section):
    kind: Literal["circle"]
    radius: float = Field(1.0, gt=0.5, allow_inf_nan=False)


class Square(Section):
    kind: Literal["square", "rectangle"]
    side: int = Field(1, ge=1, lt=9)


class Level(Section):
    name: str = Field(min_length=1)
    words: dict[Literal["a", "b"], int] = Field(default_factory=dict)
    code: str = Field("", pattern="^(x[0-9]+)?$")


class Machine(Section):
    levels: tuple[Level, ...] = Field((), min_length=1)
    shape: Annotated[Circle | Square, Field(discriminator="kind")] = Circle(kind="circle")
    named: dict[str, Level] = Field(default_factory=dict)
    sort: Literal["big", "small"] = "big"
    on: bool = Field(False, strict=True)
    limit: Annotated[int, Field(strict=True)] | None = Field(None, le=4.0)
    text: str = Field("", max_length=3)
    pair: int | tuple[int, int] = 0
    even: int = 0
    fours: int = Field(0, multiple_of=4)
    address: IPv4Address | None = None

    @field_validator("even")
    @classmethod
    def _is_even(cls, value: int) -> int:
        if value % 2:
            raise ValueError(f"expected an even number, got {value}")
        return value

    @model_validator(mode="after")
    def _fits(self) -> "Machine":
        if self.even == 2:
            raise ValueError("even: two is too little")
        return self


def refused(given: Any) -> Refusal:
    with pytest.raises(ValidationError) as caught:
        Machine.model_validate(given)
    return refusal(caught.value, Machine)


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (3, "expected a table, got 3"),
        ({"sort": "huge"}, "sort: expected 'big' or 'small', got 'huge'"),
        ({"on": "yes"}, "on: expected true or false, got 'yes'"),
        ({"limit": 5}, "limit: expected at most 4, got 5"),
        ({"limit": 1.5}, "limit: expected an integer, got 1.5"),
        ({"text": 7}, "text: expected text, got 7"),
        ({"text": "long"}, "text: expected at most 3 characters, got 'long'"),
        ({"fours": 5}, "fours: expected a multiple of 4, got 5"),
        ({"address": "x"}, "address: input is not a valid IPv4 address, got 'x'"),
        ({"even": "x" * 80}, "even: expected an integer, got '" + "x" * 56 + "..."),
        ({"even": 3}, "even: expected an even number, got 3"),
        ({"even": 2}, "even: two is too little"),
        ({"pair": "x"}, "pair: expected an integer, got 'x'"),
        ({"levels": 3}, "levels: expected a list, got 3"),
        ({"levels": []}, "levels: expected at least 1 entry, got []"),
        ({"levels": [{}]}, "'levels.0.name' is missing"),
        ({"levels": [{"name": ""}]}, "levels.0.name: expected at least 1 character, got ''"),
        ({"levels": [{"name": "x", "code": "y"}]}, "levels.0.code: expected text of the form ^(x[0-9]+)?$, got 'y'"),
        ({"levels": [{"name": "x", "words": {"c": 1}}]}, "levels.0.words.c: expected 'a' or 'b', got 'c'"),
        ({"levels": [{"name": "x", "words": {"a": "y"}}]}, "levels.0.words.a: expected an integer, got 'y'"),
        ({"named": {"x": {"name": 1}}}, "named.x.name: expected text, got 1"),
        ({"shape": {}}, "'shape.kind' is missing"),
        ({"shape": {"kind": "round"}}, "shape.kind: expected one of 'circle', 'square', 'rectangle', got 'round'"),
        ({"shape": {"kind": "circle", "radius": 0.5}}, "shape.radius: expected more than 0.5, got 0.5"),
        ({"shape": {"kind": "circle", "radius": float("nan")}}, "shape.radius: expected a finite number, got nan"),
        ({"shape": {"kind": "rectangle", "side": 9}}, "shape.side: expected less than 9, got 9"),
    ],
)
def test_a_line_says_where_and_what_was_expected_and_found(given: Any, line: str) -> None:
    found = refused(given)
    assert (found.told(), found.hint()) == (line, "")


@pytest.mark.parametrize(
    ("given", "line", "hint"),
    [
        ({"levls": []}, "unknown key 'levls'", "did you mean 'levels'?"),
        (
            {"zzz": 1},
            "unknown key 'zzz'",
            "known: levels, shape, named, sort, on, limit, text, pair, even, fours, address",
        ),
        ({"levels": [{"nam": "x"}]}, "unknown key 'levels.0.nam'", "did you mean 'name'?"),
        ({"shape": {"kind": "circle", "side": 1}}, "unknown key 'shape.side'", "known: kind, radius"),
        ({"named": {"x": {"name": "y", "zz": 1}}}, "unknown key 'named.x.zz'", "known: name, words, code"),
    ],
)
def test_an_unknown_key_comes_first_with_what_was_meant(given: Any, line: str, hint: str) -> None:
    found = refused(given)
    assert (found.told(), found.hint()) == (line, hint)


def test_a_line_begins_with_the_owner() -> None:
    assert refused({"even": 3}).told("toy") == "toy.even: expected an even number, got 3"
    assert refused({"even": 2}).told("toy") == "toy: even: two is too little"
    assert refused({"zzz": 2}).told("toy", noun="option") == "toy: unknown option 'zzz'"
    assert refused({"zzz": 2}).hint("options").startswith("options: levels, ")
    assert refused({"levels": [{}]}).told("toy") == "toy: 'levels.0.name' is missing"
