"""The push-pull layer as a module with the arguments of `torch.nn.Conv2d`; and for one and three sides."""

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from pushpull.cache import KernelCache
from pushpull.functional import Rectifier, check_alpha, push_pull_conv, rectifier_function
from pushpull.geometry import Sides, check_odd, pull_size


class _PushPull(nn.Module):
    """What the layers of one, two and three sides share; see PushPull2d."""

    dimensions: ClassVar[int]
    alpha: float | Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sides,
        stride: int | Sides = 1,
        padding: int | Sides = 0,
        dilation: int | Sides = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        alpha: float | Tensor = 1.0,
        scale: float = 2.0,
        train_alpha: bool = False,
        dual_output: bool = False,
        rectifier: Rectifier = "relu",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
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
        if isinstance(padding, str):
            raise ValueError(f"padding must be a number of pixels, got {padding!r}")
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = self._sides("kernel_size", kernel_size)
        self.stride = self._sides("stride", stride)
        self.padding = self._sides("padding", padding)
        self.dilation = self._sides("dilation", dilation)
        self.groups = groups
        self.scale = scale
        self.train_alpha = train_alpha
        self.dual_output = dual_output
        self.rectifier = rectifier
        check_odd(self.kernel_size)
        rectifier_function(rectifier)  # refuses an unknown name now, not at the first forward
        pull_size(1, scale)  # and a bad scale
        check_alpha(alpha, kernels)
        if isinstance(alpha, Tensor) and not (alpha >= 0).all():
            raise ValueError("alpha must be >= 0 for every kernel")

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
        if isinstance(self.alpha, Tensor):
            with torch.no_grad():
                self.alpha.copy_(torch.as_tensor(alpha))
        self._kernels = KernelCache()
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the push kernels and biases anew, distributed as in Conv2d; alpha is left as it is."""
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(self.weight[0].numel())
            nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, input: Tensor) -> Tensor:
        alpha = self.alpha
        if self.train_alpha and isinstance(alpha, Tensor):
            alpha = alpha.relu()
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
            cache=None if self.training else self._kernels,
        )

    def _sides(self, name: str, value: int | Sides) -> Sides:
        """The value of every side; ValueError for another number of values than sides."""
        if isinstance(value, int):
            return (value,) * self.dimensions
        if len(value) != self.dimensions:
            raise ValueError(f"{name} must be a number or {self.dimensions} numbers, got {value}")
        return tuple(value)

    def extra_repr(self) -> str:
        alpha = "per kernel" if isinstance(self.alpha, Tensor) else self.alpha
        text = (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        )
        text += f", padding={self.padding}, alpha={alpha}, scale={self.scale}"
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


class PushPull1d(_PushPull):
    """Push-pull layer of sequences, (N, in_channels, L): as PushPull2d, its pull kernel linearly upsampled."""

    dimensions = 1


class PushPull2d(_PushPull):
    """Push-pull layer (paper, section 3): `relu(conv(x, k)) - alpha relu(conv(x, -up(k)))`.

    Takes the place of a convolution; only the push kernel is learned, the pull kernel is derived from it at each
    forward, and gradient reaches the push kernel through both. The layer adds no parameter to the convolution's
    unless `train_alpha`.

    Not a subclass of Conv2d: tools that fold a batch normalisation into every Conv2d, or quantise it, would do so here
    without noticing the rectification.

    In eval mode on a CPU the pull kernel is kept while the push kernel stays the same.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, device, dtype: as for Conv2d;
            the sides of the kernel must be odd, and the padding is a number of pixels.
        alpha: inhibition strength >= 0, one number or a tensor of one per kernel.
        scale: upsampling factor h > 0 of the pull kernel.
        train_alpha: learn one alpha per kernel, starting at `alpha`; rectified in forward (paper, section 4.4).
        dual_output: output `out_channels // 2` rectified push responses followed by as many pull responses, without
            alpha, instead of their difference.
        rectifier: applied to both responses: "relu", "tanh" or a function of a tensor, see `push_pull_conv2d`.

    Shape: (N, in_channels, H, W) to (N, out_channels, H', W'), H' and W' as for Conv2d.

    Raises:
        ValueError: an even kernel, negative alpha, scale that is not positive, channels that `groups` does not divide,
            odd `out_channels` with `dual_output`, or `train_alpha` with `dual_output`, which has no alpha to train,
            an unknown rectifier.
    """

    dimensions = 2


class PushPull3d(_PushPull):
    """Push-pull layer of volumes, (N, in_channels, D, H, W): as PushPull2d, its pull kernel trilinearly upsampled."""

    dimensions = 3
