"""The pipeline: what holds is committed, what does not is undone, named, and can be replayed."""

from __future__ import annotations

import os
import random
import re
import sys
import warnings
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from nncomp.errors import GateError, ModelError, NncompError, PluginError, RecipeError, UnsupportedError
from nncomp.gate import Gate
from nncomp.ir import DataType, Graph, TensorType, Value
from nncomp.ir.nodes import set_field
from nncomp.onnx_io import load, to_bytes
from nncomp.options import option
from nncomp.passes import Context, Effect, Pass
from nncomp.pipeline import PassRecord, Pipeline
from nncomp.plugins import Registry
from nncomp.recipe import build_passes, load_recipe
from nncomp.testing import assert_same_function, graph

TEXT = """
g (float[N,4] x) => (float[N,3] y) <float[4,3] w> {
   [product] a = MatMul (x, w)
   [same] b = Identity (a)
   [act] y = Relu (b)
}
"""


class Base(Pass):
    """Does nothing; the passes below are variations."""

    name: ClassVar[str] = "nothing"
    effect: ClassVar[Effect] = Effect.EXACT

    def run(self, graph: Graph, ctx: Context) -> None:
        """Do nothing."""


class DropIdentity(Base):
    """Remove Identity ops."""

    name: ClassVar[str] = "drop-identity"

    def run(self, graph: Graph, ctx: Context) -> None:
        """See the class."""
        for op in graph.ops():
            if op.is_a("Identity"):
                assert op.inputs[0] is not None
                graph.replace_uses(op.output, op.inputs[0])
                graph.remove_unused(op.outputs)
                ctx.note("fired", "drop-identity", node=op.label)


class Scale(Base):
    """Multiply the weights."""

    name: ClassVar[str] = "scale"
    effect: ClassVar[Effect] = Effect.LOSSY
    after: ClassVar[tuple[str, ...]] = ("drop-identity",)
    factor: float = option(2.0, help="by how much")

    def run(self, graph: Graph, ctx: Context) -> None:
        """See the class."""
        for value in graph.constants():
            assert value.const is not None
            data = value.const.numpy()
            graph.replace_uses(value, graph.add_constant(value.name, (data * self.factor).astype(data.dtype)))
            graph.remove_unused([value])


class Liar(Scale):
    """Claim that this is exact."""

    name: ClassVar[str] = "liar"
    effect: ClassVar[Effect] = Effect.EXACT
    after: ClassVar[tuple[str, ...]] = ()
    why: str = option("", help="nothing")


class Breaker(Scale):
    """Change the graph, then raise something that is not ours."""

    name: ClassVar[str] = "breaker"
    after: ClassVar[tuple[str, ...]] = ()

    def run(self, graph: Graph, ctx: Context) -> None:
        """See the class."""
        super().run(graph, ctx)
        raise ValueError("acme is broken")


class Decliner(Scale):
    """Change the graph, then raise an error of ours."""

    name: ClassVar[str] = "decliner"
    after: ClassVar[tuple[str, ...]] = ()

    def run(self, graph: Graph, ctx: Context) -> None:
        """See the class."""
        super().run(graph, ctx)
        raise UnsupportedError("nothing to do", code="NNC-M052")


class Quitter(Base):
    """Call sys.exit."""

    name: ClassVar[str] = "quitter"

    def run(self, graph: Graph, ctx: Context) -> None:
        """See the class."""
        sys.exit(3)


class Dangler(Base):
    """Leave an op that reads what nothing produces."""

    name: ClassVar[str] = "dangler"

    def run(self, graph: Graph, ctx: Context) -> None:
        """See the class."""
        op = graph.ops()[0]
        graph.set_name(op, "dangling")
        set_field(op, "inputs", (Value("ghost"), *op.inputs[1:]))


class Renamer(Base):
    """Rename a graph input."""

    name: ClassVar[str] = "renamer"

    def run(self, graph: Graph, ctx: Context) -> None:
        """See the class."""
        graph.rename(graph.inputs[0], "renamed")


class Unrunnable(Base):
    """Replace an operator with one that no runtime has."""

    name: ClassVar[str] = "unrunnable"
    effect: ClassVar[Effect] = Effect.LOSSY

    def run(self, graph: Graph, ctx: Context) -> None:
        """See the class."""
        op = graph.ops()[-1]
        new = graph.add_op("Nowhere", op.inputs, ["new"], domain="com.acme").output
        graph.replace_uses(op.output, new)
        graph.remove_unused(op.outputs)


class Rude(Base):
    """Print, and change folder, seeds, error handling and warning filters."""

    name: ClassVar[str] = "rude"

    def run(self, graph: Graph, ctx: Context) -> None:
        """See the class."""
        print("hello from a pass")
        os.chdir("/")
        random.seed(1)
        np.random.seed(1)
        np.seterr(all="ignore")
        warnings.simplefilter("ignore")


