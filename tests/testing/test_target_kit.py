"""check_target: a target that keeps the laws passes, and for each law there is one that breaks it and is caught."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pytest

from nncomp.errors import NncompError, RecipeError, UnsupportedError
from nncomp.ir import Graph
from nncomp.onnx_io import save
from nncomp.options import option
from nncomp.passes import Context
from nncomp.runtime import Session
from nncomp.targets import Artifact, Capabilities, Finding, Measurement, OpCost, Target, TargetOptions, TextTable
from nncomp.testing import TARGET_LAWS, check_target, graph

NET = "g (float[N,3] x) => (float[N,3] y) { a = Relu (x)  y = Neg (a) }"


class Plain(Artifact):
    """The model, run as it is."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    def save(self, folder: Path, *, name: str = "model") -> tuple[Path, ...]:
        """See Artifact."""
        return save(self.graph, folder / f"{name}.onnx")

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """See Artifact."""
        return Session(self.graph).run(feeds)

    def measure(self, feeds: Mapping[str, Any], baseline: Graph, *, seconds: float = 2.0) -> Measurement:
        """See Artifact."""
        return Measurement(2.0, 4.0, 2.0, (1.9, 2.1), pairs=3)

    def report(self) -> dict[str, Any]:
        """See Artifact."""
        return {"ops": len(self.graph.ops())}


class Lawful(Target):
    """Runs what ONNX Runtime runs, without functions of its own."""

    name: ClassVar[str] = "plain"
    summary: ClassVar[str] = "runs a model as it is"
    capabilities: ClassVar[Capabilities] = Capabilities(max_ir_version=10, opsets=(7, 21))
    default_recipe: ClassVar[str] = ""
    artifact: ClassVar[type[Plain]] = Plain

    def missing(self) -> str:
        """See Target."""
        return ""

    def check(self, graph: Graph, ctx: Context) -> list[Finding]:
        """Refuse what has a domain."""
        return [Finding("refused", op.label, op.kind, "unknown") for _, op in graph.walk() if op.domain]

    def build(self, graph: Graph, ctx: Context) -> Artifact:
        """See Target."""
        if self.check(graph, ctx):
            raise UnsupportedError("an op is unknown")
        return self.artifact(graph.clone())


def test_a_lawful_target_passes() -> None:
    report = check_target(Lawful(), builds=[graph(NET)])
    assert len(report.built) == 17
    assert report.refused == {"a function of the model": "unknown", "an op that nobody knows": "unknown"}
    assert report.missing == ""


def caught(target: Target, law: str, **how: Any) -> str:
    with pytest.raises(AssertionError) as found:
        check_target(target, builds=[graph(NET)], **how)
    text = str(found.value)
    assert text.startswith(f"target {target.name!r} breaks the law of {law!r}"), text
    assert f"law: {TARGET_LAWS[law]}\n" in text
    return text.partition("found: ")[2].partition("\n\ngiven:")[0]


def with_artifact(**methods: Any) -> Target:
    """Return a target whose artifact is another in some methods."""
    bad = type("BadArtifact", (Plain,), methods)
    return type("Bad", (Lawful,), {"artifact": bad})()  # type: ignore[no-any-return]


def with_target(**methods: Any) -> Target:
    """Return a target that is another in some methods."""
    return type("Bad", (Lawful,), methods)()  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("attributes", "found"),
    [
        ({"name": "Not Good"}, "the name is 'Not Good'"),
        ({"summary": ""}, "the summary is ''"),
        ({"capabilities": None}, "capabilities are None"),
        ({"default_recipe": None}, "there is no default_recipe: it may be empty"),
    ],
)
def test_what_a_target_must_say_of_itself(attributes: dict[str, Any], found: str) -> None:
    assert caught(with_target(**attributes), "declared") == found


def test_options_survive_being_written_down() -> None:
    assert caught(with_target(spec="plain{level=3}"), "options") == (
        "'plain{level=3}' is not read back: plain: unknown option 'level'"
    )

    class Bad(Lawful):
        @classmethod
        def from_options(cls, options: Mapping[str, object]) -> Self:
            return cls()

    assert caught(Bad(), "refusals") == "no_such_option=1 is taken without a word"

    class Dying(Lawful):
        @classmethod
        def from_options(cls, options: Mapping[str, object]) -> Self:
            if options:
                raise KeyError("no_such_option")
            return cls()

    assert caught(Dying(), "refusals") == "no_such_option=1 raises KeyError: 'no_such_option'"

    class Vague(Lawful):
        @classmethod
        def from_options(cls, options: Mapping[str, object]) -> Self:
            if options:
                raise RecipeError("bad options")
            return cls()

    assert caught(Vague(), "refusals") == "no_such_option=1 is refused without its name: bad options"


