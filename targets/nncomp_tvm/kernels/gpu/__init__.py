"""Kernels for NVIDIA GPUs, written as TIR with blocks and threads: products of bytes by ``dp4a``, and float32."""