class Interrupted(Scale):
    """Get a Ctrl-C in the middle."""

    name: ClassVar[str] = "interrupted"
    after: ClassVar[tuple[str, ...]] = ()

    def run(self, graph: Graph, ctx: Context) -> None:
        """See the class."""
        super().run(graph, ctx)
        raise KeyboardInterrupt


class Watcher:
    """An instrument that writes down what it sees."""

    name: ClassVar[str] = "watcher"

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, int]] = []

    def before_pass(self, step: Pass, graph: Graph) -> None:
        """See Instrument."""
        self.seen.append(("before", step.name, len(graph.ops())))

    def after_pass(self, step: Pass, graph: Graph, record: PassRecord) -> None:
        """See Instrument."""
        self.seen.append(("after", step.name, len(graph.ops())))


def failure(pipeline: Pipeline, g: Graph, kind: type[NncompError] = NncompError) -> NncompError:
    with pytest.raises(kind) as error:
        pipeline.run(g, Context())
    return error.value


# ---------------------------------------------------------------- what holds


def test_the_graph_becomes_the_result() -> None:
    before, g = graph(TEXT), graph(TEXT)
    records = Pipeline([DropIdentity(), Base()], gate=Gate()).run(g, Context())
    assert [op.kind for op in g.ops()] == ["MatMul", "Relu"]
    assert [(record.spec, record.changed, record.ops_before, record.ops_after) for record in records] == [
        ("drop-identity", True, 3, 2),
        ("nothing", False, 2, 2),
    ]
    assert_same_function(before, g, exact=True)


def test_a_record_says_what_the_pass_did_and_who_provides_it() -> None:
    g = graph(TEXT)
    record = Pipeline([Scale(factor=1.5)], gate=Gate(), owners={"scale": "acme"}).run(g, Context())[0]
    assert (record.spec, record.plugin, record.effect) == ("scale{factor=1.5}", "acme", Effect.LOSSY)
    assert record.gate is not None
    assert record.gate.deviation is not None
    assert record.gate.deviation.relative == pytest.approx(0.5)
    assert record.cpu_s >= 0
    assert record.check_cpu_s > 0


def test_a_pass_that_changes_nothing_is_not_checked() -> None:
    record = Pipeline([Base()], gate=Gate()).run(graph(TEXT), Context())[0]
    assert (record.changed, record.gate) == (False, None)


def test_notes_of_a_pass_are_in_its_record_and_in_the_context() -> None:
    ctx = Context()
    record = Pipeline([DropIdentity()]).run(graph(TEXT), ctx)[0]
    assert [note.node for note in record.notes] == ["same"]
    assert list(record.notes) == ctx.notes


def test_types_are_known_to_the_first_pass_and_follow_each_change() -> None:
    seen: list[str] = []

    class Looker(Base):
        name: ClassVar[str] = "looker"

        def run(self, graph: Graph, ctx: Context) -> None:
            seen.extend(str(value.type) for op in graph.ops() for value in op.outputs)

    Pipeline([Looker()]).run(graph(TEXT), Context())
    assert seen == ["float[N,3]"] * 3


def test_without_a_gate_nothing_is_run() -> None:
    g = graph(TEXT)
    record = Pipeline([Liar()]).run(g, Context())[0]
    assert (record.changed, record.gate) == (True, None)


def test_instruments_see_each_pass_before_and_after() -> None:
    watcher = Watcher()
    Pipeline([DropIdentity(), Base()], instruments=[watcher]).run(graph(TEXT), Context())
    assert watcher.seen == [
        ("before", "drop-identity", 3),
        ("after", "drop-identity", 2),
        ("before", "nothing", 2),
        ("after", "nothing", 2),
    ]


def test_progress_is_told_after_each_pass() -> None:
    steps: list[tuple[str, int, int | None]] = []

    class Counter:
        def step(self, task: str, done: int, total: int | None) -> None:
            steps.append((task, done, total))

    Pipeline([Base(), Base()]).run(graph(TEXT), Context(progress=Counter()))
    assert steps == [("passes", 0, 2), ("passes", 1, 2), ("passes", 2, 2)]


# ---------------------------------------------------------------- order


def test_a_pass_before_one_that_it_must_follow_is_refused_when_the_pipeline_is_built() -> None:
    with pytest.raises(RecipeError) as error:
        Pipeline([Scale(), DropIdentity()])
    assert error.value.code == "NNC-R012"
    assert error.value.message == "pass 'scale' stands before 'drop-identity', which it must follow"


@pytest.mark.parametrize("passes", [[DropIdentity(), Scale()], [Scale()], [Scale(), Base()]])
def test_an_order_is_asked_only_of_passes_that_are_there(passes: list[Pass]) -> None:
    assert Pipeline(passes).passes == passes


