"""eliminate-noops: each rule where it fires, and where it nearly does."""

import numpy as np
import pytest

import nncomp
from nncomp.testing import graph
from nncomp_cleanup.eliminate_noops import EliminateNoops

CONSTANTS = """<
    int64[2] zeros = {0, 0}, int64[2] ones = {1, 1}, int64[2] far = {9223372036854775807, 2147483647}, int64[4] pads0,
    int64[4] pads1 = {0, 1, 0, 0}, int64[2] same = {0, 4}, int64[2] rest = {-1, 4}, int64[2] both = {-1, 0},
    int64[2] turned = {4, -1}, int64[1] axis0 = {0}, int64[1] axis1 = {1}, int64[1] last = {-1}, int64[1] four = {4},
    int64[2] strided = {1, 2}, int64[1] two = {2}, int64[3] wide = {1, 1, 4}, int64[2] twice = {2, 4},
    float none = {0.0}, float minus_none = {-0.0}, float one = {1.0}, float[4] one_each = {1, 1, 1, 1},
    float[4] nearly = {1, 1, 1, 1.0000001}, float[3,1,1] wide_one = {1, 1, 1}, bool yes = {1}, bool no = {0},
    float half = {0.5}
>"""


def noop(call):
    """Return a graph in which ``call`` stands between two ops."""
    return f"g (float[N,4] x) => (y) {CONSTANTS} {{ a = Exp (x)  b = {call}  y = Neg (b) }}"


@pytest.fixture
def fires(check):
    def run(text, **options):
        before = graph(text, constants={"pads0": np.zeros(4, np.int64)}, **options)
        before.remove_unused(before.constants())
        found = check(EliminateNoops(), before)
        assert found.kinds == ["Exp", "Neg"], found.declined
        return found

    return run


@pytest.fixture
def declines(check):
    def run(text, reason, **options):
        before = graph(text, constants={"pads0": np.zeros(4, np.int64)})
        before.remove_unused(before.constants())
        found = check(EliminateNoops(), before, None, **options)
        assert reason in found.declined
        return found

    return run


@pytest.mark.parametrize(
    "call",
    [
        "Identity (a)",
        "Dropout (a)",
        "Dropout (a, half, no)",
        "Cast <to = 1> (a)",
        "CastLike (a, half)",
        "Transpose <perm = [0, 1]> (a)",
        "Flatten (a)",
        "Flatten <axis = -1> (a)",
        "Concat <axis = 1> (a)",
        "Sum (a)",
        "Max (a)",
        "Min (a)",
        "Mean (a)",
        "Split <axis = 1> (a)",
        "Split <axis = 1> (a, four)",
        "Pad (a, pads0)",
        "Tile (a, ones)",
        "Slice (a, zeros, far)",
        "Slice (a, axis0, four, axis1)",
        "Expand (a, ones)",
        "Expand (a, four)",
        "Reshape (a, same)",
        "Reshape (a, zeros)",
        "Reshape (a, rest)",
        "Reshape (a, both)",
        "Add (a, minus_none)",
        "Add (minus_none, a)",
        "Sub (a, none)",
        "Mul (a, one)",
        "Mul (one_each, a)",
        "Div (a, one)",
        "Pow (a, one)",
    ],
)
def test_what_does_nothing_goes(fires, call):
    fires(noop(call))


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        ("Cast <to = 11> (a)", "its input is of another type"),
        ("Transpose (a)", "it moves axes"),
        ("Transpose <perm = [1, 0]> (a)", "it moves axes"),
        ("Flatten <axis = 0> (a)", "its input is not known to be a matrix that it leaves as it is"),
        ("Pad (a, pads1)", "it pads"),
        ("Tile (a, strided)", "it repeats"),
        ("Slice (a, axis0, two, axis1)", "it is not known to take all of axis 1"),
        ("Slice (a, axis1, four, axis1)", "it is not known to take all of axis 1"),
        ("Slice (a, axis0, four, axis0)", "it is not known to take all of axis 0"),
        ("Slice (a, zeros, far, same, strided)", "it strides"),
        ("Expand (a, twice)", "it is not known to repeat nothing"),
        ("Expand (a, wide)", "it adds axes"),
        ("Reshape (a, turned)", "it is not known to keep the shape"),
        ("Reshape (a, wide)", "it changes the number of axes"),
        ("Reshape <allowzero = 1> (a, turned)", "it is not known to keep the shape"),
        ("Add (a, none)", "adding 0.0 turns -0.0 into 0.0"),
        ("Sub (a, minus_none)", "subtracting -0.0 turns -0.0 into 0.0"),
        ("Add (a, half)", "its constant is not 0"),
        ("Sub (a, half)", "its constant is not 0"),
        ("Mul (a, nearly)", "its constant is not 1"),
        ("Div (a, half)", "its constant is not 1"),
        ("Pow (a, half)", "its constant is not 1"),
        ("Mul (a, wide_one)", "its constant may add axes"),
    ],
)
def test_what_nearly_does_nothing_stays(declines, call, reason):
    feeds = (
        []
        if "strided" in call or "Expand (a, twice)" in call or "allowzero" in call or "Reshape (a, wide)" in call
        else None
    )
    declines(noop(call), reason, feeds=feeds)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("y = Identity (x)", "the graph interface needs this name"),
        ("a = Exp (x)  b, mask = Dropout (a)  y = Cast <to = 1> (mask)", "its mask is read"),
        ("a, k = Dropout (x, half, t)  y = Neg (a)", "training_mode is computed"),
        ("a, k = Dropout (x, half, yes)  y = Neg (a)", "it is in training mode"),
        ("a, b = Split <axis = 1> (x)  y = Sub (a, b)", "it has several outputs"),
        ("a = Pad (x, p)  y = Neg (a)", "its pads are not known"),
        ("a = Tile (x, p)  y = Neg (a)", "its repeats are computed"),
        ("a = Slice (x, p, p)  y = Neg (a)", "its bounds are computed"),
        ("a = Expand (x, p)  y = Neg (a)", "its shape is computed"),
        ("a = Reshape (x, p)  y = Neg (a)", "its shape is computed"),
    ],
)
def test_what_is_known_only_when_the_model_runs_stays(check, body, reason):
    text = f"g (float[2,4] x, int64[2] p, bool t) => (y) <float half = {{0.5}}, bool yes = {{1}}> {{ {body} }}"
    before = graph(text)
    before.remove_unused(before.constants())
    assert reason in check(EliminateNoops(), before, None, feeds=[]).declined


