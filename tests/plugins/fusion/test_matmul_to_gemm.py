"""matmul-to-gemm: where both operands are matrices, and only there."""

import pytest

from nncomp.targets import Capabilities, Int8Kernel, Int8Support
from nncomp_fusion.gemm import MatmulToGemm

TEXT = """
g (float[N,5] x) => (float[N,4] y)
<float[5,4] w, float{bias} b>
{{
   c = MatMul (x, w)
   y = Add ({operands})
}}
"""


@pytest.mark.parametrize("bias", ["", "[1]", "[4]", "[1,4]", "[1,1]"])
@pytest.mark.parametrize("operands", ["c, b", "b, c"])
def test_matmul_and_bias_become_gemm(check, bias, operands):
    expected = f"""
    g (float[N,5] x) => (float[N,4] y)
    <float[5,4] w, float{bias} b>
    {{
       y = Gemm (x, w, b)
    }}
    """
    outcome = check(MatmulToGemm(), TEXT.format(bias=bias, operands=operands), expected)
    assert outcome.fired == ["matmul-and-bias-to-gemm"]


def test_batched_products_stay(check):
    before = TEXT.format(bias="[4]", operands="c, b").replace("[N,5]", "[N,3,5]").replace("[N,4]", "[N,3,4]")
    assert check(MatmulToGemm(), before, None).declined == ["MatMul's first operand has rank 3, Gemm takes rank 2"]


def test_vectors_stay(check):
    before = TEXT.format(bias="", operands="c, b").replace("[N,4]", "[N]").replace("[5,4]", "[5]")
    assert check(MatmulToGemm(), before, None).declined == ["MatMul's second operand has rank 1, Gemm takes rank 2"]


def test_an_operand_that_differs_by_row_stays(check):
    before = TEXT.format(bias="[2,1]", operands="c, b")
    assert check(MatmulToGemm(), before, None).declined == [
        "the other operand of Add is float[2,1], expected one number a column"
    ]


def test_an_operand_that_widens_the_result_stays(check):
    before = TEXT.format(bias="[4]", operands="c, b").replace("[5,4] w", "[5,1] w")
    assert check(MatmulToGemm(), before, None).declined == [
        "the other operand of Add is float[4], MatMul has 1 columns"
    ]


def test_a_tapped_product_stays(check):
    before = TEXT.format(bias="[4]", operands="c, b").replace("=> (", "=> (float[N,4] c, ")
    assert check(MatmulToGemm(), before, None).declined == ["the value between them is a graph output"]


def test_integers_stay(check):
    before = TEXT.format(bias="[4]", operands="c, b").replace("float", "int32")
    assert check(MatmulToGemm(), before, None).declined == ["its operands are int32, which runtimes have no Gemm for"]


def test_a_target_that_only_multiplies_in_integers_as_matmul_is_respected(check):
    def target(*kinds):
        return Capabilities(10, (13, 21), Int8Support(kernels=dict.fromkeys(kinds, Int8Kernel())))

    before = TEXT.format(bias="[4]", operands="c, b")
    assert check(MatmulToGemm(), before, None, target=target("MatMul")).declined == [
        "the target runs MatMul in integers, but not Gemm"
    ]
    assert check(MatmulToGemm(), before, target=target("MatMul", "Gemm")).fired == ["matmul-and-bias-to-gemm"]
    assert check(MatmulToGemm(), before, target=Capabilities(10, (13, 21))).fired == ["matmul-and-bias-to-gemm"]
