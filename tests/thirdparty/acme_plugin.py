"""A third party's plugin, well-behaved and not: passes that do each wrong thing once, a target, a command."""

import os
import random
import signal
import sys
import warnings
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import typer

from nncomp.errors import NncompWarning, UnsupportedError
from nncomp.hookspecs import hookimpl
from nncomp.ir import Value
from nncomp.ir.nodes import set_field
from nncomp.onnx_io import save
from nncomp.options import option
from nncomp.passes import Effect, Pass
from nncomp.runtime import Session
from nncomp.targets import Artifact, Capabilities, Finding, Measurement, Target

NNCOMP_API = 1
PASSES: list[type[Pass]] = []


class AcmePass(Pass):
    """Base; not registered."""

    effect: ClassVar[Effect] = Effect.EXACT

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        PASSES.append(cls)

    def run(self, graph, ctx):
        """Do nothing."""


class Nothing(AcmePass):
    """Change nothing."""

    name: ClassVar[str] = "nothing"


class DropIdentity(AcmePass):
    """Remove Identity ops."""

    name: ClassVar[str] = "drop-identity"

    def run(self, graph, ctx):
        for op in graph.ops():
            if op.is_a("Identity") and not graph.is_output(op.output):
                ctx.note("fired", "drop-identity", node=op.label)
                graph.replace_uses(op.output, op.inputs[0])
                graph.remove_unused(op.outputs)
            elif op.is_a("Identity"):
                ctx.note("declined", "drop-identity", node=op.label, reason="the graph interface needs this name")


class Blur(AcmePass):
    """Multiply the weights by 1 + amount.

    The result is worse.
    """

    name: ClassVar[str] = "blur"
    effect: ClassVar[Effect] = Effect.LOSSY
    after: ClassVar[tuple[str, ...]] = ("drop-identity",)
    amount: float = option(0.01, help="how much", ge=0, le=1)
    skip: tuple[str, ...] = option((), help="what to leave")

    def run(self, graph, ctx):
        from nncomp.selectors import select

        skipped = select(graph, self.skip, option="blur.skip")
        ctx.results[self.name] = {"amount": np.float32(self.amount), "blurred": len(graph.constants())}
        for value in graph.constants():
            if any(op in skipped for op in graph.users(value)):
                continue
            data = np.asarray(value.const.numpy())
            new = graph.add_constant(value.name, (data * (1 + self.amount)).astype(data.dtype))
            graph.replace_uses(value, new)
            graph.remove_unused([value])


class Liar(Blur):
    """Claim to be exact, but change numbers."""

    name: ClassVar[str] = "liar"
    effect: ClassVar[Effect] = Effect.EXACT


class Breaker(Blur):
    """Change the graph, then raise."""

    name: ClassVar[str] = "breaker"

    def run(self, graph, ctx):
        super().run(graph, ctx)
        raise ValueError("acme is broken")


class Dangler(AcmePass):
    """Leave an op that reads what nothing produces."""

    name: ClassVar[str] = "dangler"

    def run(self, graph, ctx):
        op = graph.ops()[0]
        set_field(op, "inputs", (Value("ghost"), *op.inputs[1:]))
        graph._touch()


class Renamer(AcmePass):
    """Rename a graph input."""

    name: ClassVar[str] = "renamer"

    def run(self, graph, ctx):
        graph.rename(graph.inputs[0], "renamed")


class Rude(AcmePass):
    """Print, and change folder, seeds, error handling and warning filters."""

    name: ClassVar[str] = "rude"

    def run(self, graph, ctx):
        print("acme says hello")
        sys.stdout.write("and hello again\n")
        os.chdir("/")
        random.seed(1)
        np.random.seed(1)
        np.seterr(all="ignore")
        warnings.simplefilter("ignore")


class Quitter(AcmePass):
    """Call sys.exit."""

    name: ClassVar[str] = "quitter"

    def run(self, graph, ctx):
        sys.exit(3)


class Warner(AcmePass):
    """Warn."""

    name: ClassVar[str] = "warner"

    def run(self, graph, ctx):
        ctx.warn(NncompWarning("this weight is odd", code="NNC-W030"), node="w")


class Hungry(AcmePass):
    """Run out of memory."""

    name: ClassVar[str] = "hungry"

    def run(self, graph, ctx):
        raise MemoryError


class Terminated(AcmePass):
    """Get a SIGTERM in the middle."""

    name: ClassVar[str] = "terminated"

    def run(self, graph, ctx):
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pause() if signal.getsignal(signal.SIGTERM) is signal.SIG_IGN else None


class Interrupted(AcmePass):
    """Get a Ctrl-C in the middle."""

    name: ClassVar[str] = "interrupted"

    def run(self, graph, ctx):
        raise KeyboardInterrupt


class AcmeArtifact(Artifact):
    """A model file."""

    def __init__(self, graph):
        self.graph = graph
        self.session = Session(graph)

    def save(self, folder, *, name="model"):
        return save(self.graph, folder / f"{name}.onnx")

    def run(self, feeds):
        return self.session.run(feeds)

    def measure(self, feeds, baseline, *, seconds=2.0):
        return Measurement(50.0, 100.0, 2.0, (1.9, 2.1), 100)

    def report(self):
        return {"kernels": {op.kind: 1 for op in self.graph.ops()}}


class AcmeTarget(Target):
    """A target."""

    name: ClassVar[str] = "acme"
    summary: ClassVar[str] = "runs anything but Softmax"
    capabilities: ClassVar[Capabilities] = Capabilities(max_ir_version=13, opsets=(7, 26))
    default_recipe: ClassVar[str] = "acme-default"

    def missing(self):
        return ""

    def check(self, graph, ctx):
        return [
            Finding("refused", op.label, op.kind, "acme has no softmax")
            if op.is_a("Softmax")
            else Finding("float", op.label, op.kind, "all is float")
            for op in graph.ops()
        ]

    def build(self, graph, ctx):
        if any(op.is_a("Softmax") for op in graph.ops()):
            raise UnsupportedError("acme has no softmax")
        return AcmeArtifact(graph.clone())


class AbsentTarget(AcmeTarget):
    """A target whose library is not installed."""

    name: ClassVar[str] = "absent"
    default_recipe: ClassVar[str] = ""

    def missing(self):
        return "pip install absent"


commands = typer.Typer(name="acme", help="Acme's own commands.")


@commands.command()
def hello() -> None:
    """Say hello."""
    print("hello from acme")


@hookimpl
def nncomp_passes():
    return PASSES


@hookimpl
def nncomp_targets():
    return [AcmeTarget, AbsentTarget]


@hookimpl
def nncomp_recipes():
    return {"acme-default": Path(__file__).with_name("acme-default.toml")}


@hookimpl
def nncomp_commands():
    return [commands]
