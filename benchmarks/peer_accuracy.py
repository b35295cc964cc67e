"""What a ResNet-56 keeps when Torch-Pruning cuts it: the same weights and batches as `accuracy.py`.

Install the peer beside Keras in an environment of its own:

    pip install torch==2.13.0 torch-pruning==1.6.1 keras
    KERAS_BACKEND=torch python benchmarks/peer_accuracy.py --data DIR

DIR is that of `accuracy.py`. By the peer's group norms, compared over all layers or within each,
channels go inside the residual blocks until half of the multiply-adds are left. The streams that
blocks are added to stay whole: the peer cannot prune them across shortcuts that pad channels.
"""

import argparse
import copy
import math
import pathlib

import numpy as np
import torch
import torch_pruning as tp
from accuracy import BUDGETS, IMAGENET, NETWORKS, TESTS, Batches, images
from torch import nn

BATCHES = BUDGETS["100-batches"]


def unit(inputs, outputs, stride):
    """Convolution and batch norm."""
    convolution = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs))


class Block(nn.Module):
    """Two units; a shortcut that leaves out positions and adds channels of zeros."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.stride, self.more = stride, (outputs - inputs) // 2
        self.first, self.second = unit(inputs, outputs, stride), unit(outputs, outputs, 1)

    def forward(self, x):
        y = self.second(torch.relu(self.first(x)))
        if self.more:
            x = x[:, :, :: self.stride, :: self.stride]
            x = nn.functional.pad(x, (0, 0, 0, 0, self.more, self.more))
        return torch.relu(x + y)


class ResNet56(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = unit(3, 16, 1)
        widths = [16] * 9 + [32] * 9 + [64] * 9
        before = [16, *widths[:-1]]
        pairs = zip(before, widths, strict=True)
        self.blocks = nn.Sequential(*(Block(n, m, 1 if n == m else 2) for n, m in pairs))
        self.classes = nn.Linear(64, 10)

    def forward(self, x):
        return self.classes(self.blocks(torch.relu(self.stem(x))).mean((2, 3)))


def loaded(whole):
    """The network with the weights of a Keras model."""
    model = ResNet56()
    units = [("conv1", "bn1", model.stem)]
    for place, block in enumerate(model.blocks):
        name = f"layer{place // 9 + 1}_{place % 9}_"
        units.append((f"{name}conv1", f"{name}bn1", block.first))
        units.append((f"{name}conv2", f"{name}bn2", block.second))
    with torch.no_grad():
        for convolution, norm, (ours, its_norm) in units:
            (kernel,) = whole.get_layer(convolution).get_weights()
            ours.weight.copy_(torch.tensor(kernel.transpose(3, 2, 0, 1)))
            names = ("weight", "bias", "running_mean", "running_var")
            values = whole.get_layer(norm).get_weights()
            for name, value in zip(names, values, strict=True):
                getattr(its_norm, name).copy_(torch.tensor(value))
        kernel, bias = whole.get_layer("linear").get_weights()
        model.classes.weight.copy_(torch.tensor(kernel.T))
        model.classes.bias.copy_(torch.tensor(bias))
    return model.eval()


def pruned(model, share, everywhere):
    """A copy without that share of the channels inside its blocks."""
    model, image = copy.deepcopy(model), torch.zeros(1, 3, 32, 32)
    streams = [model.stem[0], *(block.second[0] for block in model.blocks), model.classes]
    tp.pruner.BasePruner(
        model, image, tp.importance.GroupMagnitudeImportance(p=2), global_pruning=everywhere,
        pruning_ratio=share, ignored_layers=streams,
    ).step()  # fmt: skip
    return model, tp.utils.count_ops_and_params(model, image)[0]


def halved(model, everywhere):
    """As little gone as leaves half of the multiply-adds."""
    whole = tp.utils.count_ops_and_params(model, torch.zeros(1, 3, 32, 32))[0]
    low, high = 0.0, 0.9
    for _ in range(8):
        share = (low + high) / 2
        found, macs = pruned(model, share, everywhere)
        low, high = (low, share) if macs <= whole / 2 else (share, high)
    found, macs = pruned(model, high, everywhere)
    return found, macs / whole


def as_tensor(x):
    return torch.tensor(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))


@torch.no_grad()
def accuracy(model, x, y):
    model.eval()
    parts = [model(as_tensor(x[i : i + 500])).argmax(1).numpy() for i in range(0, len(x), 500)]
    return 100 * float(np.mean(np.concatenate(parts) == y))


def trained(model, x, y, seed, rate):
    model = copy.deepcopy(model).train()
    optimizer = torch.optim.SGD(model.parameters(), rate, momentum=0.9)
    decay = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: (1 + math.cos(math.pi * step / BATCHES)) / 2
    )
    batches = Batches(x, y, seed, 4, BATCHES)
    for step in range(BATCHES):
        some, labels = batches[step]
        loss = nn.functional.cross_entropy(model(as_tensor(some)), torch.tensor(labels))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        decay.step()
    return model


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--data", type=pathlib.Path, required=True, help="the folder DIR")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    options = parser.parse_args()
    torch.set_num_threads(1)
    network = NETWORKS["resnet56"]
    x, y, *tests = images(options.data / network.file, *IMAGENET, network.images, TESTS)
    model = loaded(network.build(options.data))
    print("whole", f"{accuracy(model, *tests):.2f}", flush=True)
    for scope, everywhere in (("over all layers", True), ("in each layer", False)):
        cut, left = halved(model, everywhere)
        print(scope, f"{left:.3f} of the MACs", f"cut {accuracy(cut, *tests):.2f}", flush=True)
        for seed in options.seeds:
            found = accuracy(trained(cut, x, y, seed, network.rate), *tests)
            print(scope, "seed", seed, f"{BATCHES} batches {found:.2f}", flush=True)


if __name__ == "__main__":
    main()
