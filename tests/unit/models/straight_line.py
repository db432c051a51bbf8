"""The networks written once more, as straight lines of functions on the weights of a network by name: ReLU, evaluation mode.

They follow He et al. 2016 (post-activation; "Identity mappings"), Fang et al. 2021 (SEW-ResNet), Deng et al. 2022 (VGGSNN), and
the authors' code of CKDSNN and of Enhanced Self-Distillation where these differ. Each returns the maps after every stage.
"""

import torch
from torch.nn.functional import avg_pool2d, conv2d, max_pool2d, relu


class Weights(dict):
    """The weights and buffers of a network by name, as functions."""

    def conv(self, name, x, stride=1):
        """Pad such that stride 1 keeps the size; a weight of fewer channels than `x` has is that of groups."""
        weight = self[f"{name}.weight"]
        groups = x.shape[1] // weight.shape[1]
        return conv2d(x, weight, self.get(f"{name}.bias"), stride, padding=weight.shape[-1] // 2, groups=groups)

    def norm(self, name, x):
        mean, var, weight, bias = (
            self[f"{name}.{each}"][:, None, None] for each in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / torch.sqrt(var + 1e-5) * weight + bias

    def linear(self, name, x):
        return x @ self[f"{name}.weight"].T + self[f"{name}.bias"]

    def has(self, name):
        return any(key.startswith(f"{name}.") for key in self)


def post_activation(w, at, x, stride):
    y = relu(w.norm(f"{at}.body.1", w.conv(f"{at}.body.0", x, stride)))
    y = w.norm(f"{at}.body.4", w.conv(f"{at}.body.3", y))
    if w.has(f"{at}.shortcut"):
        x = w.norm(f"{at}.shortcut.1", w.conv(f"{at}.shortcut.0", x, stride))
    return relu(y + x)


def pooled_post_activation(w, at, x, stride):
    """CKDSNN's: the shortcut averages 2x2 pixels, those of a last odd row or column alone, and its convolution keeps the size."""
    y = relu(w.norm(f"{at}.body.1", w.conv(f"{at}.body.0", x, stride)))
    y = w.norm(f"{at}.body.4", w.conv(f"{at}.body.3", y))
    if stride == 2:
        x = w.norm(f"{at}.shortcut.2", w.conv(f"{at}.shortcut.1", avg_pool2d(x, 2, ceil_mode=True)))
    return relu(y + x)


def pre_activation(w, at, x, stride):
    y = w.norm(f"{at}.body.2", w.conv(f"{at}.body.1", relu(x), stride))
    y = w.norm(f"{at}.body.5", w.conv(f"{at}.body.4", relu(y)))
    if w.has(f"{at}.shortcut"):
        x = w.norm(f"{at}.shortcut.1", w.conv(f"{at}.shortcut.0", x, stride))
    return y + x


def spike_element_wise(w, at, x, stride):
    y = relu(w.norm(f"{at}.body.0.1", w.conv(f"{at}.body.0.0", x, stride)))
    y = relu(w.norm(f"{at}.body.1.1", w.conv(f"{at}.body.1.0", y)))
    if w.has(f"{at}.shortcut"):
        x = relu(w.norm(f"{at}.shortcut.1", w.conv(f"{at}.shortcut.0", x, stride)))
    return y + x


def residual(w, block, strides, stem, x):
    """Return the stages of a residual network; `stem` is "small", "strided" or "imagenet"."""
    x = w.norm("after_stem.0", w.conv("stem", x, stride=1 if stem == "small" else 2))
    x = x if block is pre_activation else relu(x)
    x = max_pool2d(x, 3, stride=2, padding=1) if stem == "imagenet" else x
    maps = []
    for stage, stride in enumerate(strides):
        number = 0
        while w.has(f"stages.{stage}.{number}"):
            x = block(w, f"stages.{stage}.{number}", x, stride if number == 0 else 1)
            number += 1
        maps.append(x)
    return maps


def plain(w, stages, x, *, last_pool):
    """Return the stages of a VGG, given the number of convolutions of each."""
    x = relu(w.norm("after_stem.0", w.conv("stem", x)))
    maps = []
    for stage, count in enumerate(stages):
        first = 0 if stage == 0 else 1  # behind the pooling
        x = x if stage == 0 else avg_pool2d(x, 2)
        for layer in range(count - 1 if stage == 0 else count):
            at = first + 3 * layer
            x = relu(w.norm(f"stages.{stage}.{at + 1}", w.conv(f"stages.{stage}.{at}", x)))
        x = avg_pool2d(x, 2) if last_pool and stage == len(stages) - 1 else x
        maps.append(x)
    return maps


def branch(w, at, x, *, with_residual):
    """Return the last map of a side branch: halving blocks, each followed by a residual block in the larger ones."""
    block = 0
    while w.has(f"{at}.{block}"):
        body = f"{at}.{block}.body"
        y = relu(w.norm(f"{body}.2", w.conv(f"{body}.1", w.conv(f"{body}.0", x, stride=2))))
        y = w.norm(f"{body}.6", w.conv(f"{body}.5", w.conv(f"{body}.4", y)))
        x = relu(relu(y) + w.norm(f"{at}.{block}.shortcut.1", w.conv(f"{at}.{block}.shortcut.0", x, stride=2)))
        block += 1
        if with_residual:
            body = f"{at}.{block}.body"
            y = relu(w.norm(f"{body}.1", w.conv(f"{body}.0", x)))
            x = relu(w.norm(f"{body}.4", w.conv(f"{body}.3", y)) + x)
            block += 1
    return x