# ---------------------------------------------------------------- what fails


@pytest.mark.parametrize("step", [Liar(), Breaker(), Decliner(), Quitter(), Dangler(), Renamer(), Unrunnable()])
def test_a_failing_pass_leaves_the_graph_alone(step: Pass) -> None:
    g = graph(TEXT)
    version, expected = g.version, to_bytes(g)
    failure(Pipeline([DropIdentity(), step], gate=Gate()), g)
    assert (g.version, to_bytes(g)) == (version, expected)


def test_an_interrupt_leaves_the_graph_alone_too() -> None:
    g = graph(TEXT)
    expected = to_bytes(g)
    with pytest.raises(KeyboardInterrupt):
        Pipeline([DropIdentity(), Interrupted()]).run(g, Context())
    assert to_bytes(g) == expected


def test_a_pass_that_is_not_exact_is_named_with_the_node_that_diverges() -> None:
    error = failure(Pipeline([Liar()], gate=Gate()), graph(TEXT), GateError)
    assert error.code == "NNC-G001"
    assert error.message == "pass 'liar' declares exact, but output 'y' changed by 1 relative, first at 'product'"
    assert (error.where.pass_name, error.where.node, error.exit_status) == ("liar", "product", 5)


def test_a_result_that_does_not_run_is_the_passes_fault() -> None:
    error = failure(Pipeline([Unrunnable()], gate=Gate()), graph(TEXT), GateError)
    assert error.code == "NNC-G001"
    assert error.message.startswith(
        "pass 'unrunnable' broke the graph: the result does not run: [ONNXRuntimeError] : 10 : INVALID_GRAPH"
    )


def test_an_invalid_graph_is_the_passes_fault() -> None:
    error = failure(Pipeline([Dangler()]), graph(TEXT), GateError)
    assert error.code == "NNC-G002"
    assert error.message == (
        "pass 'dangler' left an invalid graph: 'dangling' reads 'ghost', which is not of its graph"
    )
    assert isinstance(error.__cause__, ModelError)
    assert (error.where.pass_name, error.where.node) == ("dangler", "dangling")


def test_a_changed_interface_is_refused_without_a_gate_too() -> None:
    error = failure(Pipeline([Renamer()]), graph(TEXT), GateError)
    assert error.code == "NNC-G003"
    assert error.message == ("pass 'renamer' changed the graph inputs from (x: float[N,4]) to (renamed: float[N,4])")


def test_an_exception_that_is_not_ours_names_pass_and_plugin() -> None:
    error = failure(Pipeline([Breaker()], owners={"breaker": "acme"}), graph(TEXT), PluginError)
    assert error.code == "NNC-P011"
    assert error.message == "pass 'breaker' of plugin 'acme' failed: ValueError: acme is broken"
    assert isinstance(error.__cause__, ValueError)
    assert (error.where.pass_name, error.exit_status) == ("breaker", 7)
    assert failure(Pipeline([Breaker()]), graph(TEXT)).message == ("pass 'breaker' failed: ValueError: acme is broken")


def test_a_pass_that_exits_is_a_pass_that_failed() -> None:
    error = failure(Pipeline([Quitter()]), graph(TEXT), PluginError)
    assert (error.code, error.message) == ("NNC-P011", "pass 'quitter' failed: SystemExit: 3")


def test_an_error_of_ours_comes_through_as_it_is() -> None:
    error = failure(Pipeline([Decliner()]), graph(TEXT), UnsupportedError)
    assert (error.code, error.message) == ("NNC-M052", "nothing to do")


