"""Small networks as users have them: each compiles and gives ONNX Runtime's numbers."""

import numpy as np
import pytest

IMAGES = {
    "unet": """
        g (float[1,3,16,16] x) => (float[] y)
        <float[8,3,3,3] w1, float[8,8,3,3] w2, float[8,8,2,2] up, float[8,16,3,3] w3, float[2,8,1,1] w4>
        { a = Conv <pads = [1,1,1,1]> (x, w1) b = Relu (a) p = MaxPool <kernel_shape = [2,2], strides = [2,2]> (b)
          c = Conv <pads = [1,1,1,1]> (p, w2) d = Relu (c) u = ConvTranspose <strides = [2,2]> (d, up)
          e = Concat <axis = 1> (u, b) f = Conv <pads = [1,1,1,1]> (e, w3) h = Relu (f)
          k = Conv (h, w4) y = Sigmoid (k) }
    """,
    "shufflenet": """
        g (float[1,16,7,7] x) => (float[] y)
        <float[16,4,1,1] w1, float[16,1,3,3] w2, int64[5] apart = {0,4,4,7,7}, int64[4] whole = {0,16,7,7},
         int64[2] half = {8,8}>
        { a = Conv <group = 4> (x, w1) b = Reshape (a, apart) c = Transpose <perm = [0,2,1,3,4]> (b)
          d = Reshape (c, whole) e = Conv <group = 16, pads = [1,1,1,1]> (d, w2) l, r = Split <axis = 1> (e, half)
          y = Concat <axis = 1> (r, l) }
    """,
    "mobilenet with squeeze and excitation": """
        g (float[1,3,16,16] x) => (float[] y)
        <float[16,3,3,3] w0, float[16,1,5,5] w1, float[4,16,1,1] f1, float[16,4,1,1] f2, float[10,16] head>
        { a = Conv <pads = [1,1,1,1], strides = [2,2]> (x, w0) b = HardSwish (a)
          c = Conv <group = 16, pads = [2,2,2,2]> (b, w1) p = GlobalAveragePool (c) q = Conv (p, f1) r = Relu (q)
          s = Conv (r, f2) t = HardSigmoid (s) u = Mul (c, t) v = GlobalAveragePool (u) w = Flatten (v)
          y = Gemm <transB = 1> (w, head) }
    """,
    "convnext": """
        g (float[1,16,7,7] x) => (float[] y)
        <float[16,1,7,7] w, float[16] scale, float[16] shift, float[16,32] w1, float[32] b1, float[32,16] w2>
        { a = Conv <group = 16, pads = [3,3,3,3]> (x, w) t = Transpose <perm = [0,2,3,1]> (a)
          n = LayerNormalization (t, scale, shift) h = MatMul (n, w1) i = Add (h, b1) k = Gelu (i) o = MatMul (k, w2)
          b = Transpose <perm = [0,3,1,2]> (o) y = Add (x, b) }
    """,
    "feature pyramid": """
        g (float[1,8,15,13] x, float[1,8,8,8] z) => (float[] y)
        <float[8,8,1,1] w3, float[8,8,1,1] w4, int64[1] zero = {0}, int64[1] two = {2}, int64[1] four = {4}>
        { a = Conv (x, w3) b = Conv (z, w4) s = Shape (a) hw = Slice (s, two, four, zero) t = Shape (b)
          nc = Slice (t, zero, two, zero) size = Concat <axis = 0> (nc, hw)
          u = Resize <mode = "linear", coordinate_transformation_mode = "pytorch_half_pixel"> (b, , , size)
          y = Add (a, u) }
    """,
    "super-resolution": """
        g (float[1,1,10,10] x) => (float[] y) <float[8,1,5,5] w1, float[9,8,3,3] w2>
        { a = Conv <pads = [2,2,2,2]> (x, w1) b = Relu (a) c = Conv <pads = [1,1,1,1]> (b, w2)
          y = DepthToSpace <blocksize = 3, mode = "CRD"> (c) }
    """,
    "causal convolutions": """
        g (float[1,4,20] x) => (float[] y) <float[8,4,3] w1, float[8,4,1] w3, int64[6] pads = {0,0,8,0,0,0}>
        { p = Pad (x, pads) a = Conv <dilations = [4]> (p, w1) r = Tanh (a) s = Conv (x, w3) t = Sigmoid (s)
          y = Mul (r, t) }
    """,
    "volumes": """
        g (float[1,2,4,8,8] x) => (float[] y) <float[4,2,3,3,3] w1, float[5,4] f>
        { a = Conv <pads = [1,1,1,1,1,1], strides = [1,2,2]> (x, w1) r = Relu (a)
          p = MaxPool <kernel_shape = [1,2,2], strides = [1,2,2]> (r) g = GlobalAveragePool (p) h = Flatten (g)
          y = Gemm <transB = 1> (h, f) }
    """,
}


