"""Train a small VGG with large fully connected layers on MNIST, and write it as ONNX with data to compress it on.

Not a test, and nothing of nncomp is needed to run it. In an environment of its own:

    pip install numpy onnx torch
    python tests/dev/train_mnist_vgg.py mnist.npz FOLDER

``mnist.npz`` holds ``x_train``, ``y_train``, ``x_test`` and ``y_test`` as Keras ships them. FOLDER gets ``vgg.onnx``,
``calibration.npz`` (512 training images) and ``evaluation.npz`` (10,000 test images and their ``labels``). It takes a
few minutes on one CPU core.

Four convolutions of 3x3 (16, 16, 32, 32 channels; BatchNormalization is folded into them) and three fully connected
layers, 1568 -> 1024 -> 1024 -> 10: 99 % of the parameters are in the latter, as they are, mostly, in VGG-16. With
``--channels 64 128 256 --hidden 256`` most of the work is in six wide convolutions instead.
"""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from torch import Tensor, nn

SEED = 0
EPOCHS = 3
BATCH = 128
PEAK_LEARNING_RATE = 2e-3
CALIBRATION_SAMPLES = 512
IMAGE_SIZE = 28
DIGITS = 10

log = logging.getLogger("train_mnist_vgg")


def build_network(channels: Sequence[int], hidden: int) -> nn.Sequential:
    """Build the layers in order: two convolutions and a pool for each of ``channels``, then three dense layers."""
    layers: list[nn.Module] = []
    size, width = IMAGE_SIZE, 1
    for wider in channels:
        for read in (width, wider):
            layers += [nn.Conv2d(read, wider, 3, padding=1, bias=False), nn.BatchNorm2d(wider), nn.ReLU()]
        layers.append(nn.MaxPool2d(2))
        size, width = size // 2, wider
    layers.append(nn.Flatten())
    for read in (width * size * size, hidden):
        layers += [nn.Linear(read, hidden), nn.ReLU(), nn.Dropout(0.3)]
    return nn.Sequential(*layers, nn.Linear(hidden, DIGITS))


def train(network: nn.Sequential, x: Tensor, y: Tensor) -> nn.Sequential:
    """Train for a fixed number of epochs; the test images decide nothing."""
    random = torch.Generator().manual_seed(SEED)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.01)
    batches = len(x) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_LEARNING_RATE, total_steps=EPOCHS * batches)
    for epoch in range(EPOCHS):
        order = torch.randperm(len(x), generator=random)
        for batch in order[: batches * BATCH].view(batches, BATCH):
            loss = nn.functional.cross_entropy(network(x[batch]), y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        log.info("epoch %d of %d: loss %.4f", epoch + 1, EPOCHS, loss.item())
    return network.eval()


def accuracy(network: nn.Sequential, x: Tensor, y: Tensor) -> float:
    """Return the share of images whose largest logit is the right one."""
    with torch.no_grad():
        found = torch.cat([network(part).argmax(1) for part in x.split(500)])
    return float((found == y).double().mean())


def folded(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the weight and bias of a convolution with its BatchNormalization folded in."""
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    bias = norm.bias - norm.running_mean * scale
    return (conv.weight * scale[:, None, None, None]).detach().numpy(), bias.detach().numpy()


def build_model(network: nn.Sequential) -> onnx.ModelProto:
    """Write the network at inference, node by node."""
    nodes, constants = [], []
    value, number = "image", 0
    layers = list(network)

    def add(kind: str, name: str, *weights: NDArray[np.float32], **attributes: object) -> None:
        nonlocal value
        names = [f"{name}.{part}" for part, _ in zip(("weight", "bias"), weights, strict=False)]
        constants.extend(numpy_helper.from_array(array, one) for one, array in zip(names, weights, strict=True))
        nodes.append(helper.make_node(kind, [value, *names], [f"{name}_out"], name=name, **attributes))
        value = f"{name}_out"

    for at, layer in enumerate(layers):
        number += isinstance(layer, nn.Conv2d | nn.Linear)
        if isinstance(layer, nn.Conv2d):
            norm = layers[at + 1]
            assert isinstance(norm, nn.BatchNorm2d)
            add("Conv", f"conv{number}", *folded(layer, norm), kernel_shape=[3, 3], pads=[1, 1, 1, 1])
        elif isinstance(layer, nn.Linear):
            weights = layer.weight.detach().numpy(), layer.bias.detach().numpy()
            add("Gemm", f"fc{number}", *weights, transB=1)
        elif isinstance(layer, nn.ReLU):
            add("Relu", f"relu{number}")
        elif isinstance(layer, nn.MaxPool2d):
            add("MaxPool", f"pool{number}", kernel_shape=[2, 2], strides=[2, 2])
        elif isinstance(layer, nn.Flatten):
            add("Flatten", "flatten")
    nodes[-1].output[0] = "logits"
    graph = helper.make_graph(
        nodes,
        "mnist_vgg",
        [helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ["N", 1, 28, 28])],
        [helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["N", 10])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def main() -> None:
    """Train, say the accuracy on the test images, and write the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=60_000, help="training images to use")
    parser.add_argument("--channels", type=int, nargs="+", default=[16, 32], help="of each pair of convolutions")
    parser.add_argument("--hidden", type=int, default=1024, help="width of the dense layers")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)  # the order of a sum, and so the last bits of the weights, depend on it
    arrays = np.load(arguments.data)
    x, x_test = (np.asarray(arrays[key][:, None] / 255, np.float32) for key in ("x_train", "x_test"))
    y_test = arrays["y_test"].astype(np.int64)
    used = slice(arguments.images)
    torch.manual_seed(SEED)
    network = build_network(arguments.channels, arguments.hidden)
    train(network, torch.from_numpy(x[used]), torch.from_numpy(arrays["y_train"][used].astype(np.int64)))
    log.info("accuracy on the test images: %.4f", accuracy(network, torch.from_numpy(x_test), torch.from_numpy(y_test)))
    arguments.folder.mkdir(parents=True, exist_ok=True)
    onnx.save(build_model(network), arguments.folder / "vgg.onnx")
    np.savez_compressed(arguments.folder / "calibration.npz", image=x[:CALIBRATION_SAMPLES])
    np.savez_compressed(arguments.folder / "evaluation.npz", image=x_test, labels=y_test)


if __name__ == "__main__":
    main()
