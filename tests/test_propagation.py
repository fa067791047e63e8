"""The leash on onnx's data propagation: bombs of numbers are not followed, shape arithmetic is."""

import subprocess
import sys
import time

import pytest

from nncomp.infer import infer_types
from nncomp.testing import graph

DOUBLINGS = "".join(f"c{i + 1} = Concat <axis = 0> (c{i}, c{i})  " for i in range(40))

BOMBS = {
    "range of constants": "<int64 a = {0}, int64 b = {4000000000}, int64 d = {1}> { y = Range (a, b, d) }",
    "range of nodes": "{ a = Constant <value_int = 0> ()  b = Constant <value_int = 4000000000> ()"
    "  d = Constant <value_int = 1> ()  y = Range (a, b, d) }",
    "range of a size": "<int64 a = {0}, int64 d = {1}> { n = Size (x)  y = Range (a, n, d) }",
    "range without a step": "<int64 a = {0}, int64 b = {1}, int64 d = {0}> { y = Range (a, b, d) }",
    "doublings": f"<int64[1] c0 = {{1}}> {{ {DOUBLINGS} y = Identity (c40) }}",
    "a long vector of a constant": "<int64[1] s = {4000000000}>"
    " { z = ConstantOfShape <value = int64[1] {1}> (s)  y = Add (z, z) }",
    "a long vector of a node": "{ s = Constant <value = int64[1] {4000000000}> ()"
    "  z = ConstantOfShape <value = int64[1] {1}> (s)  y = Add (z, z) }",
    "a tiled vector": "<int64[1] v = {1}, int64[1] s = {4000000000}> { z = Tile (v, s)  y = Add (z, z) }",
    "a padded vector": "<int64[1] v = {1}, int64[2] s = {0, 4000000000}> { z = Pad (v, s)  y = Add (z, z) }",
    "a long input": "{ z = Add (long, long)  y = Concat <axis = 0> (z, long) }",
    "in a body": """<bool b = {1}, int64 a = {0}, int64 e = {4000000000}, int64 d = {1}>
    { y = If (b) <then_branch = t () => (p) { p = Range (a, e, d) }, else_branch = f () => (q) { q = Shape (x) }> }""",
    "in a function": "{ y = local.f (x) }",
}
FUNCTION = """
<opset_import: ["": 17], domain: "local"> f (x) => (y)
{
   a = Constant <value_int = 0> ()  b = Constant <value_int = 4000000000> ()  d = Constant <value_int = 1> ()
   y = Range (a, b, d)
}
"""


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_of_numbers_is_not_followed(bomb):
    header = '<ir_version: 10, opset_import: ["": 17, "local": 1]>' if "local" in BOMBS[bomb] else ""
    before = graph(
        f"{header} g (float[65536,65536] x, int64[4000000000] long) => (y) {BOMBS[bomb]}" + (FUNCTION if header else "")
    )
    started = time.process_time()
    infer_types(before)
    assert time.process_time() - started < 2


COMPUTED = {
    "a length that was added": "(float[2] x) => (y) <int64[1] a = {2000000000}>"
    " { s = Add (a, a)  z = ConstantOfShape <value = int64[1] {1}> (s)  y = Add (z, z) }",
    "floats of that length": "(float[2] x) => (y) <int64[1] a = {2000000000}>"
    " { s = Add (a, a)  z = ConstantOfShape (s)  y = Add (z, z) }",
    "an expanded vector": "(int64[1] x) => (y) <int64[1] a = {2000000000}>"
    " { s = Add (a, a)  z = Expand (x, s)  y = Mul (z, z) }",
    "a length that was a shape": "(float[4000000000] x) => (y)"
    " { s = Shape (x)  z = ConstantOfShape <value = int64[1] {1}> (s)  y = Add (z, z) }",
    "a flat matrix": "(float[65536,65536] x) => (y) <int64[1] s = {-1}>"
    " { r = Reshape (x, s)  q = Cast <to = 7> (r)  y = Sub (q, q) }",
    "a flat outer sum": "(int64[65536,1] x, int64[1,65536] w) => (y) <int64[1] s = {-1}>"
    " { m = Add (x, w)  r = Reshape (m, s)  y = Add (r, r) }",
    "doublings of an input": f"(int64[1048576] c0) => (y) {{ {DOUBLINGS} y = Identity (c40) }}",
    "doublings of a length that was added": "(float[2] x) => (y) <int64[1] a = {500000}>"
    f" {{ s = Add (a, a)  c0 = ConstantOfShape <value = int64[1] {{1}}> (s)  {DOUBLINGS} y = Identity (c40) }}",
}
CHILD = """
import resource, sys
from nncomp.infer import infer_types
from nncomp.testing import graph
bombs = [graph(text) for text in sys.argv[1:]]
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
for bomb in bombs:
    infer_types(bomb)
own = open("/proc/self/status").read()  # what getrusage says begins with the memory of the process that forked
print(int(own.partition("VmHWM:")[2].split()[0]) >> 10)
"""


def test_a_vector_whose_length_was_itself_followed_is_bounded():
    texts = [f"g {text}" for text in COMPUTED.values()]
    child = subprocess.run([sys.executable, "-c", CHILD, *texts], capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stderr
    assert int(child.stdout) < 1500  # MiB


def test_what_is_known_late_to_be_short_still_decides_shapes():
    before = graph("""
    g (float[2,3] x) => (y, v) <int64[1] one = {1}, int64[1] two = {2}, float[1] f>
    { s = Add (one, one)  z = ConstantOfShape <value = int64[1] {1}> (s)  t = Add (z, s)  t2 = Concat <axis = 0> (t, z)
      y = Expand (f, t2)  n = Neg (y)  v = Add (n, x) }
    """)
    infer_types(before)
    assert before.find("z").shape == (2,)
    assert len(before.find("y").shape) == 4
    assert len(before.find("v").shape) == 4


def test_short_ranges_and_concatenations_still_decide_shapes():
    before = graph("""
    g (float[N,3,4] x) => (y)
    <int64 a = {2}, int64 b = {5}, int64 d = {1}, int64[1] rest = {-1}, int64[1] one = {1}, int64[1] two = {2}>
    { r = Range (a, b, d)  s = Shape (x)  n = Slice (s, one, two)  t = Concat <axis = 0> (rest, n)  y = Reshape (x, t) }
    """)
    infer_types(before)
    assert before.find("r").shape == (3,)
    assert before.find("y").shape[1] == 3


def test_an_overridable_default_decides_no_shape():
    before = graph("g (float[2,4] x, int64[2] s) => (y) <int64[2] s = {4, 2}> { y = Reshape (x, s) }")
    infer_types(before)
    assert not any(isinstance(dim, int) for dim in before.find("y").shape)


def test_captures_learn_what_is_learnt_outside():
    before = graph("""
    g (bool b, float[2,4] x) => (y) {
       a = Relu (x)
       y = If (b) <then_branch = t () => (p) { p = Exp (a) }, else_branch = e () => (q) { q = Neg (a) }>
    }
    """)
    infer_types(before)
    assert all(inner.shape == (2, 4) for body in before.graphs() for inner in body.captures if inner.name == "a")