@pytest.mark.parametrize("calls", ["Squeeze (u, axis1)", "Squeeze (v, axis1)", "Squeeze (w, last)"])
def test_an_unsqueeze_is_undone(fires, calls):
    value = calls[9]
    made = {"u": "Unsqueeze (a, axis1)", "v": "Unsqueeze (a, minus2)", "w": "Unsqueeze (a, axis2)"}[value]
    constants = CONSTANTS.replace("float half", "int64[1] minus2 = {-2}, int64[1] axis2 = {2}, float half")
    fires(f"g (float[N,4] x) => (y) {constants} {{ a = Exp (x)  {value} = {made}  b = {calls}  y = Neg (b) }}")


def test_a_squeeze_is_undone(fires):
    fires(
        """
        g (float[N,1] x) => (y) <int64[1] last = {-1}>
        { a = Exp (x)  s = Squeeze (a, last)  b = Unsqueeze (s, last)  y = Neg (b) }
        """
    )


def test_axes_in_attributes_are_read(fires):
    pair = "u = Unsqueeze <axes = [0]> (a)  b = Squeeze <axes = [0]> (u)"
    text = f"g (float[N,4] x) => (y) {{ a = Exp (x)  {pair}  y = Neg (b) }}"
    fires(text, opset=11)


@pytest.mark.parametrize(
    ("pair", "reason"),
    [
        ("u = Unsqueeze (a, axis1)  b = Squeeze (u, axis0)", "Unsqueeze is of axes [1], Squeeze of axes [0]"),
        ("u = Unsqueeze (a, axis1)  b = Squeeze (u)", "axes are computed, or left to the sizes"),
    ],
)
def test_other_axes_are_not_undone(check, pair, reason):
    text = f"""
    g (float[1,4] x) => (y) <int64[1] axis0 = {{0}}, int64[1] axis1 = {{1}}> {{ a = Exp (x)  {pair}  y = Neg (b) }}
    """
    before = graph(text)
    before.remove_unused(before.constants())
    assert reason in check(EliminateNoops(), before, None).declined


def test_integers_have_one_zero(check):
    check(
        EliminateNoops(),
        """
        g (int64[N] x) => (int64[N] y) <int64 zero = {0}>
        { a = Neg (x)  b = Add (a, zero)  c = Sub (b, zero)  y = Abs (c) }
        """,
        "g (int64[N] x) => (int64[N] y) { a = Neg (x)  y = Abs (a) }",
    )


def test_integer_powers_stay(check):
    text = "g (int64[2] x) => (int64[2] y) <int64 one = {1}> { a = Neg (x)  y = Pow (a, one) }"
    feeds = [{"x": np.array([2**60 + 1, 3])}]
    assert check(EliminateNoops(), text, None, feeds=feeds).declined == ["its base is not known to be a float"]


