"""Train the demo CNN on scikit-learn's digits and write ``nncomp/demo/digits.onnx`` and ``digits.npz``.

Not a test, and nothing of nncomp is needed to run it. From the repository root, in an environment of its own:

    pip install numpy onnx scikit-learn torch
    python tests/dev/train_digits.py

It takes about two minutes on one CPU core. The same machine and versions give the same bytes; another CPU or
torch may round differently, and then the weights differ while the accuracy stays about the same.

The ONNX graph is written node by node, not by ``torch.onnx``, so that its structure is chosen: it has what
exporters leave in a float graph and a compiler should clean up (BatchNormalization behind Conv, the Identity
of a Dropout, a Reshape that computes its shape, a Flatten of what is flat, Constant nodes), and what decides
about fast INT8 (a residual Add, a depthwise convolution, Relu6 as Clip, pooling as ReduceMean).
"""

import argparse
import logging
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn import functional

SEED = 0
EPOCHS = 30
BATCH = 64
PEAK_LEARNING_RATE = 4e-3
EVALUATION_SAMPLES = 450
CALIBRATION_SAMPLES = 200
OPSET = 17
IR_VERSION = 8
# Its inference loses the batch dimension at these two; with their shapes given, all others follow.
SHAPES_ONNX_CANNOT_INFER: dict[str, list[str | int]] = {"upsample": ["N", 32, 16, 16], "view": ["N", 64]}
DEMO_DIR = Path(__file__).parents[2] / "nncomp" / "demo"

log = logging.getLogger("train_digits")


class Split(NamedTuple):
    """Images (N, 1, 8, 8), float32 in [0, 1], and their digits (N,), int64."""

    x_train: NDArray[np.float32]
    y_train: NDArray[np.int64]
    x_evaluation: NDArray[np.float32]
    y_evaluation: NDArray[np.int64]


def load_split() -> Split:
    """Split the digits into training and held-out samples, each with the same share of every digit."""
    digits = load_digits()
    x = (digits.images[:, None] / 16).astype(np.float32)
    y = digits.target.astype(np.int64)
    x_train, x_evaluation, y_train, y_evaluation = train_test_split(
        x, y, test_size=EVALUATION_SAMPLES, stratify=y, random_state=SEED
    )
    return Split(x_train, y_train, x_evaluation, y_evaluation)


# --- the network, for training ---------------------------------------------------------------------------


