"""The push-pull layer as a module with the arguments of `torch.nn.Conv2d`, and its 1d and 3d variants."""

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from pushpull.arguments import SCALE, Rectifier, check_alpha, check_pull, rectifier_function
from pushpull.cache import KernelCache
from pushpull.functional import push_pull_conv
from pushpull.geometry import Sides, check_odd, check_sides, numeric_padding, pull_size

# torch.fx then traces the response as one operation, like a convolution.
torch.fx.wrap("push_pull_conv")


class _PushPull(nn.Module):
    """Base class of PushPull1d, PushPull2d and PushPull3d; see PushPull2d."""

    dimensions: ClassVar[int]
    alpha: float | Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sides,
        stride: int | Sides = 1,
        padding: int | Sides | str = 0,
        dilation: int | Sides = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        alpha: float | Tensor | str = 1.0,
        scale: float = SCALE,
        train_alpha: bool = False,
        dual_output: bool = False,
        rectifier: Rectifier = "relu",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        pull: str = "upsampled",
        average_size: int = 0,
    ) -> None:
        super().__init__()
        kernels = out_channels // 2 if dual_output else out_channels
        if dual_output and out_channels % 2:
            raise ValueError(f"dual_output needs an even number of output channels, got {out_channels}")
        if dual_output and train_alpha:
            raise ValueError(
                "dual_output returns push and pull without alpha, so train_alpha has nothing to train"
            )
        if groups < 1 or in_channels % groups or kernels % groups:
            raise ValueError(
                f"groups={groups} must divide in_channels={in_channels} and the {kernels} kernels"
            )
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = check_sides("kernel_size", kernel_size, self.dimensions)
        self.stride = check_sides("stride", stride, self.dimensions)
        self.dilation = check_sides("dilation", dilation, self.dimensions)
        self.padding = numeric_padding(padding, self.kernel_size, self.stride, self.dilation)
        self.groups = groups
        self.scale = scale
        self.train_alpha = train_alpha
        self.dual_output = dual_output
        self.rectifier = rectifier
        self.pull = pull
        self.average_size = average_size
        check_odd(self.kernel_size)
        rectifier_function(rectifier)  # reject an unknown name now, not at the first forward
        pull_size(1, scale)  # and an invalid scale
        check_pull(pull, scale, average_size, dual_output, bias)
        if not isinstance(alpha, str):
            check_alpha(alpha, kernels)
        elif alpha != "uniform" or not train_alpha:
            raise ValueError(
                f'alpha must be a number, a tensor, or "uniform" with train_alpha, got {alpha!r}'
            )
        if isinstance(alpha, Tensor) and not ((alpha >= 0) & (alpha < math.inf)).all():
            raise ValueError("alpha must be finite and >= 0 for every kernel")

        def empty(*shape: int) -> Tensor:
            return torch.empty(shape, device=device, dtype=dtype)

        self.weight = nn.Parameter(empty(kernels, in_channels // groups, *self.kernel_size))
        self.bias = nn.Parameter(empty(kernels)) if bias else None
        if train_alpha:
            self.alpha = nn.Parameter(empty(kernels))
        elif isinstance(alpha, Tensor):
            self.register_buffer("alpha", empty(kernels))
        else:
            self.alpha = float(alpha)
        # On the CPU, so that a layer on the meta device still knows the value; None where it is drawn at random.
        self._initial_alpha = (
            None
            if isinstance(alpha, str)
            else torch.as_tensor(alpha, dtype=torch.float64, device="cpu").detach().clone()
        )
        self._kernels = KernelCache()
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Redraw push kernels and biases as Conv2d draws them, and reset a tensor alpha to its initial values."""
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(self.weight[0].numel())
            nn.init.uniform_(self.bias, -bound, bound)
        if self._initial_alpha is None:
            nn.init.uniform_(self.alpha)  # type: ignore[arg-type]  # it is trained, so a Parameter
        elif isinstance(self.alpha, Tensor):
            with torch.no_grad():
                self.alpha.copy_(_sharded_as(self.alpha, self._initial_alpha.expand_as(self.alpha)))

    def forward(self, input: Tensor) -> Tensor:
        # `train_alpha` decides, and not the type of alpha, which torch.fx does not show.
        alpha = self.alpha.relu() if self.train_alpha else self.alpha  # type: ignore[union-attr]
        traced = isinstance(input, torch.fx.Proxy)
        return push_pull_conv(
            input,
            self.weight,
            self.bias,
            self.stride,
            self.padding,
            self.dilation,
            self.groups,
            alpha=alpha,
            scale=self.scale,
            dual_output=self.dual_output,
            rectifier=self.rectifier,
            pull=self.pull,
            average_size=self.average_size,
            cache=None if self.training or traced else self._kernels,
        )

    def get_extra_state(self) -> Tensor:
        """alpha and scale, which determine the function as the weights do; -1 if alpha is a tensor, stored separately.

        With the complementary pull: alpha, 0 in place of the scale, and average_size. The state is a tensor because
        code that reads a state_dict often accepts only tensors.
        """
        alpha = -1.0 if isinstance(self.alpha, Tensor) else self.alpha
        form = (self.scale,) if self.pull == "upsampled" else (0.0, float(self.average_size))
        return torch.tensor([alpha, *form], dtype=torch.float64, device="cpu")

    def set_extra_state(self, state: Tensor) -> None:
        """Raise ValueError if the weights to be loaded belong to a layer with another alpha, scale or pull."""
        saved, own = state.to("cpu", torch.float64), self.get_extra_state()
        rounding = max(torch.finfo(state.dtype).eps, 1e-6)  # weights may be stored in half precision
        if saved.shape != own.shape or not torch.allclose(saved, own, rtol=rounding, atol=0):
            raise ValueError(
                f"these weights are from a push-pull layer with {_described(saved)}, but this one has {_described(own)}"
            )

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, metadata: dict[str, Any], strict: bool,
        missing: list[str], *rest: list[str],
    ) -> None:  # fmt: skip
        key = f"{prefix}alpha"
        if not self.train_alpha and isinstance(saved := state_dict.get(key), Tensor):
            state_dict[key] = saved.clamp(min=0)  # a learned alpha below 0 counts as 0
        super()._load_from_state_dict(state_dict, prefix, metadata, strict, missing, *rest)
        # Weights of convolutions, of the authors' code and of earlier versions of this layer have no extra state.
        if (key := f"{prefix}_extra_state") in missing:
            missing.remove(key)

    def extra_repr(self) -> str:
        alpha = "per kernel" if isinstance(self.alpha, Tensor) else self.alpha
        text = (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        )
        text += f", padding={self.padding}, alpha={alpha}"
        if self.pull == "upsampled":
            text += f", scale={self.scale}"
        else:
            text += f", pull={self.pull}, average_size={self.average_size}"
        if set(self.dilation) != {1}:
            text += f", dilation={self.dilation}"
        if self.groups != 1:
            text += f", groups={self.groups}"
        if self.bias is None:
            text += ", bias=False"
        if self.train_alpha:
            text += ", train_alpha=True"
        if self.dual_output:
            text += ", dual_output=True"
        if self.rectifier != "relu":
            text += f", rectifier={getattr(self.rectifier, '__name__', self.rectifier)}"
        return text


def _sharded_as(tensor: Any, values: Tensor) -> Tensor:
    """Shard `values`, equal in every process, like `tensor` if that is a DTensor, as with FSDP."""
    if not hasattr(tensor, "placements"):
        return values
    # This import takes more than a second, but whoever has a DTensor has already done it.
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(values, tensor.device_mesh, tensor.placements, src_data_rank=None)


def _described(state: Tensor) -> str:
    alpha, scale, *average_size = state.tolist()
    form = f"pull=complementary, average_size={average_size[0]:g}" if average_size else f"scale={scale:g}"
    return f"alpha={'one per kernel' if alpha < 0 else f'{alpha:g}'}, {form}"


class PushPull1d(_PushPull):
    """Push-pull layer for sequences (N, in_channels, L): like PushPull2d, with a linearly upsampled pull kernel."""

    dimensions = 1


class PushPull2d(_PushPull):
    """Push-pull layer (paper, section 3): `relu(conv(x, k)) - alpha relu(conv(x, -up(k)))`.

    It replaces a convolution. Only the push kernel is learned: the pull kernel is derived from it in each forward pass,
    and gradients reach the push kernel through both. The layer has the parameters of the convolution, plus alpha if
    `train_alpha`. With `pull="complementary"` it is the layer of 2024, see `push_pull_conv2d`.

    It is not a subclass of Conv2d, because tools that fold batch normalisation into every Conv2d, or quantise it, would
    ignore the rectification.

    Its state_dict holds alpha and scale (or average_size) as `_extra_state`. A state_dict without it, such as that of a
    convolution, can be loaded too.

    In eval mode on a CPU, the pull kernel is cached while the push kernel stays the same.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, device, dtype: as for Conv2d;
            the sides of the kernel must be odd, and padding is with zeros.
        alpha: inhibition strength >= 0, a number or a tensor with one value per kernel; with `train_alpha`, "uniform"
            draws the initial values from 0 to 1.
        scale: upsampling factor h > 0 of the pull kernel.
        train_alpha: learn one alpha per kernel, starting at `alpha`; it is rectified in forward (paper, section 4.4,
            and the authors' code).
        dual_output: output `out_channels // 2` rectified push responses followed by as many pull responses, without
            alpha, instead of their difference.
        rectifier: applied to both responses: "relu", "tanh" or a function of a tensor, see `push_pull_conv2d`.
        pull, average_size: "upsampled", or "complementary" with the side of its averaging window, see
            `push_pull_conv2d`.

    Shape: (N, in_channels, H, W) to (N, out_channels, H', W'), H' and W' as for Conv2d.

    Raises:
        ValueError: an even kernel, a side, stride or dilation below 1, a negative padding or alpha, a scale that is not
            positive, channels that `groups` does not divide, odd `out_channels` with `dual_output`, `train_alpha` with
            `dual_output`, which has no alpha to train, an unknown rectifier or pull, an option that only the other pull
            has (see `push_pull_conv2d`); in `load_state_dict`, weights of a layer with another alpha, scale, pull or
            average_size.
        TypeError: a size that is not an integer, a scale that is not a number, an alpha that is neither a number nor a
            tensor.
    """

    dimensions = 2


class PushPull3d(_PushPull):
    """Push-pull layer for volumes (N, in_channels, D, H, W): like PushPull2d, with a trilinearly upsampled pull."""

    dimensions = 3
