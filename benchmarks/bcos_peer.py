"""The peer of B-cos networks: explanations in PyTorch as the published code makes them.

Each layer's scaling is taken out of the gradient ("explanation mode"), and a row of the network's matrix is then the
gradient of a logit (Böhle et al., TPAMI 2024, arXiv 2306.10898). Arrays are NCHW.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.peer import contributions as contributions
from benchmarks.peer import encode as encode
from coda_jax.networks.bcos_resnet import BcosResNet


class BcosConv2d(nn.Module):
    """A B-cos convolution with B = 2, and the uncentred batch normalisation after it, where there is one."""

    def __init__(self, params: Mapping[str, Any], variance: np.ndarray | None, stride: int, padding: int) -> None:
        """Make a layer with the parameters of our `BcosConv`."""
        super().__init__()
        self.weight = nn.Parameter(torch.from_numpy(np.array(params["kernel"])).permute(3, 2, 0, 1).contiguous())
        self.geometry = {"stride": stride, "padding": padding}
        self.norm = None
        if variance is not None:
            self.norm = nn.Parameter(torch.from_numpy(np.array(params["norm"]))[:, None, None])
            self.register_buffer("variance", torch.from_numpy(np.array(variance))[:, None, None])

    def forward(self, inputs: Tensor, frozen: bool) -> Tensor:
        """[N, C, H, W] -> [N, K, Ho, Wo]; `frozen` keeps the scaling out of the gradient."""
        weight = self.weight / torch.linalg.vector_norm(self.weight, dim=(1, 2, 3), keepdim=True)
        responses = functional.conv2d(inputs, weight, **self.geometry)
        squares = (inputs**2).sum(1, keepdim=True)
        norms = (functional.avg_pool2d(squares, weight.shape[-1], **self.geometry, divisor_override=1) + 1e-6).sqrt()
        if frozen:
            norms = norms.detach()
        scale = responses.abs() / norms
        outputs = responses * (scale.detach() if frozen else scale)
        if self.norm is not None:
            outputs = outputs / (self.variance + 1e-5).sqrt() * self.norm
        return outputs


class PublishedBcosResNet(nn.Module):
    """The peer of a `BcosResNet` with B = 2 and without maxout."""

    def __init__(self, model: BcosResNet, variables: Mapping[str, Any]) -> None:
        """Make it with the network's parameters and batch statistics."""
        super().__init__()
        params, statistics = variables["params"], variables["batch_stats"]
        self.model = model

        def layer(names: tuple[str, ...], stride: int, padding: int) -> BcosConv2d:
            of_layer, variance = params, statistics
            for name in names:
                of_layer, variance = of_layer[name], variance.get(name, {})
            return BcosConv2d(of_layer, variance.get("variance"), stride, padding)

        self.stem = layer(("conv1",), 1, 1) if model.small_images else layer(("conv1",), 2, 3)
        self.blocks = nn.ModuleList()
        for name, (_, narrow, stride) in model._blocks().items():
            strides = {"conv1": stride, "conv2": 1} if narrow is None else {"conv1": 1, "conv2": stride, "conv3": 1}
            layers = {
                conv: layer((name, conv), of_conv, params[name][conv]["kernel"].shape[0] // 2)
                for conv, of_conv in strides.items()
            }
            if "downsample" in params[name]:
                layers["downsample"] = layer((name, "downsample"), stride, 0)
            self.blocks.append(nn.ModuleDict(layers))
        self.fc = layer(("fc",), 1, 0)

    def forward(self, inputs: Tensor, frozen: bool = False) -> Tensor:
        """Inputs [N, 6, H, W] -> logits [N, K]."""
        outputs = self.stem(inputs, frozen)
        if not self.model.small_images:
            outputs = functional.avg_pool2d(outputs, 3, 2, 1)
        for block in self.blocks:
            inputs = outputs
            for name, layer in block.items():
                if name != "downsample":
                    outputs = layer(outputs, frozen)
            outputs = outputs + (block["downsample"](inputs, frozen) if "downsample" in block else inputs)
        return self.fc(outputs, frozen).mean((2, 3)) / self.model.temperature + self.model.logit_bias