def conv_bn(channels_in: int, channels_out: int, kernel: int, groups: int = 1) -> nn.Sequential:
    """Build a "same" convolution without bias and the BatchNormalization behind it."""
    conv = nn.Conv2d(channels_in, channels_out, kernel, padding=kernel // 2, groups=groups, bias=False)
    return nn.Sequential(OrderedDict(conv=conv, bn=nn.BatchNorm2d(channels_out)))


def build_network() -> nn.ModuleDict:
    """Build the layers; ``forward`` and ``build_model`` say how they are connected.

    Channels are multiples of 16. Most layers work at 16x16, for at 8x8 the fixed cost of each node would hide
    how much faster the INT8 convolutions are. The stem still sees the 8x8 image: CPUs without VNNI add two
    neighbouring u8*s8 products in 16 bits, and equal neighbours, as upsampling makes them, overflow those most.
    """
    return nn.ModuleDict(
        {
            "stem": conv_bn(1, 32, kernel=3),
            "widen": conv_bn(32, 48, kernel=3),
            "residual1": conv_bn(48, 48, kernel=3),
            "residual2": conv_bn(48, 48, kernel=3),
            "depthwise": conv_bn(48, 48, kernel=3, groups=48),
            "pointwise": conv_bn(48, 64, kernel=1),
            "dropout": nn.Dropout(0.2),
            "classifier": nn.Linear(64, 10),
        }
    )


def forward(network: nn.ModuleDict, image: Tensor) -> Tensor:
    """Compute the logits (N, 10) of images (N, 1, 8, 8); the same function as ``build_model``'s graph."""
    x = functional.relu(network["stem"](image))
    x = functional.interpolate(x, scale_factor=2, mode="nearest")
    x = functional.relu(network["widen"](x))
    inner = functional.relu(network["residual1"](x))
    x = functional.relu(network["residual2"](inner) + x)
    x = functional.max_pool2d(x, 2)
    x = functional.relu6(network["depthwise"](x))
    x = functional.relu6(network["pointwise"](x))
    logits: Tensor = network["classifier"](network["dropout"](x.mean((2, 3))))
    return logits


def shift_randomly(x: Tensor, random: torch.Generator) -> Tensor:
    """Shift each image (N, 1, 8, 8) by -1, 0 or 1 pixels along both axes; what comes in is background."""
    crops = functional.pad(x, (1, 1, 1, 1)).unfold(2, 8, 1).unfold(3, 8, 1)  # (N, 1, 3, 3, 8, 8)
    down, right = torch.randint(3, (2, len(x)), generator=random)
    return crops[torch.arange(len(x)), :, down, right]


def train(x: Tensor, y: Tensor) -> nn.ModuleDict:
    """Train for a fixed number of epochs; the held-out samples decide nothing."""
    torch.manual_seed(SEED)
    random = torch.Generator().manual_seed(SEED)
    network = build_network()
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.05)
    batches = len(x) // BATCH  # the samples that do not fill a batch sit out an epoch
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_LEARNING_RATE, EPOCHS * batches)
    for epoch in range(EPOCHS):
        order = torch.randperm(len(x), generator=random)
        for batch in order[: batches * BATCH].view(batches, BATCH):
            logits = forward(network, shift_randomly(x[batch], random))
            loss = functional.cross_entropy(logits, y[batch], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        log.info("epoch %2d of %d: loss %.4f", epoch + 1, EPOCHS, loss.item())
    return network.eval()


def accuracy(network: nn.ModuleDict, x: Tensor, y: Tensor) -> float:
    """Return the share of images whose largest logit is the right one."""
    with torch.no_grad():
        return float((forward(network, x).argmax(1) == y).double().mean())


# --- the network, as an ONNX graph -----------------------------------------------------------------------


class GraphWriter:
    """Collect nodes and initializers; each node has one output, which has the name of the node."""

    def __init__(self, weights: Mapping[str, NDArray[np.float32]]) -> None:
        """Take the trained weights by their torch names."""
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self._weights = weights

    def node(self, kind: str, name: str, *inputs: str, **attributes: Any) -> str:
        """Add a node and return the name of its output."""
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def constant(self, name: str, value: NDArray[Any]) -> str:
        """Add a Constant node."""
        return self.node("Constant", name, value=numpy_helper.from_array(value))

    def initializer(self, name: str, value: NDArray[Any]) -> str:
        """Add an initializer."""
        self.initializers.append(numpy_helper.from_array(value, name))
        return name

    def weight(self, torch_name: str) -> str:
        """Add a trained weight as an initializer, its name with underscores for dots."""
        return self.initializer(torch_name.replace(".", "_"), self._weights[torch_name])

    def conv_bn(self, name: str, x: str, groups: int = 1) -> str:
        """Add the Conv and BatchNormalization that ``conv_bn`` built for training."""
        kernel = self._weights[f"{name}.conv.weight"].shape[2]
        weight = self.weight(f"{name}.conv.weight")
        attributes = {"kernel_shape": [kernel] * 2, "pads": [kernel // 2] * 4, "group": groups}
        conv = self.node("Conv", f"{name}_conv", x, weight, **attributes)
        affine = [self.weight(f"{name}.bn.{part}") for part in ("weight", "bias", "running_mean", "running_var")]
        return self.node("BatchNormalization", f"{name}_bn", conv, *affine, epsilon=1e-5)

    def relu6(self, name: str, x: str) -> str:
        """Add a Clip whose bounds come from Constant nodes, as exporters write Relu6."""
        low = self.constant(f"{name}_min", np.array(0, np.float32))
        high = self.constant(f"{name}_max", np.array(6, np.float32))
        return self.node("Clip", name, x, low, high)


def write_upsample(graph: GraphWriter, x: str) -> str:
    """Add the Resize that doubles height and width."""
    scales = graph.initializer("upsample_scales", np.array([1, 1, 2, 2], np.float32))
    # These two attributes are what torch means by "nearest"; ONNX's defaults mean something else.
    nearest = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    return graph.node("Resize", "upsample", x, "", scales, mode="nearest", **nearest)


def write_features(graph: GraphWriter) -> str:
    """Add everything from the image to the features (N, 64, 1, 1)."""
    x = graph.node("Relu", "stem_relu", graph.conv_bn("stem", "image"))
    x = write_upsample(graph, x)
    x = graph.node("Relu", "widen_relu", graph.conv_bn("widen", x))
    inner = graph.node("Relu", "residual1_relu", graph.conv_bn("residual1", x))
    x = graph.node("Add", "residual_add", graph.conv_bn("residual2", inner), x)
    x = graph.node("Relu", "residual_relu", x)
    x = graph.node("MaxPool", "downsample", x, kernel_shape=[2, 2], strides=[2, 2])
    x = graph.relu6("depthwise_relu6", graph.conv_bn("depthwise", x, groups=48))
    x = graph.relu6("pointwise_relu6", graph.conv_bn("pointwise", x))
    return graph.node("ReduceMean", "pool", x, axes=[2, 3], keepdims=1)


def write_classifier(graph: GraphWriter, features: str) -> None:
    """Add everything from the features (N, 64, 1, 1) to the logits (N, 10).

    Reshape is ``x.view(-1, x.shape[1])``, with a shape that is computed though it is known; Flatten then has
    nothing to do, and Identity is the Dropout.
    """
    batch = graph.constant("batch_size", np.array([-1], np.int64))
    channels = graph.node("Shape", "channels", features, start=1, end=2)
    shape = graph.node("Concat", "view_shape", batch, channels, axis=0)
    x = graph.node("Reshape", "view", features, shape)
    x = graph.node("Flatten", "flatten", x, axis=1)
    x = graph.node("Identity", "dropout", x)
    parameters = graph.weight("classifier.weight"), graph.weight("classifier.bias")
    graph.node("Gemm", "logits", x, *parameters, transB=1)


def build_model(network: nn.ModuleDict) -> onnx.ModelProto:
    """Build the ONNX model of ``forward`` at inference, with the weights of ``network``."""
    writer = GraphWriter({name: weight.numpy() for name, weight in network.state_dict().items()})
    write_classifier(writer, write_features(writer))
    graph = helper.make_graph(
        writer.nodes,
        "digits",
        [helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ["N", 1, 8, 8])],
        [helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["N", 10])],
        writer.initializers,
        value_info=[
            helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
            for name, shape in SHAPES_ONNX_CANNOT_INFER.items()
        ],
    )
    opset = helper.make_opsetid("", OPSET)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION, producer_name="nncomp")
    onnx.checker.check_model(model, full_check=True)
    return onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)


