"""check_pass: a pass that keeps the laws passes, and for each law there is one that breaks it and is caught."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from pydantic import ConfigDict, field_validator

from nncomp.data import RandomSource
from nncomp.errors import DataError, NncompError
from nncomp.ir import Graph, Op
from nncomp.options import option
from nncomp.passes import Context, Effect, Pass
from nncomp.testing import PASS_LAWS, bare, calibrated, check_pass, graph

NET = "g (float[2,3] x) => (float[2,3] y) { a = Relu (x)  b = Relu (a)  y = Neg (b) }"


class Once(Pass):
    """Take one Relu away where two follow each other."""

    name: ClassVar[str] = "once"
    effect: ClassVar[Effect] = Effect.EXACT
    most: int = option(10, ge=0, help="pairs to treat at the most")

    def run(self, graph: Graph, ctx: Context) -> None:
        """Rewrite."""
        for number, op in enumerate(twins(graph)):
            if number < self.most:
                replace(graph, op)


def twins(graph: Graph) -> list[Op]:
    """Return each Relu that reads a Relu."""
    relus = [op for op in graph.ops() if op.is_a("Relu") and not graph.is_output(op.output)]
    return [op for op in relus if op.inputs[0] is not None and op.inputs[0].producer in relus]


def replace(graph: Graph, op: Op) -> None:
    """Do without ``op``."""
    assert op.inputs[0] is not None
    graph.replace_uses(op.output, op.inputs[0])
    graph.remove_unused([op.output])


def relus(graph: Graph) -> list[Op]:
    """Return all Relus."""
    return [op for op in graph.ops() if op.is_a("Relu")]


def test_a_lawful_pass_passes() -> None:
    report = check_pass(Once(), fires_on=[graph(NET)])
    assert report.graphs == 29
    assert report.changed == ["graph 0 of fires_on"]
    assert report.refused == {}


def caught(step: Pass, law: str, **how: Any) -> str:
    with pytest.raises(AssertionError) as found:
        check_pass(step, fires_on=[graph(NET)], **{"examples": 0, "hash_seeds": (), **how})
    text = str(found.value)
    assert text.startswith(f"pass {getattr(step, 'name', type(step).__name__)!r} breaks the law of {law!r}"), text
    assert f"law: {PASS_LAWS[law]}\n" in text
    return text.partition("found: ")[2]


def test_a_message_names_the_law_and_shows_both_graphs() -> None:
    class Abs(Once):
        """Write Relu as Abs."""

        def run(self, graph: Graph, ctx: Context) -> None:
            for op in relus(graph):
                made = graph.add_op("Abs", op.inputs, like=op)
                graph.replace_uses(op.output, made.output)
                graph.remove_unused([op.output])

    with pytest.raises(AssertionError) as found:
        check_pass(Abs(), fires_on=[graph(NET)], examples=0)
    lines = str(found.value).splitlines()
    assert lines[0] == "pass 'once' breaks the law of 'effect' on a convolution and all that follows it, for any batch"
    assert lines[1] == (
        "law: outputs change by no more than the declared effect allows, whatever the sizes of open dimensions"
    )
    assert lines[2] == (
        "found: output 'y' changed by 0.79 relative, first at 'GlobalAveragePool(p)'; declared is exact"
    )
    assert "given:" in lines
    assert "made:" in lines
    assert len([line for line in lines if " = Relu (n)" in line]) == 1
    assert len([line for line in lines if " = Abs (n)" in line]) == 1


@pytest.mark.parametrize(
    ("attributes", "found"),
    [
        ({"name": "Not_Good"}, "the name is 'Not_Good'"),
        ({"effect": "harmless"}, "there is no effect"),
        ({"__doc__": None}, "class Bad has no docstring"),
    ],
)
def test_what_a_pass_must_say_of_itself(attributes: dict[str, Any], found: str) -> None:
    bad = type("Bad", (Once,), {"__doc__": "Bad.", "__module__": __name__, **attributes})
    assert caught(bad(), "declared").strip() == found


def test_an_option_needs_a_help() -> None:
    class Bad(Once):
        """Bad."""

        silent: int = 3

    assert caught(Bad(), "declared") == "option 'silent' has no help"


def test_options_survive_being_written_down() -> None:
    class Bad(Once):
        """Bad."""

        share: float = option(0.5, help="a share")

        @field_validator("share")
        @classmethod
        def halve(cls, share: float) -> float:
            return share / 2

    assert caught(Bad(share=1.0), "options") == "'once{most=10, share=0.5}' is read back as Bad(most=10, share=0.25)"


def test_a_validator_that_dies_is_caught() -> None:
    class Bad(Once):
        """Bad."""

        kind: str = option("a", help="a or b")

        @field_validator("kind")
        @classmethod
        def known(cls, kind: str) -> str:
            return {"a": "a", "b": "b"}[kind]

    assert caught(Bad(), "refusals") == "kind='no such thing' raises KeyError: 'no such thing'"


def test_options_that_nobody_knows_must_not_be_taken() -> None:
    class Bad(Once):
        """Bad."""

        model_config = ConfigDict(frozen=True, extra="ignore")

    assert caught(Bad(), "refusals") == "no_such_option=1 is taken without a word"


def test_an_option_that_takes_anything_is_caught() -> None:
    class Bad(Once):
        """Bad."""

        anything: Any = option(None, help="anything")

    assert caught(Bad(), "refusals") == "anything=object() is taken without a word"


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (KeyError("scale"), "pass 'once' failed: KeyError: 'scale'"),
        (NncompError("it went wrong"), "NncompError has the code 'NNC-X999': it went wrong"),
        (DataError("it went wrong", code="ACME-1"), "DataError has the code 'ACME-1': it went wrong"),
    ],
)
def test_errors_are_ours_and_have_a_code(error: Exception, found: str) -> None:
    class Bad(Once):
        """Bad."""

        def run(self, graph: Graph, ctx: Context) -> None:
            raise error

    assert caught(Bad(), "errors").startswith(found + "\n")


def test_a_refusal_is_no_breach_but_a_pass_must_change_something() -> None:
    class Bad(Once):
        """Bad."""

        def run(self, graph: Graph, ctx: Context) -> None:
            raise DataError("it needs data", code="NNC-D006")

    assert caught(Bad(), "fires").startswith("it needs data\n\ngiven:\n")
    assert caught(Once(most=0), "fires").startswith("it comes out as it went in\n")
    with pytest.raises(AssertionError, match="none of 18 graphs changed: give one in fires_on"):
        check_pass(Once(most=0), examples=0)


def test_an_invalid_graph_is_caught() -> None:
    class Bad(Once):
        """Bad."""

        def run(self, graph: Graph, ctx: Context) -> None:
            for op in relus(graph):
                graph.set_attrs(op, alpha=1.0)

    assert caught(Bad(), "valid").startswith("pass 'once' left an invalid graph: ")


def test_another_interface_is_caught() -> None:
    class Bad(Once):
        """Bad."""

        def run(self, graph: Graph, ctx: Context) -> None:
            graph.rename(graph.inputs[0], "renamed")

    assert caught(Bad(), "interface").startswith("pass 'once' changed the graph inputs from (x: ")


def test_a_batch_size_that_is_baked_in_is_caught() -> None:
    class Bad(Once):
        """Reshape to what the first sample has."""

        effect: ClassVar[Effect] = Effect.LOSSY

        def run(self, graph: Graph, ctx: Context) -> None:
            assert ctx.data is not None
            shapes = {name: array.shape for name, array in next(iter(ctx.data)).items()}
            for value in graph.inputs:
                if len(shapes.get(value.name, ())) > 1 and value.type is not None:
                    size = graph.add_constant("size", np.array(shapes[value.name], np.int64))
                    made = graph.add_op("Reshape", [value, size], [("", value.type)])
                    graph.replace_uses(value, made.output, keep=lambda use, made=made: use.op is made)  # type: ignore[misc]

    def context(graph: Graph) -> Context:
        return Context(data=RandomSource(graph, 1))

    found = caught(Bad(), "effect", context=context)
    assert found.startswith("the result does not run: ")


def test_a_constant_that_is_written_to_is_caught() -> None:
    class Bad(Once):
        """Bad."""

        effect: ClassVar[Effect] = Effect.LOSSY

        def run(self, graph: Graph, ctx: Context) -> None:
            for value in graph.constants():
                base: Any = graph.array(value)
                while isinstance(base.base, np.ndarray):
                    base = base.base
                if base.dtype == np.float32 and base.flags.writeable:
                    base *= 2

    assert caught(Bad(), "given").startswith("the graph that the passes got a copy of is another than before\n")


def test_other_bytes_a_second_time_are_caught() -> None:
    calls: list[int] = []

    class Bad(Once):
        """Bad."""

        def run(self, graph: Graph, ctx: Context) -> None:
            calls.append(1)
            graph.add_constant("count", np.array(len(calls)))

    assert caught(Bad(), "determinism").startswith("a second run on the same graph gives other bytes\n")


def test_a_refusal_the_second_time_is_caught() -> None:
    calls: list[int] = []

    class Bad(Once):
        """Bad."""

        def run(self, graph: Graph, ctx: Context) -> None:
            calls.append(1)
            if len(calls) > 1:
                raise DataError("no more", code="NNC-D006")

    assert caught(Bad(), "determinism").startswith("a second run on the same graph gives other bytes\n")


def test_other_bytes_on_two_threads_are_caught() -> None:
    class Bad(Once):
        """Bad."""

        def run(self, graph: Graph, ctx: Context) -> None:
            graph.add_constant("threads", np.array(ctx.threads))

    assert caught(Bad(), "determinism").startswith("two threads make other bytes\n")


def test_other_bytes_with_another_hash_seed_are_caught(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.joinpath("hashes_of_names.py").write_text(
        "import numpy as np\n"
        "import nncomp\n\n"
        "class ByHash(nncomp.Pass):\n"
        '    """Count what hashes say."""\n\n'
        "    name = 'by-hash'\n"
        "    effect = nncomp.Effect.EXACT\n\n"
        "    def run(self, graph, ctx):\n"
        "        if not graph.has_name('count'):\n"
        "            graph.add_constant('count', np.array(hash('a name')))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    step = importlib.import_module("hashes_of_names").ByHash()
    found = caught(step, "determinism", hash_seeds=(1,))
    assert found.startswith("in a process with hash seed 1 it makes other bytes\n")


def test_names_that_mean_something_are_caught() -> None:
    class Bad(Once):
        """Bad."""

        def run(self, graph: Graph, ctx: Context) -> None:
            for op in twins(graph):
                if op.output.name == "b":
                    replace(graph, op)

    assert caught(Bad(), "names").startswith("with other names inside, other ops come out\n")


def test_a_pass_that_goes_on_is_caught_unless_it_may() -> None:
    class Bad(Once):
        """Bad."""

        def run(self, graph: Graph, ctx: Context) -> None:
            for op in relus(graph):
                made = graph.add_op("Relu", [op.output], [("", op.output.type)])
                graph.replace_uses(op.output, made.output, keep=lambda use, made=made: use.op is made)  # type: ignore[misc]

    assert caught(Bad(), "settles").startswith("run again, it goes on: ")
    check_pass(Bad(), settles=False, examples=0, hash_seeds=())


def test_a_generated_graph_finds_what_no_specimen_has() -> None:
    class Bad(Once):
        """Take each difference for a sum."""

        def run(self, graph: Graph, ctx: Context) -> None:
            for op in graph.ops():
                if op.is_a("Sub"):
                    made = graph.add_op("Add", op.inputs, like=op)
                    graph.replace_uses(op.output, made.output)
                    graph.remove_unused([op.output])

    with pytest.raises(AssertionError, match="breaks the law of 'effect' on a generated graph"):
        check_pass(Bad(), examples=30, hash_seeds=())


def test_without_hypothesis_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("generate", "growing"):
        monkeypatch.delitem(sys.modules, f"nncomp.testing.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    with pytest.raises(ImportError) as found:
        check_pass(Once(), fires_on=[graph(NET)], hash_seeds=())
    assert str(found.value) == "nncomp.testing.generate needs hypothesis: pip install hypothesis"


def test_a_context_is_calibrated_where_inputs_can_be_made_up() -> None:
    assert calibrated(graph(NET)).data is not None
    assert calibrated(graph("g (string[2] x) => (string[2] y) { y = Identity (x) }")).data is None
    assert bare(graph(NET)).data is None


def test_every_law_has_a_violator_here() -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    assert [law for law in PASS_LAWS if f'"{law}"' not in text] == []
