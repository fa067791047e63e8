"""recognize-activations: all spellings, their near misses, and the opsets that lack the op."""

import pytest

from nncomp_fusion.activations import RecognizeActivations

HARD = """
g (float[N,3,5] x) => (float[N,3,5] y)
<float three = {3}, float zero = {0}, float six = {6}, float sixth = {0.16666667}, float half = {0.5}, float one = {1}>
{
   BODY
}
"""
GATE = "a = Add (x, three)\nc = Clip (a, zero, six)\n"


def hard(body, **replaced):
    text = HARD.replace("BODY", body)
    for old, new in replaced.items():
        text = text.replace(old, new)
    return text


HARD_SWISH = "g (float[N,3,5] x) => (float[N,3,5] y) { y = HardSwish (x) }"


@pytest.mark.parametrize(
    "body",
    [
        GATE + "d = Div (c, six)\ny = Mul (x, d)",
        GATE + "d = Mul (sixth, c)\ny = Mul (d, x)",
        GATE + "d = Mul (x, c)\ny = Div (d, six)",
        GATE + "d = Mul (c, x)\ny = Mul (d, sixth)",
        GATE + "d = Div (x, six)\ny = Mul (d, c)",
        GATE + "d = Mul (x, sixth)\ny = Mul (c, d)",
        "a = Add (three, x)\nr = Relu (a)\nc = Min (r, six)\nd = Mul (x, c)\ny = Div (d, six)",
        "a = Add (x, three)\nr = Max (a, zero)\nc = Min (six, r)\nd = Div (c, six)\ny = Mul (x, d)",
        "d = HardSigmoid <alpha = 0.16666667, beta = 0.5> (x)\ny = Mul (x, d)",
        "d = HardSigmoid <alpha = 0.16666667> (x)\ny = Mul (d, x)",
        "a = Mul (x, sixth)\nb = Add (a, half)\nc = Clip (b, zero, one)\ny = Mul (x, c)",
        "a = Div (x, six)\nb = Add (half, a)\nc = Clip (b, zero, one)\ny = Mul (c, x)",
        "a = Add (x, three)\nb = Div (a, six)\nc = Clip (b, zero, one)\ny = Mul (x, c)",
    ],
)
def test_hard_swish_in_every_spelling(check, body):
    check(RecognizeActivations(), hard(body), HARD_SWISH)


def test_before_opset_14_hard_swish_stays_a_gated_product(check):
    expected = """
    g (float[N,3,5] x) => (float[N,3,5] y)
    {
       y_hardsigmoid = HardSigmoid <alpha = 0.16666667, beta = 0.5> (x)
       y = Mul (x, y_hardsigmoid)
    }
    """
    for body in (GATE + "d = Mul (x, c)\ny = Div (d, six)", "d = HardSigmoid <alpha = 0.16666667> (x)\ny = Mul (d, x)"):
        outcome = check(RecognizeActivations(), hard(body), opset=12)
        assert [op.kind for op in outcome.graph.ops()] == ["HardSigmoid", "Mul"]
        assert outcome.declined == ["HardSwish needs opset 14, the model imports 12"]
    check(RecognizeActivations(), hard(GATE + "d = Mul (x, c)\ny = Div (d, six)"), expected, opset=12)


def test_attributes_bound_a_clip_before_opset_11(check):
    before = """
    g (float[N,4] x) => (float[N,4] y)
    <float three = {3}, float six = {6}>
    {
       a = Add (x, three)
       c = Clip <min = 0.0, max = 6.0> (a)
       y = Div (c, six)
    }
    """
    expected = """
    g (float[N,4] x) => (float[N,4] y)
    {
       y = HardSigmoid <alpha = 0.16666667, beta = 0.5> (x)
    }
    """
    check(RecognizeActivations(), before, expected, opset=10)