# --- the command -----------------------------------------------------------------------------------------


def write_files(split: Split, network: nn.ModuleDict, folder: Path) -> None:
    """Write the model, and the data without the training samples that calibration does not need."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "digits.onnx").write_bytes(build_model(network).SerializeToString(deterministic=True))
    np.savez_compressed(
        folder / "digits.npz",
        x_calibration=split.x_train[:CALIBRATION_SAMPLES],
        x_evaluation=split.x_evaluation,
        y_evaluation=split.y_evaluation,
    )


def main() -> None:
    """Train, say the accuracy on the held-out samples, and write both files."""
    parser = argparse.ArgumentParser(description="Train the demo CNN and write its model and data.")
    parser.add_argument("--folder", type=Path, default=DEMO_DIR, help="where to write (default: nncomp/demo)")
    folder: Path = parser.parse_args().folder
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)  # the order of a sum, and so the last bits of the weights, depend on it
    torch.use_deterministic_algorithms(True)
    split = load_split()
    network = train(torch.from_numpy(split.x_train), torch.from_numpy(split.y_train))
    held_out = torch.from_numpy(split.x_evaluation), torch.from_numpy(split.y_evaluation)
    log.info("accuracy on %d held-out samples: %.4f", len(split.y_evaluation), accuracy(network, *held_out))
    write_files(split, network, folder)


if __name__ == "__main__":
    main()