def test_a_pass_may_not_leave_its_traces_in_the_process(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = random.getstate(), np.random.get_state()[1].tolist(), np.geterr(), list(warnings.filters)  # type: ignore[index]
    Pipeline([Rude()]).run(graph(TEXT), Context())
    after = random.getstate(), np.random.get_state()[1].tolist(), np.geterr(), list(warnings.filters)  # type: ignore[index]
    assert after == before
    assert Path.cwd() == tmp_path
    out, err = capsys.readouterr()
    assert (out, err) == ("", "hello from a pass\n")


def test_keep_going_rolls_one_pass_back_and_goes_on_with_the_next() -> None:
    g = graph(TEXT)
    ctx = Context()
    records = Pipeline([Liar(), DropIdentity(), Breaker(), Decliner()], gate=Gate(), keep_going=True).run(g, ctx)
    assert [op.kind for op in g.ops()] == ["MatMul", "Relu"]
    assert_same_function(graph(TEXT), g, exact=True)
    assert [(record.changed, record.error) for record in records] == [
        (False, "pass 'liar' declares exact, but output 'y' changed by 1 relative, first at 'product'"),
        (True, ""),
        (False, "pass 'breaker' failed: ValueError: acme is broken"),
        (False, "nothing to do"),
    ]
    assert [(note.code, note.reason) for note in ctx.notes if note.event == "warning"] == [
        (
            "NNC-G001",
            "rolled back: pass 'liar' declares exact, but output 'y' changed by 1 relative, first at 'product'",
        ),
        ("NNC-P011", "rolled back: pass 'breaker' failed: ValueError: acme is broken"),
        ("NNC-M052", "rolled back: nothing to do"),
    ]


def test_an_instrument_is_not_told_of_a_pass_that_was_rolled_back() -> None:
    watcher = Watcher()
    Pipeline([Liar(), Base()], gate=Gate(), instruments=[watcher], keep_going=True).run(graph(TEXT), Context())
    assert [(when, name) for when, name, _ in watcher.seen] == [
        ("before", "liar"),
        ("before", "nothing"),
        ("after", "nothing"),
    ]


# ---------------------------------------------------------------- the reproducer


def registry() -> Registry:
    known = Registry()
    known.passes.update({kind.name: kind for kind in (DropIdentity, Scale, Liar, Breaker, Unrunnable)})
    return known


@pytest.mark.parametrize(
    "step",
    [Liar(factor=1.25), Liar(why='it\'s a "lie"\n\\\x7f'), Breaker(), Unrunnable()],
    ids=["gate", "quotes", "exception", "does not run"],
)
def test_a_reproducer_replays_the_failure(tmp_path: Path, step: Pass) -> None:
    folder = tmp_path / "repro"
    pipeline = Pipeline([DropIdentity(), step, Scale()], gate=Gate(seed=7), reproducer=folder)
    error = failure(pipeline, graph(TEXT))
    recipe = load_recipe(folder / "recipe.toml")
    before = load(folder / "before.onnx")
    assert [op.kind for op in before.ops()] == ["MatMul", "Relu"]
    with np.load(folder / "feeds.npz") as stored:
        feeds = dict(stored)
    again = failure(Pipeline(build_passes(recipe, registry()), gate=Gate([feeds])), before)
    assert (again.code, again.message) == (error.code, error.message)
    command = f"nncomp compile {folder}/before.onnx -r {folder}/recipe.toml -o {folder}/out --data {folder}/feeds.npz"
    assert error.hint.endswith(f"replay: {command}")


def test_a_reproducer_holds_the_data_that_the_gate_compared_on(tmp_path: Path) -> None:
    feeds = [{"x": np.full((2, 4), number, np.float32)} for number in range(3)]
    failure(Pipeline([Liar()], gate=Gate(feeds), reproducer=tmp_path), graph(TEXT))
    with np.load(tmp_path / "feeds.npz") as stored:
        assert stored["x"][:, 0].tolist() == [0, 0, 1, 1, 2, 2]


def test_without_a_gate_a_reproducer_has_no_data(tmp_path: Path) -> None:
    error = failure(Pipeline([Breaker()], reproducer=tmp_path), graph(TEXT))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["before.onnx", "recipe.toml"]
    assert "--data" not in error.hint


def test_inputs_that_cannot_be_made_up_do_not_hide_the_failure(tmp_path: Path) -> None:
    g = graph("g (seq(float[2]) s) => (int64 y) { y = SequenceLength (s) }")
    error = failure(Pipeline([Breaker()], gate=Gate(), reproducer=tmp_path), g)
    assert error.code == "NNC-P011"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["before.onnx", "recipe.toml"]


def test_a_disk_that_takes_no_reproducer_does_not_hide_the_failure(tmp_path: Path) -> None:
    (tmp_path / "taken").write_bytes(b"")
    folder = tmp_path / "taken" / "repro"
    error = failure(Pipeline([Breaker()], reproducer=folder), graph(TEXT))
    assert error.code == "NNC-P011"
    assert re.match(r"raised in test_pipeline\.py:\d+; --debug shows how it came to that; ", error.hint)
    assert error.hint.endswith(f"; no reproducer: cannot write {str(folder / 'before.onnx')!r}: Not a directory")


def test_what_a_pass_declines_itself_needs_no_reproducer(tmp_path: Path) -> None:
    failure(Pipeline([Decliner()], reproducer=tmp_path), graph(TEXT))
    assert list(tmp_path.iterdir()) == []


def test_types_that_a_pass_gets_wrong_are_caught() -> None:
    class Retyper(Base):
        name: ClassVar[str] = "retyper"

        def run(self, graph: Graph, ctx: Context) -> None:
            graph.set_type(graph.constants()[0], TensorType(DataType.FLOAT, (1,)))

    error = failure(Pipeline([Retyper()]), graph(TEXT), GateError)
    assert error.message == ("pass 'retyper' left an invalid graph: constant 'w' is FLOAT [4, 3], but typed float[1]")
