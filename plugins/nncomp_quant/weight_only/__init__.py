"""Weight-only quantization: products keep float activations and read integer weights, one scale a block of inputs."""
