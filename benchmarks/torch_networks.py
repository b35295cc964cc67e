"""Four networks of `keras.applications` as plain PyTorch modules, for benchmarks of peers.

What is measured with them is elsewhere, in `peer_torch_pruning.py`. To use them, install PyTorch:

    pip install torch==2.13.0

Layers, widths, strides and feature map sizes are those of `keras.applications` with 1000 classes.
Four details are those of PyTorch instead, and none of them changes what a pruner has to do: batch
norm always has a scale (Keras's InceptionV3 leaves it out), convolutions followed by batch norm
have no bias (Keras's ResNet50 gives them one), strided convolutions pad both sides alike (Keras's
MobileNet pads the far side only), and the networks put out logits. Weights are random.
"""

from itertools import pairwise

import torch
from torch import nn

__all__ = ["NETWORKS", "inception_v3", "mobilenet", "resnet50", "vgg16"]

ROW, COLUMN = (1, 7), (7, 1)


# -- parts ---------------------------------------------------------------------------------------


def unit(inputs, filters, kernel=1, stride=1, padding=None, groups=1, activation=nn.ReLU):
    """Convolution, batch norm and activation; without `padding`, stride 1 keeps the size."""
    height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
    if padding is None:
        padding = (height // 2, width // 2)
    return nn.Sequential(
        nn.Conv2d(inputs, filters, (height, width), stride, padding, groups=groups, bias=False),
        nn.BatchNorm2d(filters, eps=1e-3),
        activation(inplace=True) if activation else nn.Identity(),
    )


def chain(inputs, *steps):
    """Units one after another, each a step of (filters, kernel[, stride, padding])."""
    widths = [inputs, *(step[0] for step in steps)]
    return nn.Sequential(*(unit(n, *step) for n, step in zip(widths[:-1], steps, strict=True)))


def pooled(inputs, filters):
    """Mean of the neighbours, then a 1 x 1 unit."""
    return nn.Sequential(nn.AvgPool2d(3, 1, 1, count_include_pad=False), unit(inputs, filters))


def head(inputs, classes=1000):
    """Mean over the image, then the classifier."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes))


class Concat(nn.ModuleList):
    """Branches with one input, their outputs side by side."""

    def forward(self, x):
        return torch.cat([branch(x) for branch in self], 1)


class Bottleneck(nn.Module):
    """The block of ResNet v1, which strides in its first convolution, as Keras does."""

    def __init__(self, inputs, filters, stride):
        super().__init__()
        outputs = 4 * filters
        self.body = nn.Sequential(
            unit(inputs, filters, 1, stride),
            unit(filters, filters, 3),
            unit(filters, outputs, activation=None),
        )
        same = inputs == outputs
        self.shortcut = nn.Identity() if same else unit(inputs, outputs, 1, stride, activation=None)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        return self.relu(self.shortcut(x) + self.body(x))


# -- networks ------------------------------------------------------------------------------------


def resnet50():
    """ResNet50 (v1): 25,557,032 parameters."""
    layers = [unit(3, 64, 7, 2), nn.MaxPool2d(3, 2, 1)]
    inputs = 64
    for filters, blocks in (64, 3), (128, 4), (256, 6), (512, 3):
        for block in range(blocks):
            layers.append(Bottleneck(inputs, filters, 2 if filters > 64 and block == 0 else 1))
            inputs = 4 * filters
    return nn.Sequential(*layers, head(inputs)).eval()


def vgg16():
    """VGG16: 138,357,544 parameters, nine in ten of them in three dense layers."""
    layers = []
    inputs = 3
    for filters, convolutions in (64, 2), (128, 2), (256, 3), (512, 3), (512, 3):
        for _ in range(convolutions):
            layers += nn.Conv2d(inputs, filters, 3, padding=1), nn.ReLU(inplace=True)
            inputs = filters
        layers.append(nn.MaxPool2d(2))
    layers.append(nn.Flatten())
    inputs *= 7 * 7
    for _ in range(2):
        layers += nn.Linear(inputs, 4096), nn.ReLU(inplace=True)
        inputs = 4096
    return nn.Sequential(*layers, nn.Linear(inputs, 1000)).eval()


def mobilenet():
    """MobileNet (v1, alpha 1.0): 4,231,976 parameters; its classifier is a 1 x 1 convolution."""
    layers = [unit(3, 32, 3, 2, activation=nn.ReLU6)]
    widths = [32, 64, 128, 128, 256, 256, *[512] * 6, 1024, 1024]
    for block, (inputs, filters) in enumerate(pairwise(widths)):
        stride = 2 if block in (1, 3, 5, 11) else 1
        layers.append(unit(inputs, inputs, 3, stride, groups=inputs, activation=nn.ReLU6))
        layers.append(unit(inputs, filters, activation=nn.ReLU6))
    top = nn.AdaptiveAvgPool2d(1), nn.Conv2d(1024, 1000, 1), nn.Flatten()
    return nn.Sequential(*layers, *top).eval()


def inception_v3():
    """InceptionV3 without its auxiliary classifier: 23,834,568 parameters."""

    def fine(inputs, pool):  # 35 x 35
        return Concat([
            chain(inputs, (64, 1)),
            chain(inputs, (48, 1), (64, 5)),
            chain(inputs, (64, 1), (96, 3), (96, 3)),
            pooled(inputs, pool),
        ])  # fmt: skip

    def medium(n):  # 17 x 17
        return Concat([
            chain(768, (192, 1)),
            chain(768, (n, 1), (n, ROW), (192, COLUMN)),
            chain(768, (n, 1), (n, COLUMN), (n, ROW), (n, COLUMN), (192, ROW)),
            pooled(768, 192),
        ])  # fmt: skip

    def coarse(inputs):  # 8 x 8
        return Concat([
            chain(inputs, (320, 1)),
            nn.Sequential(chain(inputs, (384, 1)), fork()),
            nn.Sequential(chain(inputs, (448, 1), (384, 3)), fork()),
            pooled(inputs, 192),
        ])  # fmt: skip

    def fork():
        return Concat([unit(384, 384, (1, 3)), unit(384, 384, (3, 1))])

    return nn.Sequential(
        chain(3, (32, 3, 2, 0), (32, 3, 1, 0), (64, 3)),
        nn.MaxPool2d(3, 2),
        chain(64, (80, 1), (192, 3, 1, 0)),
        nn.MaxPool2d(3, 2),
        fine(192, 32), fine(256, 64), fine(288, 64),
        Concat([
            chain(288, (384, 3, 2, 0)),
            chain(288, (64, 1), (96, 3), (96, 3, 2, 0)),
            nn.MaxPool2d(3, 2),
        ]),
        medium(128), medium(160), medium(160), medium(192),
        Concat([
            chain(768, (192, 1), (320, 3, 2, 0)),
            chain(768, (192, 1), (192, ROW), (192, COLUMN), (192, 3, 2, 0)),
            nn.MaxPool2d(3, 2),
        ]),
        coarse(1280), coarse(2048),
        head(2048),
    ).eval()  # fmt: skip


NETWORKS = {  # name in keras.applications -> (builder, side of its input image)
    "ResNet50": (resnet50, 224),
    "VGG16": (vgg16, 224),
    "MobileNet": (mobilenet, 224),
    "InceptionV3": (inception_v3, 299),
}
