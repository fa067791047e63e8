"""Export networks with random weights, to try what works on any graph (pruning, cleanup) on what people really build.

    python tests/dev/export_architectures.py OUT [--only NAME ...] [--exporter torchscript|dynamo|both]

Needs torch and torchvision (and onnxscript for the dynamo exporter), which nncomp does not: run it in an environment of
its own. Inputs are small, so that a run on ONNX Runtime costs little; weights are random, statistics of
BatchNormalization too, so that no two channels are alike. Each network is exported with a fixed and with a free batch.
"""

from __future__ import annotations

import argparse
import math
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional

Example = tuple[Tensor, ...]


class UNet(nn.Module):
    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.down = nn.ModuleList(
            [self.block(3, width), self.block(width, 2 * width), self.block(2 * width, 4 * width)]
        )
        self.up = nn.ModuleList([
            nn.ConvTranspose2d(4 * width, 2 * width, 2, 2), nn.ConvTranspose2d(2 * width, width, 2, 2),
        ])  # fmt: skip
        self.join = nn.ModuleList([self.block(4 * width, 2 * width), self.block(2 * width, width)])
        self.head = nn.Conv2d(width, 2, 1)

    @staticmethod
    def block(inputs: int, outputs: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1), nn.ReLU(),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        one = self.down[0](x)
        two = self.down[1](functional.max_pool2d(one, 2))
        three = self.down[2](functional.max_pool2d(two, 2))
        y = self.join[0](torch.cat([two, self.up[0](three)], 1))
        y = self.join[1](torch.cat([one, self.up[1](y)], 1))
        return self.head(y)


class PixelShuffleNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1), nn.PReLU(16), nn.Conv2d(16, 32, 3, padding=1), nn.PixelShuffle(2),
            nn.Conv2d(8, 8, 3, padding=1), nn.PixelUnshuffle(2), nn.Conv2d(32, 12, 3, padding=1), nn.PixelShuffle(2),
        )  # fmt: skip
        self.head = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x)) + functional.interpolate(x, scale_factor=2.0, mode="nearest")


class EinsumBlock(nn.Module):
    """Squeeze and excitation, and attention, both written with einsum."""

    def __init__(self, width: int = 24, heads: int = 3) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 4, 4)
        self.squeeze, self.excite = nn.Linear(width, 8), nn.Linear(8, width)
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)
        self.mix = nn.Parameter(torch.randn(width, 5))
        self.heads = heads

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        gate = torch.sigmoid(self.excite(torch.relu(self.squeeze(x.mean((2, 3))))))
        x = torch.einsum("bchw,bc->bchw", x, gate)
        x = x.flatten(2).transpose(1, 2)
        b, n, _ = x.shape
        q, k, v = (layer(x).view(b, n, self.heads, -1) for layer in (self.query, self.key, self.value))
        scores = torch.einsum("bnhd,bmhd->bhnm", q, k).softmax(-1)
        y = self.out(torch.einsum("bhnm,bmhd->bnhd", scores, v).reshape(b, n, -1))
        return torch.einsum("bnc,ck->bnk", y, self.mix)


class Decoder(nn.Module):
    """Blocks of RMS norm, grouped-query attention with rotary embedding, and SwiGLU, as in today's language models."""

    def __init__(self, width: int = 48, heads: int = 6, groups: int = 2, layers: int = 2, vocabulary: int = 50) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.blocks = nn.ModuleList([DecoderBlock(width, heads, groups) for _ in range(layers)])
        self.norm = RmsNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


class RmsNorm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(width) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)