@pytest.mark.parametrize(
    ("body", "alpha", "beta"),
    [
        (GATE + "y = Div (c, six)", "0.16666667", "0.5"),
        ("a = Mul (x, half)\nb = Add (a, sixth)\ny = Clip (b, zero, one)", "0.5", "0.16666667"),
        ("a = Add (x, three)\nb = Mul (a, half)\ny = Clip (b, zero, one)", "0.5", "1.5"),
    ],
)
def test_hard_sigmoid_with_any_slope(check, body, alpha, beta):
    expected = f"g (float[N,3,5] x) => (float[N,3,5] y) {{ y = HardSigmoid <alpha = {alpha}, beta = {beta}> (x) }}"
    check(RecognizeActivations(), hard(body), expected)


@pytest.mark.parametrize(
    ("body", "replaced", "reason"),
    [
        (
            GATE + "d = Mul (x, c)\ny = Div (d, six)",
            {"three = {3}": "three = {2.5}"},
            "it adds 2.5, HardSwish by definition 3",
        ),
        (
            GATE + "d = Mul (x, c)\ny = Mul (d, sixth)",
            {"0.16666667": "0.16667"},
            "it scales by 0.16667, HardSwish by definition 0.1666667",
        ),
        (GATE + "y = Div (c, three)", {}, "clip to [0, 6], times 0.333333, does not end at 1"),
        ("a = Mul (x, half)\nb = Add (a, half)\ny = Clip (b, zero, six)", {}, "it clips to [0, 6], expected [0, 1]"),
        (
            "a = Mul (x, half)\nb = Add (a, half)\ny = Clip (b, half, one)",
            {},
            "it clips to [0.5, 1.0], expected [0, something]",
        ),
        (
            "d = HardSigmoid (x)\ny = Mul (d, x)",
            {},
            "HardSigmoid has alpha 0.2 and beta 0.5, HardSwish 1/6 and 1/2",
        ),
        (GATE + "y = Div (c, six)", {"six = {6}": "six = {0}"}, "it clips to [0.0, 0.0], expected [0, something]"),
        (GATE + "y = Div (c, six)", {"=> (": "=> (float[N,3,5] a, "}, "a value inside of it is a graph output"),
        (
            GATE + "y = Div (c, six)\nz = Relu (a)",
            {"=> (": "=> (float[N,3,5] z, "},
            "a value inside of it is read elsewhere",
        ),
        (
            GATE + "y = Div (c, six)",
            {"float": "double"},
            "its input is double, which runtimes have no HardSigmoid for",
        ),
        (
            "x3 = Add (v, three)\nc = Clip (x3, zero, six)\ny = Div (c, six)",
            {
                "float three": "float[1,1,1,1] three",
                "float[N,3,5] x": "float[3,5] v",
                "float[N,3,5] y": "float[1,1,3,5] y",
            },
            "a constant has more axes than its input",
        ),
        (
            "x3 = Add (x, three)\nc = Clip (x3, zero, six)\ny = Div (c, six)",
            {"float three = {3}": "float[5] three"},
            "a constant of it has 5 elements, expected one",
        ),
    ],
)
def test_what_is_nearly_one_stays(check, body, replaced, reason):
    assert check(RecognizeActivations(), hard(body, **replaced), None).declined == [reason]


GELU = """
g (float[N,3,5] x) => (float[N,3,5] y)
<float root = {1.4142135}, float inverse = {0.70710677}, float one = {1}, float half = {0.5}, float two = {2},
 float three = {3}, int64 int_three = {3}, float cubic = {0.044715}, float slope = {0.7978846}>
{
   BODY
}
"""
ERF = "a = Div (x, root)\nb = Erf (a)\nc = Add (b, one)\n"
TANH = "t = Tanh (s)\nc = Add (one, t)\nd = Mul (x, c)\ny = Mul (d, half)"


