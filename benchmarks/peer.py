"""The peer that speed is measured against: the plain algorithm in PyTorch.

It builds every dynamic weight, multiplies it with the unfolded patches, and leaves derivatives and explanations to
autograd, as one writes it down from the paper (Böhle, Fritz, Schiele, CVPR 2021). Arrays are NCHW.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.ours import initial
from coda_jax import CoDANet
from coda_jax.networks.coda_net import LOGIT_BIAS


class PlainDAUConv(nn.Module):
    """A convolutional layer of dynamic alignment units, norm SQ, with materialised weights."""

    def __init__(self, in_channels: int, features: int, rank: int, kernel_size: int, stride: int, padding: int) -> None:
        """Make a layer of `features` units for inputs of `in_channels`; sizes in pixels."""
        super().__init__()
        self.geometry = {"kernel_size": kernel_size, "stride": stride, "padding": padding}
        self.features = features
        self.to_rank = nn.Conv2d(in_channels, rank, bias=False, **self.geometry)
        self.to_weights = nn.Conv2d(rank, features * in_channels * kernel_size**2, 1)

    def forward(self, inputs: Tensor, frozen: bool) -> Tensor:
        """[N, C, H, W] -> [N, K, Ho, Wo]; `frozen` keeps the dynamic weights out of the gradient."""
        projected = self.to_rank(inputs)
        weights = self.to_weights(projected).unflatten(1, (-1, self.features)).flatten(3)
        norm = torch.linalg.vector_norm(weights, dim=1, keepdim=True)
        weights = weights * (norm / (1 + norm**2))
        if frozen:
            weights = weights.detach()
        patches = functional.unfold(inputs, **self.geometry)
        outputs = (weights * patches[:, :, None]).sum(1)
        return outputs.unflatten(2, projected.shape[2:])


class PlainCoDANet(nn.Module):
    """A CoDA-Net of `PlainDAUConv` layers."""

    def __init__(self, model: CoDANet, params: Mapping[str, Mapping[str, np.ndarray]]) -> None:
        """Make the peer of a `CoDANet` of norm "sq", with its parameters."""
        super().__init__()
        in_channels = (6, *model.channels[:-1])
        self.layers = nn.ModuleList(
            PlainDAUConv(*shape)
            for shape in zip(
                in_channels,
                model.channels,
                model.ranks,
                model.kernel_sizes,
                model.strides,
                model.paddings,
                strict=True,
            )
        )
        self.temperature = model.temperature
        with torch.no_grad():
            for index, layer in enumerate(self.layers):
                B, A, b = (torch.from_numpy(np.array(params[f"layers_{index}"][name])) for name in ("B", "A", "b"))
                layer.to_rank.weight.copy_(B.permute(3, 2, 0, 1))
                # The second convolution's channels run as (C, k, k, K).
                layer.to_weights.weight.copy_(A.permute(2, 0, 1, 3, 4).reshape(-1, A.shape[-1], 1, 1))
                layer.to_weights.bias.copy_(b.permute(2, 0, 1, 3).reshape(-1))

    def forward(self, inputs: Tensor, frozen: bool = False) -> Tensor:
        """Inputs [N, 6, H, W] -> logits [N, K]."""
        for layer in self.layers:
            inputs = layer(inputs, frozen)
        return inputs.sum((2, 3)) / self.temperature + LOGIT_BIAS


def encode(images: Tensor) -> Tensor:
    """The images and their inverses: [N, 3, H, W] -> [N, 6, H, W]."""
    return torch.cat([images, 1 - images], dim=1)


def contributions(model: nn.Module, images: Tensor, classes: int | None) -> Tensor:
    """Contributions to the predicted class (`classes` None) or to each of `classes` classes, [N, T, 6, H, W]."""
    inputs = encode(images).requires_grad_()
    logits = model(inputs, frozen=True)
    if classes is None:
        targets = [logits.max(1).values]
    else:
        targets = [logits[:, target] for target in range(classes)]
    rows = [torch.autograd.grad(logit.sum(), inputs, retain_graph=True)[0] for logit in targets]
    return (torch.stack(rows, 1) * inputs[:, None]).detach()


def train_step(model: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor) -> Tensor:
    """One step of the optimiser on images [N, 3, H, W] and labels [N]; the loss."""
    optimizer.zero_grad()
    logits = model(encode(images))
    one_hot = functional.one_hot(labels, logits.shape[1]).to(logits.dtype)
    loss = functional.binary_cross_entropy_with_logits(logits, one_hot)
    loss.backward()
    optimizer.step()
    return loss.detach()


def prepare(
    model: CoDANet, task: str, images: np.ndarray, labels: np.ndarray, *, compiled: bool, exact: bool
) -> Callable[[int], Tensor]:
    """As `benchmarks.ours.prepare`, for the tasks "forward", "explain", "explain_all" and "train".

    In bfloat16 the parameters are bfloat16 too, which is faster than to convert them at every step.

    Args:
        model: as there.
        task: as there.
        images: as there, [N, H, W, 3].
        labels: as there.
        compiled: whether `torch.compile` compiles the network.
        exact: whether a GPU makes float32 products in float32, and not in TensorFloat-32, as JAX does.

    Returns:
        The function that does the task so many times in a row, waits for the device, and returns the last result.
    """
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.empty_cache()  # What earlier tasks took and freed, other programs may need.
    torch.set_float32_matmul_precision("highest" if exact else "high")
    torch.backends.cudnn.allow_tf32 = not exact
    placed: dict[str, Any] = {
        "device": "cuda" if on_gpu else "cpu",
        "dtype": torch.bfloat16 if model.dtype == jnp.bfloat16 else torch.float32,
    }
    network = PlainCoDANet(model, initial(model)["params"]).to(**placed)
    optimizer = torch.optim.Adam(network.parameters(), 2.5e-4)
    if compiled:
        network = torch.compile(network, dynamic=False)
    batch = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous().to(**placed)
    targets = torch.from_numpy(labels).long().to(placed["device"])

    def once() -> Tensor:
        if task == "train":
            return train_step(network, optimizer, batch, targets)
        if task == "forward":
            with torch.inference_mode():
                return network(encode(batch))
        return contributions(network, batch, model.channels[-1] if task == "explain_all" else None)

    def run(calls: int) -> Tensor:
        for _ in range(calls):
            result = once()
        if on_gpu:
            torch.cuda.synchronize()
        return result

    return run


def to_numpy(result: Tensor) -> np.ndarray:
    """A task's result as float32, with channels last as coda_jax has them."""
    result = result.movedim(2, -1) if result.ndim == 5 else result
    return result.float().cpu().numpy()