class DecoderBlock(nn.Module):
    def __init__(self, width: int, heads: int, groups: int) -> None:
        super().__init__()
        self.heads, self.groups, self.depth = heads, groups, width // heads
        self.before, self.between = RmsNorm(width), RmsNorm(width)
        self.query = nn.Linear(width, heads * self.depth, bias=False)
        self.key = nn.Linear(width, groups * self.depth, bias=False)
        self.value = nn.Linear(width, groups * self.depth, bias=False)
        self.out = nn.Linear(heads * self.depth, width, bias=False)
        self.gate, self.up = nn.Linear(width, 4 * width, bias=False), nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear(4 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        b, n, width = x.shape
        y = self.before(x)
        q = self.query(y).view(b, n, self.heads, self.depth).transpose(1, 2)
        k = self.key(y).view(b, n, self.groups, self.depth).transpose(1, 2)
        v = self.value(y).view(b, n, self.groups, self.depth).transpose(1, 2)
        angles = torch.arange(n, dtype=torch.float32)[:, None] * (
            100.0 ** (-torch.arange(0, self.depth, 2, dtype=torch.float32) / self.depth)
        )
        cos, sin = torch.cat([angles.cos()] * 2, -1), torch.cat([angles.sin()] * 2, -1)
        q, k = q * cos + self.rotated(q) * sin, k * cos + self.rotated(k) * sin
        repeats = self.heads // self.groups
        k = k[:, :, None].expand(b, self.groups, repeats, n, self.depth).reshape(b, self.heads, n, self.depth)
        v = v[:, :, None].expand(b, self.groups, repeats, n, self.depth).reshape(b, self.heads, n, self.depth)
        mask = torch.full((n, n), -1e9).triu(1)
        scores = (q @ k.transpose(-1, -2) / math.sqrt(self.depth) + mask).softmax(-1)
        x = x + self.out((scores @ v).transpose(1, 2).reshape(b, n, width))
        y = self.between(x)
        return x + self.down(functional.silu(self.gate(y)) * self.up(y))

    @staticmethod
    def rotated(x: Tensor) -> Tensor:
        half = x.shape[-1] // 2
        return torch.cat([-x[..., half:], x[..., :half]], -1)


class GroupNormNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1), nn.GroupNorm(4, 16), nn.SiLU(),
            nn.Conv2d(16, 24, 3, padding=1, groups=4), nn.GroupNorm(6, 24), nn.SiLU(),
            nn.Conv2d(24, 24, 3, padding=1), nn.InstanceNorm2d(24, affine=True), nn.Hardswish(),
            nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(96, 20), nn.ELU(), nn.Linear(20, 7),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


class Generator(nn.Module):
    """Transposed convolutions, dense, grouped and depthwise."""

    def __init__(self) -> None:
        super().__init__()
        self.start = nn.Linear(10, 16 * 4 * 4)
        self.body = nn.Sequential(
            nn.BatchNorm2d(16), nn.ReLU(), nn.ConvTranspose2d(16, 24, 4, 2, 1), nn.BatchNorm2d(24), nn.LeakyReLU(0.2),
            nn.ConvTranspose2d(24, 24, 4, 2, 1, groups=24), nn.ReLU(), nn.ConvTranspose2d(24, 16, 3, 1, 1, groups=4),
            nn.ReLU(), nn.Conv2d(16, 3, 3, padding=1), nn.Tanh(),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self.start(x).view(-1, 16, 4, 4))


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.RNNBase], *, both: bool) -> None:
        super().__init__()
        self.front = nn.Conv1d(4, 10, 3, padding=1)
        self.layers = kind(10, 12, num_layers=2, batch_first=True, bidirectional=both)
        self.head = nn.Sequential(nn.Linear(24 if both else 12, 9), nn.ReLU(), nn.Linear(9, 3))

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.layers(self.front(x).transpose(1, 2))
        return self.head(y[:, -1])


class Mixer(nn.Module):
    """MLP-Mixer: layers over positions and over channels in turn."""

    def __init__(self, width: int = 24, positions: int = 16) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 8, 8)
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.over_positions = nn.Sequential(nn.Linear(positions, 20), nn.GELU(), nn.Linear(20, positions))
        self.over_channels = nn.Sequential(nn.Linear(width, 40), nn.GELU(approximate="tanh"), nn.Linear(40, width))
        self.head = nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).flatten(2).transpose(1, 2)
        x = x + self.over_positions(self.norms[0](x).transpose(1, 2)).transpose(1, 2)
        x = x + self.over_channels(self.norms[1](x))
        return self.head(x.mean(1))