@pytest.mark.parametrize(
    "body",
    [
        ERF + "d = Mul (x, c)\ny = Mul (d, half)",
        ERF + "d = Mul (c, x)\ny = Div (d, two)",
        ERF + "d = Mul (x, half)\ny = Mul (d, c)",
        ERF + "d = Mul (half, c)\ny = Mul (x, d)",
        "a = Mul (x, inverse)\nb = Erf (a)\nc = Add (one, b)\nd = Div (c, two)\ny = Mul (x, d)",
    ],
)
def test_gelu_in_every_spelling(check, body):
    expected = "g (float[N,3,5] x) => (float[N,3,5] y) { y = Gelu (x) }"
    assert check(RecognizeActivations(), GELU.replace("BODY", body), expected, opset=20).fired == ["recognize-gelu"]


@pytest.mark.parametrize(
    "body",
    [
        "p = Pow (x, three)\nq = Mul (p, cubic)\nr = Add (x, q)\ns = Mul (r, slope)\n",
        "p = Pow (x, int_three)\nq = Mul (cubic, p)\nr = Add (q, x)\ns = Mul (slope, r)\n",
        "v = Mul (x, x)\np = Mul (v, x)\nq = Mul (p, cubic)\nr = Add (x, q)\ns = Mul (r, slope)\n",
        "v = Mul (x, x)\nq = Mul (v, cubic)\nr = Add (one, q)\nu = Mul (x, slope)\ns = Mul (u, r)\n",
        "v = Pow (x, two)\nq = Mul (v, cubic)\nr = Add (one, q)\nu = Mul (x, r)\ns = Mul (u, slope)\n",
    ],
)
def test_gelu_by_tanh_in_every_spelling(check, body):
    expected = 'g (float[N,3,5] x) => (float[N,3,5] y) { y = Gelu <approximate = "tanh"> (x) }'
    outcome = check(RecognizeActivations(), GELU.replace("BODY", body + TANH), expected, opset=20)
    assert outcome.fired == ["recognize-tanh-gelu"]


@pytest.mark.parametrize(
    ("opset", "old", "new", "reason"),
    [
        (17, "", "", "Gelu needs opset 20, the model imports 17"),
        (20, "1.4142135", "1.4141", "its constant 1.4141 should be 1.414214"),
        (20, "=> (", "=> (float[N,3,5] b, ", "a value inside of it is a graph output"),
    ],
)
def test_what_is_nearly_a_gelu_stays(check, opset, old, new, reason):
    before = GELU.replace("BODY", ERF + "d = Mul (x, c)\ny = Mul (d, half)").replace(old, new, 1 if old else 0)
    assert check(RecognizeActivations(), before, None, opset=opset).declined == [reason]


def test_another_power_is_no_gelu(check):
    before = GELU.replace(
        "BODY", "p = Pow (x, three)\nq = Mul (p, cubic)\nr = Add (x, q)\ns = Mul (r, slope)\n" + TANH
    ).replace("three = {3}, int64", "three = {2}, int64")
    assert check(RecognizeActivations(), before, None, opset=20).declined == ["its exponent is 2, expected 3"]


NORM = """
g (float[N,3,5] x) => (float[N,3,5] y)
<float[5] gamma, float[5] beta, float two = {2}, float eps = {0.0001}>
{
   mean = ReduceMean <axes = [-1]> (x)
   d = Sub (x, mean)
   SQUARE
   v = ReduceMean <axes = [2]> (q)
   e = Add (v, eps)
   r = Sqrt (e)
   NORMALIZE
   m = Mul (n, gamma)
   y = Add (m, beta)
}
"""
NORMALIZED = """
g (float[N,3,5] x) => (float[N,3,5] y)
<float[5] gamma, float[5] beta>
{
   y = LayerNormalization <axis = -1, epsilon = 1e-04> (x, gamma, beta)
}
"""


def norm(square="q = Pow (d, two)", normalize="n = Div (d, r)"):
    return NORM.replace("SQUARE", square).replace("NORMALIZE", normalize)