def test_without_its_library_a_target_refuses_to_build() -> None:
    def build(self: Lawful, graph: Graph, ctx: Context) -> Artifact:
        self.require()
        return Plain(graph)

    def missing(self: Lawful) -> str:
        return "pip install plain"

    report = check_target(with_target(missing=missing, build=build))
    assert (report.missing, report.built) == ("pip install plain", [])
    assert caught(with_target(missing=missing), "missing") == "missing() says 'pip install plain', and build() builds"
    assert caught(with_target(missing=lambda self: None), "missing") == "missing() gives None"


def test_what_a_target_raises_is_ours() -> None:
    def died(self: Lawful, graph: Graph, ctx: Context) -> Artifact:
        raise KeyError("Conv")

    def vague(self: Lawful, graph: Graph, ctx: Context) -> Artifact:
        raise NncompError("it went wrong")

    assert caught(with_target(build=died), "errors") == "KeyError: 'Conv'"
    assert caught(with_target(build=vague), "errors") == "NncompError has the code 'NNC-X999': it went wrong"


def test_findings_are_about_ops_of_the_graph() -> None:
    def check(self: Lawful, graph: Graph, ctx: Context) -> list[Finding]:
        return [Finding("ok", "nobody", "Conv", "")]

    assert caught(with_target(check=check), "findings").startswith("Finding(level='ok', node='nobody'")


def test_check_and_build_agree() -> None:
    def nothing(self: Lawful, graph: Graph, ctx: Context) -> list[Finding]:
        return []

    def build(self: Lawful, graph: Graph, ctx: Context) -> Artifact:
        if any(op.kind == "Loop" for op in graph.ops()):
            raise UnsupportedError("no loops")
        return Plain(graph.clone())

    assert caught(with_target(check=nothing, build=build), "agreement") == (
        "check() refuses nothing, and build() says: no loops"
    )

    def refusing(self: Lawful, graph: Graph, ctx: Context) -> list[Finding]:
        return [Finding("refused", "", "", "I do not like it")]

    assert caught(with_target(check=refusing, build=build), "agreement") == (
        "check() says 'I do not like it', and build() builds"
    )


def test_a_target_must_build_what_it_is_said_to_build_and_something_at_all() -> None:
    def check(self: Lawful, graph: Graph, ctx: Context) -> list[Finding]:
        return [Finding("refused", "", "", "I like nothing")]

    assert caught(with_target(check=check), "builds") == "I like nothing"
    with pytest.raises(AssertionError, match="all of 18 graphs are refused: give one in builds"):
        check_target(with_target(check=check))


def test_the_graph_stays_as_it_was() -> None:
    def build(self: Lawful, graph: Graph, ctx: Context) -> Artifact:
        graph.import_opset("com.example", 7)
        return Plain(graph.clone())

    assert caught(with_target(build=build), "given") == "the graph is another than before"


def test_outputs_are_those_of_the_graph_at_every_size() -> None:
    def off(self: Plain, feeds: Mapping[str, Any]) -> dict[str, Any]:
        return {name: array * np.float32(1.01) for name, array in Session(self.graph).run(feeds).items()}

    def fixed(self: Plain, feeds: Mapping[str, Any]) -> dict[str, Any]:
        open_size = not isinstance((self.graph.inputs[0].shape or (0,))[0], int)
        found = Session(self.graph).run(feeds)
        return {name: array[:2] if open_size else array for name, array in found.items()}

    def renamed(self: Plain, feeds: Mapping[str, Any]) -> dict[str, Any]:
        return {f"{name}!": array for name, array in Session(self.graph).run(feeds).items()}

    off_by = "with inputs {{'x': ({}, 2, 6, 6)}} output 'y' is off by {} relative"
    assert caught(with_artifact(run=off), "outputs") == off_by.format(2, 0.01)
    assert caught(with_artifact(run=fixed), "outputs") == off_by.format(3, "inf")
    assert caught(with_artifact(run=renamed), "outputs") == "the outputs are ['y!'], expected ['y']"
    check_target(with_artifact(run=fixed), sizes=(2,))


def counted(numbers: Iterator[int]) -> Target:
    def report(self: Plain) -> dict[str, Any]:
        return {"number": next(numbers)}

    return with_artifact(report=report)