@pytest.mark.parametrize("text", IMAGES.values(), ids=IMAGES)
def test_networks_of_images_and_signals(agrees, text):
    agrees(text, opset=20)


def test_a_decoder_with_a_cache_of_keys_and_values(agrees):
    rng = np.random.default_rng(0)
    past = {name: rng.standard_normal((1, 4, 5, 4)).astype(np.float32) for name in ("pk", "pv")}
    agrees(
        """
        g (int64[N,T] ids, float[N,4,P,4] pk, float[N,4,P,4] pv) => (float[] y, float[] nk, float[] nv)
        <float[30,16] table, float[16,16] wq, float[16,16] wk, float[16,16] wv, float root = {2}, float low = {-3.4e38},
         int64[4] heads = {0,0,4,4}, int64[3] flat = {0,0,16}, int64 two = {2}, int64 three = {3}, int64[1] zero = {0}>
        { x = Gather (table, ids) q = MatMul (x, wq) k = MatMul (x, wk) v = MatMul (x, wv)
          qh = Reshape (q, heads) qt = Transpose <perm = [0,2,1,3]> (qh) kh = Reshape (k, heads)
          kt = Transpose <perm = [0,2,1,3]> (kh) vh = Reshape (v, heads) vt = Transpose <perm = [0,2,1,3]> (vh)
          nk = Concat <axis = 2> (pk, kt) nv = Concat <axis = 2> (pv, vt) back = Transpose <perm = [0,1,3,2]> (nk)
          s = MatMul (qt, back) d = Div (s, root) shape = Shape (d) t = Gather (shape, two) m = Gather (shape, three)
          tu = Unsqueeze (t, zero) mu = Unsqueeze (m, zero) size = Concat <axis = 0> (tu, mu)
          ones = ConstantOfShape <value = float[1] {1}> (size) past = Sub (m, t) seen = Trilu <upper = 0> (ones, past)
          keep = Cast <to = 9> (seen) masked = Where (keep, d, low) p = Softmax <axis = -1> (masked) o = MatMul (p, nv)
          ot = Transpose <perm = [0,2,1,3]> (o) r = Reshape (ot, flat) e = Transpose <perm = [1,0]> (table)
          y = MatMul (r, e) }
        """,
        {"ids": np.array([[1, 2, 3]]), **past},
        opset=17,
        data=True,
    )


def test_a_llama_block_of_opset_24(agrees):
    agrees(
        """
        g (float[2,6,16] x, int64[2,6] at) => (float[] y)
        <float[16] scale, float[16,16] wq, float[16,8] wk, float[16,8] wv, float[32,2] cos, float[32,2] sin,
         float[16,32] wg, float[16,32] wu, float[32,16] wd>
        { n = RMSNormalization (x, scale) q = MatMul (n, wq) k = MatMul (n, wk) v = MatMul (n, wv)
          c = Gather (cos, at) s = Gather (sin, at) qr = RotaryEmbedding <num_heads = 4> (q, c, s)
          kr = RotaryEmbedding <num_heads = 2> (k, c, s)
          a = Attention <is_causal = 1, q_num_heads = 4, kv_num_heads = 2> (qr, kr, v) r = Add (a, x)
          g = MatMul (r, wg) h = Swish (g) u = MatMul (r, wu) m = Mul (h, u) d = MatMul (m, wd) y = Add (d, r) }
        """,
        {
            "x": np.random.default_rng(0).standard_normal((2, 6, 16)).astype(np.float32),
            "at": np.tile(np.arange(6), (2, 1)),
        },
        opset=24,
    )