def test_signed_zeros_and_oddities_survive(check):
    text = """
    g (float[8] x) => (float[8] y, float[8] z) <float one = {1}, float none = {0}, float minus = {-0.0}>
    {
       a = Neg (x)  b = Mul (a, one)  c = Div (b, one)  d = Pow (c, one)  e = Sub (d, none)  f = Add (e, minus)
       y = Reciprocal (f)  z = Add (f, none)
    }
    """
    odd = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, 3.4e38, -1.0], np.float32)
    assert check(EliminateNoops(), text, feeds=[{"x": odd}]).kinds == ["Neg", "Reciprocal", "Add"]


def test_a_constant_that_repeats_elements_stays(check):
    text = """
    g (float[N,1] x) => (float[N,4] y) <float[4] ones = {1, 1, 1, 1}>
    { a = Exp (x)  b = Mul (a, ones)  y = Neg (b) }
    """
    assert check(EliminateNoops(), text, None).declined == ["its constant may repeat elements"]


def test_a_constant_beside_a_dimension_that_is_not_known_stays(check):
    text = "g (float[2,N] x) => (y) <float[4] ones = {1, 1, 1, 1}> { a = Exp (x)  b = Mul (a, ones)  y = Neg (b) }"
    feeds = [{"x": np.ones((2, 1), np.float32)}]
    assert check(EliminateNoops(), text, None, feeds=feeds).declined == ["its constant may repeat elements"]


def test_a_shape_that_the_file_only_declares_is_not_believed(check):
    before = graph(
        """
        g (float[N,4] x) => (y) <int64[2] s = {1, 4}>
        { a = Exp (x)  b = Expand (a, s)  c = Reshape (b, s)  y = Neg (c) }
        """
    )
    for name in "abc":
        before.set_type(before.find(name), nncomp.TensorType(nncomp.DataType.FLOAT, (1, 4)))
    found = check(EliminateNoops(), before, feeds=[{"x": np.ones((1, 4), np.float32)}])
    assert found.kinds == ["Exp", "Reshape", "Neg"], "Expand by 1 does nothing to any batch, Reshape to 1 does"


def test_an_output_takes_the_place_of_the_op_that_carried_it(check):
    check(
        EliminateNoops(),
        "g (float[N] x) => (float[N] y) { a = Exp (x)  y = Identity (a) }",
        "g (float[N] x) => (float[N] y) { y = Exp (x) }",
    )


def test_two_outputs_of_one_value_keep_their_names(check):
    text = "g (float[N] x) => (float[N] y, float[N] z) { y = Exp (x)  z = Identity (y) }"
    assert check(EliminateNoops(), text, None).declined == ["the graph interface needs this name"]


def test_a_body_cannot_give_what_it_captures(check):
    text = """
    g (bool b, float[2] x) => (float[2] y)
    {
       a = Exp (x)
       y = If (b) <
          then_branch = t () => (float[2] p) { p = Identity (a) },
          else_branch = e () => (float[2] q) { i = Identity (a)  q = Neg (i) }
       >
    }
    """
    found = check(EliminateNoops(), text)
    assert found.kinds == ["Exp", "If", "Identity", "Neg"]


def test_computed_float16_keeps_its_neighbours(check):
    """Two reshapes in between make the runtime round to float16, without them it goes on in float32."""
    text = """
    g (float16[64] x) => (float16[64] y) <int64[1] zero = {0}>
    { a = Exp (x)  u = Unsqueeze (a, zero)  b = Squeeze (u, zero)  y = Sin (b) }
    """
    feeds = [{"x": np.linspace(-3, 3, 64).astype(np.float16)}]
    found = check(EliminateNoops(), text, None, feeds=feeds)
    assert found.declined == [
        "ONNX Runtime holds float16 in float32 between ops: it may be this op that makes it round"
    ]


def test_float16_that_is_given_may_lose_them(check):
    text = """
    g (float16[64] x) => (float16[64] y) <int64[1] zero = {0}>
    { u = Unsqueeze (x, zero)  b = Squeeze (u, zero)  y = Sin (b) }
    """
    feeds = [{"x": np.linspace(-3, 3, 64).astype(np.float16)}]
    assert check(EliminateNoops(), text, feeds=feeds).kinds == ["Sin"]


def test_dropout_of_old_opsets_trains_unless_told_otherwise():
    before = graph("g (float[2] x) => (float[2] y) { a = Exp (x)  b, m = Dropout (a)  y = Neg (b) }", opset=6)
    after, ctx = before.clone(), nncomp.Context()
    EliminateNoops().run(after, ctx)
    assert [note.reason for note in ctx.notes] == ["it may drop: before opset 7 only is_test=1 says that it does not"]


def test_fifteen_thousand_identities_go(check):
    before = nncomp.Graph()
    value = before.add_input("x", nncomp.TensorType(nncomp.DataType.FLOAT, (2,)))
    for _ in range(15_000):
        value = before.add_op("Identity", [value]).output
    before.set_outputs([before.add_op("Relu", [value]).output])
    EliminateNoops().run(before, nncomp.Context())
    assert len(before.ops()) == 1