def test_a_target_gives_the_same_each_time() -> None:
    assert caught(counted(itertools.count()), "determinism") == "built again, the report is another"
    noise = itertools.count(1)

    def run(self: Plain, feeds: Mapping[str, Any]) -> dict[str, Any]:
        factor = np.float32(1 + 1e-6 * next(noise))
        return {name: array * factor for name, array in Session(self.graph).run(feeds).items()}

    assert caught(with_artifact(run=run), "determinism") == "run again on the same inputs, it gives other outputs"

    def save_numbered(self: Plain, folder: Path, *, name: str = "model") -> tuple[Path, ...]:
        folder.joinpath(name).write_text(str(next(noise)))
        return (folder / name,)

    assert caught(with_artifact(save=save_numbered), "determinism") == "built again, 'model' has other bytes"


def test_save_returns_what_it_wrote_under_the_given_name() -> None:
    def hidden(self: Plain, folder: Path, *, name: str = "model") -> tuple[Path, ...]:
        folder.joinpath("log.txt").write_text("a secret")
        return save(self.graph, folder / f"{name}.onnx")

    def fixed(self: Plain, folder: Path, *, name: str = "model") -> tuple[Path, ...]:
        return save(self.graph, folder / "model.onnx")

    assert caught(with_artifact(save=hidden), "files") == (
        "save() returns ['model.onnx'], and wrote ['log.txt', 'model.onnx']"
    )
    assert caught(with_artifact(save=fixed), "files") == "save(..., name='other') returns ['model.onnx']"


def test_a_measurement_is_of_numbers() -> None:
    def measure(self: Plain, feeds: Mapping[str, Any], baseline: Graph, *, seconds: float = 2.0) -> Measurement:
        return Measurement(0.0, 1.0, float("inf"), (1.0, 1.0), pairs=0)

    assert caught(with_artifact(measure=measure), "measure").startswith("Measurement(latency_us=0.0")


@pytest.mark.parametrize(
    ("method", "gives", "found"),
    [
        ("report", {"kinds": {1, 2}}, "report() is no JSON: Object of type set is not JSON serializable"),
        ("tables", (TextTable("t", ("a", "b"), (("1",),)),), "table 't' has rows of other lengths than its columns"),
        ("costs", {"op": OpCost(-1.0, 0.0)}, "costs() of 'op' are OpCost(latency_us=-1.0, energy_pj=0.0)"),
    ],
)
def test_what_an_artifact_says_is_data(method: str, gives: Any, found: str) -> None:
    assert caught(with_artifact(**{method: lambda self: gives}), "report") == found


def test_every_law_has_a_violator_here() -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    assert [law for law in TARGET_LAWS if f'"{law}"' not in text] == []


class Speed(TargetOptions):
    """Options."""

    level: int = option(1, ge=1, le=9, help="how fast")


def test_options_of_a_target_are_declared_checked_and_written_down() -> None:
    fast = type("Fast", (Lawful,), {"option_type": Speed})
    assert fast().spec == "plain"
    assert fast.from_options({"level": 3}).options == Speed(level=3)
    assert fast.from_options({"level": 3}).spec == "plain{level=3}"
    for options, message, hint in (
        ({"level": 10}, "plain.level: expected at most 9, got 10", ""),
        ({"levl": 1}, "plain: unknown option 'levl'", "did you mean 'level'?"),
        ({"x": 1}, "plain: unknown option 'x'", "options: level"),
    ):
        with pytest.raises(RecipeError) as caught_error:
            fast.from_options(options)
        assert (caught_error.value.code, caught_error.value.message, caught_error.value.hint) == (
            "NNC-R010", message, hint,
        )  # fmt: skip
    check_target(fast.from_options({"level": 3}), builds=[graph(NET)], graphs={})


def test_a_target_without_options_has_none_to_refuse_wrongly() -> None:
    with pytest.raises(RecipeError) as caught_error:
        Lawful.from_options({"x": 1})
    assert (caught_error.value.message, caught_error.value.hint) == ("plain: unknown option 'x'", "options: none")


def test_an_option_has_a_help_text_and_refuses_what_it_cannot_be() -> None:
    class Silent(TargetOptions):
        level: int = 1

    class Anything(TargetOptions):
        level: Any = option(1, help="anything")

    assert caught(with_target(option_type=Silent), "declared") == "option 'level' has no help"
    assert caught(with_target(option_type=Anything), "refusals") == "level=object() is taken without a word"
