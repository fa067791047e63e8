"""Axes rules: how each op's outputs inherit the labels of its inputs, and what it ties, pins and contracts."""