@pytest.mark.parametrize(
    ("square", "normalize"),
    [
        ("q = Pow (d, two)", "n = Div (d, r)"),
        ("q = Mul (d, d)", "n = Div (d, r)"),
        ("d2 = Sub (x, mean)\nq = Pow (d2, two)", "n = Div (d, r)"),
        ("q = Pow (d, two)", "i = Reciprocal (r)\nn = Mul (d, i)"),
    ],
)
def test_layer_normalization_in_every_spelling(check, square, normalize):
    outcome = check(RecognizeActivations(), norm(square, normalize), NORMALIZED)
    assert outcome.fired == ["recognize-layer-normalization"]


def test_layer_normalization_over_several_axes(check):
    before = norm().replace("[-1]", "[-2, -1]").replace("[2]>", "[1, 2]>").replace("float[5] ", "float[3,5] ")
    expected = NORMALIZED.replace("float[5] ", "float[3,5] ").replace("axis = -1", "axis = -2")
    check(RecognizeActivations(), before, expected)


@pytest.mark.parametrize(
    ("opset", "old", "new", "reason"),
    [
        (16, "", "", "LayerNormalization needs opset 17, the model imports 16"),
        (17, "axes = [2]", "axes = [1]", "mean and variance are taken over different axes"),
        (17, "two = {2}", "two = {4}", "its exponent is 4, expected 2"),
        (17, "float[5] beta", "float[3,5] beta", "shift is float[3,5], which is not the shape that is normalized"),
        (17, "=> (", "=> (float[N,3,1] mean, ", "a value inside of it is a graph output"),
    ],
)
def test_what_is_nearly_a_layer_normalization_stays(check, opset, old, new, reason):
    before = norm().replace(old, new, 1 if old else 0)
    assert check(RecognizeActivations(), before, None, opset=opset).declined == [reason]


def test_means_over_middle_axes_are_no_layer_normalization(check):
    before = norm().replace("[-1]", "[1]").replace("[2]>", "[1]>")
    assert check(RecognizeActivations(), before, None).declined == ["means are over axes [1], expected the last of 3"]


@pytest.mark.parametrize(
    "body",
    [
        "r = Relu (x)\ny = Min (r, six)",
        "r = Max (x, zero)\ny = Min (six, r)",
        "r = Min (x, six)\ny = Relu (r)",
        "r = Min (six, x)\ny = Max (zero, r)",
    ],
)
def test_relu6_in_every_spelling(check, body):
    expected = """
    g (float[N,3,5] x) => (float[N,3,5] y)
    <float x_min = {0}, float x_max = {6}>
    {
       y = Clip (x, x_min, x_max)
    }
    """
    assert check(RecognizeActivations(), hard(body), expected, exact=True).fired == ["min-and-max-to-clip"]


def test_relu6_before_opset_11_has_attributes(check):
    expected = "g (float[N,3,5] x) => (float[N,3,5] y) { y = Clip <min = 0.0, max = 6.0> (x) }"
    check(RecognizeActivations(), hard("r = Relu (x)\ny = Min (r, six)"), expected, opset=10)


@pytest.mark.parametrize(
    ("body", "replaced", "reason"),
    [
        ("r = Max (x, six)\ny = Min (r, zero)", {}, "the lower bound 6 lies above the upper bound 0"),
        ("r = Relu (x)\ny = Min (r, six)", {"=> (": "=> (float[N,3,5] r, "}, "a value inside of it is a graph output"),
        ("r = Max (x, zero)\ny = Min (r, six)", {"float": "int32"}, "its input is int32, expected float or float16"),
    ],
)
def test_what_is_nearly_a_clip_stays(check, body, replaced, reason):
    text = hard(body, **replaced)
    if "int32" in text:
        text = text.replace("{0.16666667}", "{0}").replace("{0.5}", "{0}")
    assert check(RecognizeActivations(), text, None).declined == [reason]


def test_silu_stays_and_is_reported(check):
    before = "g (float[N,3] x) => (float[N,3] y) { s = Sigmoid (x) y = Mul (x, s) }"
    assert check(RecognizeActivations(), before, None).declined == [
        "SiLU stays Sigmoid and Mul: runtimes have kernels for both, and Swish exists since opset 24 only"
    ]
