"""How many floating-point operations a CoDA-Net needs, from its shapes alone."""

from collections.abc import Iterator

from coda_jax import CoDANet
from coda_jax.alignment.dau import cheapest_form
from coda_jax.alignment.patches import output_size


def forward_flops(model: CoDANet, image_size: int, batch_size: int) -> int:
    """Multiplications and additions of a forward pass over a batch.

    For one of P positions, with patches of d values, K units and rank r, the factored form makes

        h = B p                    2 d r
        u_j = A_jᵀp, hᵀu_j         2 d r K + 2 r K
        b_jᵀp                      2 d K
        hᵀG_jh, 2 (A_jᵀb_j)ᵀh      2 r² K + 2 r K, and 2 r K

    and once a batch G_j = A_jᵀA_j, A_jᵀb_j and ‖b_j‖², 2 d K (r² + r + 1). The dense form, in layers that choose it
    (`dau.cheapest_form`), makes h, v_j = A_j h + b_j, ‖v_j‖² and v_jᵀp, 2 d r + 2 d r K + 5 d K a position.
    The head and the few operations that are made once a unit are left out.

    Args:
        model: the network, which chooses its layers' forms by cost.
        image_size: of the square images, in pixels.
        batch_size: images.
    """
    return sum(
        batch_size * P * (2 * d * r + 2 * d * r * K + 5 * d * K)
        if cheapest_form(d, r) == "dense"
        else batch_size * P * (2 * d * r + 2 * d * r * K + 2 * d * K + 2 * r * r * K + 6 * r * K)
        + 2 * d * K * (r * r + r + 1)
        for P, d, K, r in _layers(model, image_size)
    )


def train_flops(model: CoDANet, image_size: int, batch_size: int) -> int:
    """Those of a training step: three forward passes, as the backward pass makes two products for each one."""
    return 3 * forward_flops(model, image_size, batch_size)


def explain_flops(model: CoDANet, image_size: int, batch_size: int, targets: int) -> int:
    """Those of a forward pass and of pulling `targets` classes an image back to the input.

    A layer's transpose `Σ_j ȳ_j s_j v_j`, at one position, is 2 d K (r + 1) for a class, or, once v_j is built for all
    of them with 2 d K r, 2 d K for a class; the smaller sum counts.
    """
    return forward_flops(model, image_size, batch_size) + sum(
        batch_size * P * 2 * d * K * min(targets * (r + 1), r + targets) for P, d, K, r in _layers(model, image_size)
    )


def flops_by_task(model: CoDANet, image_size: int, batch_size: int) -> dict[str, int]:
    """The operations of each task of the benchmarks, by its name."""
    train = train_flops(model, image_size, batch_size)
    return {
        "forward": forward_flops(model, image_size, batch_size),
        "train": train,
        "explain": explain_flops(model, image_size, batch_size, targets=1),
        "explain_all": explain_flops(model, image_size, batch_size, targets=model.channels[-1]),
        "pipeline": train,
    }


def _layers(model: CoDANet, size: int) -> Iterator[tuple[int, int, int, int]]:
    """(positions P, patch values d, units K, rank r) of each layer."""
    in_channels = 6
    for K, r, kernel_size, stride, padding in zip(
        model.channels, model.ranks, model.kernel_sizes, model.strides, model.paddings, strict=True
    ):
        size = output_size(size, kernel_size, stride, padding)
        yield size * size, kernel_size**2 * in_channels, K, r
        in_channels = K