class Transformer(nn.Module):
    """torch's own encoder layers, with packed projections."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(30, 32)
        layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, activation="gelu")
        self.body = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(32, 4)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.body(self.embedding(tokens))[:, 0])


class ScaledAttention(nn.Module):
    """Packed projection of query, key and value, and torch's fused attention."""

    def __init__(self, width: int = 32, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.norm, self.packed, self.out = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.stem, self.head = nn.Linear(6, width), nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        b, n, c = x.shape
        q, k, v = (
            self.packed(self.norm(x)).reshape(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        )
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.head(x + self.out(y.transpose(1, 2).reshape(b, n, c)))


class Detector(nn.Module):
    """A backbone with a split, a feature pyramid, and heads that are joined, as one-stage detectors have."""

    def __init__(self, width: int = 16, classes: int = 4) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, 2, 1), nn.BatchNorm2d(width), nn.SiLU())
        self.split = nn.Sequential(nn.Conv2d(width, width, 1), nn.SiLU())
        self.inner = nn.Sequential(nn.Conv2d(width // 2, width // 2, 3, padding=1), nn.SiLU())
        self.fuse = nn.Sequential(nn.Conv2d(width + width // 2, width, 1), nn.SiLU())
        self.deeper = nn.Sequential(nn.Conv2d(width, 2 * width, 3, 2, 1), nn.BatchNorm2d(2 * width), nn.SiLU())
        self.lateral = nn.Conv2d(2 * width, width, 1)
        self.heads = nn.ModuleList(
            [nn.Conv2d(2 * width, 3 * (5 + classes), 1), nn.Conv2d(2 * width, 3 * (5 + classes), 1)]
        )
        self.classes = classes

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        left, right = self.split(x).chunk(2, 1)
        one = self.fuse(torch.cat([left, right, right + self.inner(right)], 1))
        two = self.deeper(one)
        up = functional.interpolate(self.lateral(two), scale_factor=2.0, mode="bilinear")
        found = []
        for head, level in zip(self.heads, (torch.cat([one, up], 1), two), strict=True):
            y = head(level)
            b, _, h, w = y.shape
            found.append(y.view(b, 3, 5 + self.classes, h, w).permute(0, 1, 3, 4, 2).reshape(b, -1, 5 + self.classes))
        y = torch.cat(found, 1)
        return torch.cat([y[..., :4].sigmoid() * 32, y[..., 4:].sigmoid()], -1)


def image(size: int = 32) -> Example:
    return (torch.randn(2, 3, size, size),)


def tokens(vocabulary: int, length: int = 8) -> Example:
    return (torch.randint(0, vocabulary, (2, length)),)


VISION = {
    "vgg11_bn": (lambda: torchvision.models.vgg11_bn(num_classes=10), 32),
    "resnet18": (lambda: torchvision.models.resnet18(num_classes=10), 32),
    "resnet50": (lambda: torchvision.models.resnet50(num_classes=10), 32),
    "resnext50_32x4d": (lambda: torchvision.models.resnext50_32x4d(num_classes=10), 32),
    "regnet_x_400mf": (lambda: torchvision.models.regnet_x_400mf(num_classes=10), 32),
    "regnet_y_400mf": (lambda: torchvision.models.regnet_y_400mf(num_classes=10), 32),
    "mobilenet_v2": (lambda: torchvision.models.mobilenet_v2(num_classes=10), 32),
    "mobilenet_v3_small": (lambda: torchvision.models.mobilenet_v3_small(num_classes=10), 32),
    "mobilenet_v3_large": (lambda: torchvision.models.mobilenet_v3_large(num_classes=10), 32),
    "efficientnet_b0": (lambda: torchvision.models.efficientnet_b0(num_classes=10), 32),
    "efficientnet_v2_s": (lambda: torchvision.models.efficientnet_v2_s(num_classes=10), 32),
    "shufflenet_v2_x1_0": (lambda: torchvision.models.shufflenet_v2_x1_0(num_classes=10), 32),
    "densenet121": (lambda: torchvision.models.densenet121(num_classes=10), 32),
    "googlenet": (lambda: torchvision.models.googlenet(num_classes=10, aux_logits=False, init_weights=False), 64),
    "inception_v3": (lambda: torchvision.models.inception_v3(num_classes=10, aux_logits=False, init_weights=False), 75),
    "mnasnet1_0": (lambda: torchvision.models.mnasnet1_0(num_classes=10), 32),
    "squeezenet1_1": (lambda: torchvision.models.squeezenet1_1(num_classes=10), 64),
    "alexnet": (lambda: torchvision.models.alexnet(num_classes=10), 64),
    "convnext_tiny": (lambda: torchvision.models.convnext_tiny(num_classes=10), 32),
    "vit": (
        lambda: torchvision.models.VisionTransformer(
            image_size=32, patch_size=8, num_layers=3, num_heads=4, hidden_dim=64, mlp_dim=128, num_classes=10
        ),
        32,
    ),
    "swin": (
        lambda: torchvision.models.SwinTransformer(
            [4, 4], embed_dim=24, depths=[2, 2, 2], num_heads=[2, 4, 8], window_size=[4, 4], num_classes=10
        ),
        64,
    ),
    "swin_v2": (
        lambda: torchvision.models.SwinTransformer(
            [4, 4], embed_dim=24, depths=[2, 2], num_heads=[2, 4], window_size=[4, 4], num_classes=10,
            block=torchvision.models.swin_transformer.SwinTransformerBlockV2,
            downsample_layer=torchvision.models.swin_transformer.PatchMergingV2,
        ),
        64,
    ),
    "maxvit": (
        lambda: torchvision.models.MaxVit(
            input_size=(64, 64), stem_channels=16, partition_size=4, block_channels=[16, 32], block_layers=[1, 1],
            head_dim=8, stochastic_depth_prob=0.0, num_classes=10,
        ),
        64,
    ),
    "lraspp": (
        lambda: Only(
            torchvision.models.segmentation.lraspp_mobilenet_v3_large(weights_backbone=None, num_classes=5), "out"
        ),
        64,
    ),
    "deeplab": (
        lambda: Only(
            torchvision.models.segmentation.deeplabv3_mobilenet_v3_large(weights_backbone=None, num_classes=5), "out"
        ),
        64,
    ),
}  # fmt: skip


class Only(nn.Module):
    """One of several outputs."""

    def __init__(self, inner: nn.Module, name: str) -> None:
        super().__init__()
        self.inner, self.name = inner, name

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)[self.name]


def networks() -> dict[str, tuple[Callable[[], nn.Module], Callable[[], Example]]]:
    """Return how to build each network, and an example of its inputs."""
    found: dict[str, tuple[Callable[[], nn.Module], Callable[[], Example]]] = {
        name: (build, lambda size=size: image(size)) for name, (build, size) in VISION.items()
    }
    found |= {
        "unet": (UNet, image),
        "pixelshuffle": (PixelShuffleNet, lambda: image(16)),
        "einsum": (EinsumBlock, image),
        "decoder": (Decoder, lambda: tokens(50)),
        "groupnorm": (GroupNormNet, lambda: image(16)),
        "generator": (Generator, lambda: (torch.randn(2, 10),)),
        "lstm": (lambda: Recurrent(nn.LSTM, both=False), lambda: (torch.randn(2, 4, 11),)),
        "bilstm": (lambda: Recurrent(nn.LSTM, both=True), lambda: (torch.randn(2, 4, 11),)),
        "gru": (lambda: Recurrent(nn.GRU, both=True), lambda: (torch.randn(2, 4, 11),)),
        "mixer": (Mixer, image),
        "transformer": (Transformer, lambda: tokens(30)),
        "scaled_attention": (ScaledAttention, lambda: (torch.randn(2, 9, 6),)),
        "detector": (Detector, image),
    }
    return found


def randomize(model: nn.Module) -> None:
    """Give BatchNormalization statistics and affine maps that no two channels share."""
    for name, parameter in model.named_parameters():
        if "layer_scale" in name:  # ConvNeXt starts its blocks at nothing
            nn.init.uniform_(parameter, 0.5, 1.5)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.GroupNorm | nn.LayerNorm | nn.InstanceNorm2d):
            if module.weight is not None:
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, 0, 0.2)
            if getattr(module, "running_mean", None) is not None:
                nn.init.normal_(module.running_mean, 0, 0.2)
                nn.init.uniform_(module.running_var, 0.5, 1.5)


def export(name: str, folder: Path, *, dynamo: bool, free_batch: bool) -> Path:
    """Write one network; return where."""
    torch.manual_seed(0)
    build, example = networks()[name]
    model, inputs = build().eval(), example()
    randomize(model)
    path = folder / f"{name}.{'dynamo' if dynamo else 'script'}{'.batch' if free_batch else ''}.onnx"
    if dynamo:
        shapes = tuple({0: torch.export.Dim("batch", min=1, max=64)} for _ in inputs) if free_batch else None
        program = torch.onnx.export(model, inputs, dynamo=True, dynamic_shapes=shapes, verbose=False)
        program.save(str(path), external_data=False)
    else:
        axes = {"input": {0: "batch"}, "output": {0: "batch"}} if free_batch else None
        torch.onnx.export(
            model, inputs, str(path), dynamo=False, input_names=["input"], output_names=["output"], dynamic_axes=axes
        )
    return path


def main() -> None:
    """Export what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", nargs="*", default=sorted(networks()))
    parser.add_argument("--exporter", choices=("torchscript", "dynamo", "both"), default="torchscript")
    parser.add_argument("--batch", choices=("fixed", "free", "both"), default="both")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    warnings.filterwarnings("ignore")
    exporters = {"torchscript": [False], "dynamo": [True], "both": [False, True]}[given.exporter]
    batches = {"fixed": [False], "free": [True], "both": [False, True]}[given.batch]
    for name in given.only:
        for dynamo in exporters:
            for free_batch in batches:
                try:
                    print(export(name, given.out, dynamo=dynamo, free_batch=free_batch).name, flush=True)
                except Exception as error:  # noqa: BLE001  whatever an exporter throws: the others are still wanted
                    print(f"{name} {'dynamo' if dynamo else 'torchscript'}: {str(error).strip()[:200]!r}", flush=True)


if __name__ == "__main__":
    main()
