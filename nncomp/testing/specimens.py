"""Specimens: small graphs with what models hold and passes forget: bodies, empty axes, open sizes, missing names."""

from __future__ import annotations

from typing import Final

import numpy as np

from nncomp.ir import Graph
from nncomp.testing.builders import graph

_TEXTS: Final = {
    "a convolution and all that follows it, for any batch": """
        g (float[N,2,6,6] x) => (float[N,3] y)
        <float[4,2,3,3] w, float[4] scale, float[4] shift, float[4] mean, float[4] var, float[3,4] v, float[3] bias>
        {
            c = Conv <pads = [1, 1, 1, 1]> (x, w)
            n = BatchNormalization (c, scale, shift, mean, var)
            r = Relu (n)
            p = GlobalAveragePool (r)
            f = Flatten (p)
            y = Gemm <transB = 1> (f, v, bias)
        }""",
    "matrix products with open sizes": """
        g (float[N,M,4] x, float[N,3] t) => (float[N,M,3] y, float[N,4] u)
        <float[4,4] w, float[4] bias, float[4,3] v, float[3,4] k>
        {
            a = MatMul (x, w)
            b = Add (a, bias)
            c = Relu (b)
            y = MatMul (c, v)
            d = MatMul (t, k)
            u = Add (d, bias)
        }""",
    "sizes that are computed": """
        g (float[N,2,3] x) => (float[N,6] y)
        <int64 zero = {0}, int64[1] rest = {-1}, int64[1] axes = {0}>
        {
            s = Shape (x)
            n = Gather (s, zero)
            m = Unsqueeze (n, axes)
            t = Concat <axis = 0> (m, rest)
            r = Reshape (x, t)
            y = Identity (r)
        }""",
    "a branch whose bodies read from outside": """
        g (float[2,4] x, bool go) => (float[2,4] y)
        <float[4,4] w>
        {
            h = MatMul (x, w)
            y = If (go) <
                then_branch = t () => (float[2,4] a) <float[4,4] inner> { b = Relu (h)  a = MatMul (b, inner) },
                else_branch = e () => (float[2,4] c) { d = Neg (h)  c = Identity (d) }
            >
        }""",
    "a loop that carries a value": """
        g (float[2,4] x) => (float[2,4] y)
        <int64 times = {3}, bool on = {1}, float[4,4] w>
        {
            y = Loop (times, on, x) <
                body = b (int64 i, bool c, float[2,4] s) => (bool d, float[2,4] t)
                    { d = Identity (c)  u = MatMul (s, w)  t = Tanh (u) }
            >
        }""",
    "axes without elements": """
        g (float[0,4] x) => (float[0,8] y, float[1,4] z)
        <float[0,4] nothing, float[4,8] w, int64[1] axes = {0}>
        {
            a = Concat <axis = 0> (x, nothing)
            y = MatMul (a, w)
            z = ReduceSum (x, axes)
        }""",
    "skipped inputs and outputs that nobody reads": """
        g (float[3,4] x) => (float[3,2] y)
        <float most = {1.0}, int64[1] k = {2}>
        {
            a, mask = Dropout (x)
            b = Clip (a, , most)
            y, indices = TopK <axis = 1> (b, k)
            unread = Neg (b)
        }""",
    "a weight of some size": """
        g (float[N,16] x) => (float[N,20] y)
        <float[16,20] w>
        {
            a = MatMul (x, w)
            y = LeakyRelu (a)
        }""",
    "weights that are shared": """
        g (float[2,4] x) => (float[2,4] y)
        <float[4,4] w>
        {
            a = MatMul (x, w)
            b = Relu (a)
            c = MatMul (b, w)
            y = Gemm <transB = 1> (c, w)
        }""",
    "values that are read and given out": """
        g (float[2,4] x) => (float[2,4] a, float[2,4] copy, float[2,4] b, float[4] w)
        <float[4] w>
        {
            a = Relu (x)
            copy = Identity (a)
            b = Mul (a, w)
        }""",
    "an input that may be left out": """
        g (float[2,4] x, float[4] bias = {1, 2, 3, 4}) => (float[2,4] y)
        {
            a = Add (x, bias)
            y = Relu (a)
        }""",
    "padding, scales and pieces of activations": """
        g (float[1,2,4,4] x) => (float[1,2] y, float[1,2,4,4] z)
        <
            int64[8] pads = {0, 0, 1, 1, 0, 0, 1, 1}, float[3,2,3,3] w, float[3,1,1] scale, float[2,3,1,1] v,
            float three = {3.0}, float zero = {0.0}, float six = {6.0}, float one = {1.0}
        >
        {
            p = Pad (x, pads)
            c = Conv (p, w)
            m = Mul (c, scale)
            r = Relu (m)
            d = Conv (r, v)
            s = Add (d, three)
            k = Clip (s, zero, six)
            h = Mul (d, k)
            z = Div (h, six)
            mean = ReduceMean <axes = [2, 3], keepdims = 0> (z)
            y = Mul (mean, one)
        }""",
    "constants that ops make, and a branch that is never taken": """
        g (float[2,4] x) => (float[2,4] y)
        {
            w = Constant <value = float[4] {1, 2, 3, 4}> ()
            go = Constant <value = bool {1}> ()
            a = Mul (x, w)
            y = If (go) <
                then_branch = t () => (float[2,4] b) { b = Add (a, w) },
                else_branch = e () => (float[2,4] c) { c = Sub (a, w) }
            >
        }""",
    "a function of the model": """
        g (float[2,4] x) => (float[2,4] y)
        <float[4,4] w>
        {
            a = MatMul (x, w)
            b = local.twice (a)
            y = local.twice (b)
        }
        <opset_import: ["" : 17], domain: "local"> twice (a) => (b) { b = Add (a, a) }""",
    "an op that nobody knows": """
        g (float[2,4] x) => (float[2,4] y)
        <float[4,4] w>
        {
            a = MatMul (x, w)
            b = com.example.Mystery <mode = "odd"> (a, w)
            y = Relu (b)
        }""",
    "integers and half precision": """
        g (int64[2,3] i, float16[2,3] h) => (int64[2,3] j, float16[2,3] k)
        <int64[3] one, float16[3] w>
        {
            a = Neg (i)
            b = Neg (a)
            j = Add (b, one)
            c = Mul (h, w)
            k = Relu (c)
        }""",
    "a graph that is quantized already": """
        g (float[2,4] x) => (float[2,4] y)
        <float s = {0.05}, uint8 z = {128}, int8[4,4] w, float t = {0.01}, int8 zero = {0}>
        {
            a = QuantizeLinear (x, s, z)
            b = DequantizeLinear (a, s, z)
            v = DequantizeLinear (w, t, zero)
            y = MatMul (b, v)
        }""",
}


def specimens() -> dict[str, Graph]:
    """Return the specimens by what is odd about them, made anew; all but the op that nobody knows run on ONNX Runtime.

    In all of them nodes have no names. Open dimensions are called N and M.
    """
    found = {label: graph(text) for label, text in _TEXTS.items()}
    found["names with odd characters"] = _oddly_named()
    return found


def _oddly_named() -> Graph:
    made = graph("g (float[2,4] x) => (float[2,4] y) <float[4,4] w> { a = MatMul (x, w)  b = Neg (a)  y = Relu (b) }")
    for name, odd in (("w", "module/weight:0"), ("a", 'quoted "a"'), ("b", "schräg <b> & mehr"), ("y", "out/y:0")):
        made.rename(made.find(name), odd)
    made.add_constant("", np.zeros(3, np.float32))
    return made
