"""The networks of the papers, to be trained from scratch or from pretrained weights.

>>> from recipes import zoo
>>> zoo.lenet_300_100().count_params()
266610
>>> zoo.build("resnet20", (32, 32, 3), 100).output_shape
(None, 100)

Each returns a `keras.Model` whose outputs are logits, whose input is called `image` and whose last
layer is called `head`. `build` tells what all of them take; kernels have an L2 penalty of factor
`l2`, and start from `initializer`: `"torch"`, as PyTorch's do, or an initializer of Keras.
`docs/zoo.md` puts their parameters and FLOPs beside the published ones.
"""

from .applications import (
    densenet121,
    inception_v3,
    mobilenet,
    resnet50,
    vgg16_imagenet,
)
from .densenet import densenet40
from .inception import googlenet, inception_v2
from .lenet import lenet_5, lenet_5_1998, lenet_300_100, mnist_cnn
from .registry import build, names
from .resnet import cifar_resnet, resnet20, resnet56, resnet110
from .vgg import vgg16, vgg16_hubens, vgg19, vgg_lite

__all__ = [
    "build",
    "names",
    "lenet_300_100",
    "lenet_5",
    "lenet_5_1998",
    "mnist_cnn",
    "vgg16",
    "vgg16_hubens",
    "vgg16_imagenet",
    "vgg19",
    "vgg_lite",
    "cifar_resnet",
    "resnet20",
    "resnet56",
    "resnet110",
    "resnet50",
    "googlenet",
    "inception_v2",
    "inception_v3",
    "densenet40",
    "densenet121",
    "mobilenet",
]
