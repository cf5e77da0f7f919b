"""The layer of 2024 (`pull="complementary"`): its values, and all that can be done with a layer."""

import copy

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import ndimage
from torch import nn

from pushpull import PushPull1d, PushPull2d, PushPull3d, convert, fuse, pull_kernel, push_pull_conv2d
from tests.pushpull import reference
from tests.pushpull.test_paths import DRAWS, TOLERANCE

FORM = {"pull": "complementary", "average_size": 3}

# Two channels of 1 x 3; over all six values max + min = 3, over each channel -1 and 5.
KERNEL = torch.tensor([[[[1.0, -2.0, 0.0]], [[0.0, 5.0, 3.0]]]])
IMAGE = torch.tensor([[[[1.0, 0.0, 0.0, -2.0]], [[0.0, 1.0, 0.0, 1.0]]]])


def layer_and_batch(**options) -> tuple[PushPull2d, torch.Tensor]:
    torch.manual_seed(0)
    return PushPull2d(3, 8, 3, padding=1, **({"train_alpha": True} | FORM | options)), torch.randn(
        4, 3, 12, 12
    )


class TestByHand:
    """The published description, in numbers that a pencil gives: push 1, 6, 3, 9 and pull 5, 0, -3, -12."""

    def test_kernel(self):
        expected = torch.tensor([[[[2.0, 5.0, 3.0]], [[3.0, -2.0, 0.0]]]])
        assert torch.equal(pull_kernel(KERNEL, pull="complementary"), expected)

    @pytest.mark.parametrize(
        ("size", "pull"),
        [
            (0, [5, 0, 0, 0]),
            (
                3,
                [5 / 2, 2 / 3, 0, 0],
            ),  # of (5 + 0) / 2, (5 + 0 - 3) / 3, -5 and -7.5: first averaged, then rectified
            (5, [2 / 3, 0, 0, 0]),
        ],
    )
    def test_response(self, size, pull):
        got = push_pull_conv2d(
            IMAGE,
            KERNEL,
            torch.tensor([-20.0]),
            padding=(0, 1),
            alpha=0.5,
            pull="complementary",
            average_size=size,
        )
        expected = (
            torch.tensor([1.0, 6.0, 3.0, 9.0]) - 0.5 * torch.tensor(pull) - 20
        )  # the bias is not rectified
        torch.testing.assert_close(got.flatten(), expected)


@st.composite
def calls(draw):
    kernel = draw(st.tuples(*[st.sampled_from((1, 3, 5))] * 2))
    stride, dilation = (draw(st.tuples(st.integers(1, 2), st.integers(1, 2))) for _ in range(2))
    padding, groups = draw(st.tuples(st.integers(0, 3), st.integers(0, 3))), draw(st.integers(1, 3))
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    size = [max(draw(st.integers(1, 8)), r - 2 * p) for r, p in zip(reach, padding, strict=True)]
    channels = draw(st.integers(1, 2))
    return {
        "shape": (draw(st.integers(1, 3)), groups * channels, *size),
        "weight": (groups * draw(st.integers(1, 2)), channels, *kernel),
        "geometry": (stride, padding, dilation, groups),
        "average": draw(st.sampled_from((0, 1, 3, 5))),
        "alpha": draw(st.sampled_from((0.0, 0.3, 1.0, 2.0, "tensor"))),
        "bias": draw(st.booleans()),
        "layout": draw(st.sampled_from((torch.contiguous_format, torch.channels_last))),
        "dtype": draw(st.sampled_from((torch.float32, torch.float64))),
        "seed": draw(st.integers(0, 2**31)),
    }


@DRAWS
@given(calls())
def test_equals_formula(call):
    rng = np.random.default_rng(call["seed"])
    x, weight = rng.normal(size=call["shape"]), rng.normal(size=call["weight"])
    count = len(weight)
    bias = rng.normal(size=count) if call["bias"] else np.zeros(count)
    learned = call["alpha"] == "tensor"
    alpha = rng.uniform(0, 2, count) if learned else np.full(count, call["alpha"])
    expected = reference.push_pull_2024(x, weight, bias, *call["geometry"], alpha, call["average"])
    assume(expected.size > 0)

    def tensor(array):
        return torch.tensor(array, dtype=call["dtype"])

    got = push_pull_conv2d(
        tensor(x).contiguous(memory_format=call["layout"]),
        tensor(weight),
        tensor(bias) if call["bias"] else None,
        *call["geometry"],
        alpha=tensor(alpha) if learned else call["alpha"],
        pull="complementary",
        average_size=call["average"],
    )
    tolerance = TOLERANCE[call["dtype"]]
    np.testing.assert_allclose(got.numpy(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("average_size", [0, 3])
@pytest.mark.parametrize("groups", [1, 2])
def test_gradient(average_size, groups):
    torch.manual_seed(0)
    x, weight = torch.randn(1, 2, 4, 5).double(), torch.randn(4, 2 // groups, 3, 3).double()
    inputs = [t.requires_grad_() for t in (x, weight, torch.randn(4).double(), torch.rand(4).double())]

    def run(x, weight, bias, alpha):
        form = {"alpha": alpha, "pull": "complementary", "average_size": average_size}
        return push_pull_conv2d(x, weight, bias, padding=1, groups=groups, **form)

    assert torch.autograd.gradcheck(run, inputs) and torch.autograd.gradgradcheck(run, inputs)


@pytest.mark.parametrize("kind", [PushPull1d, PushPull2d, PushPull3d])
def test_every_number_of_sides(kind):
    torch.manual_seed(0)
    layer = kind(2, 3, 3, padding=1, alpha=0.7, dtype=torch.float64, **FORM)
    x = torch.randn(2, *(7, 6, 5)[: kind.dimensions], dtype=torch.float64)
    inside = ndimage.uniform_filter(np.ones(x.shape[1:]), 3, mode="constant")
    expected = []
    for kernel, bias in zip(layer.weight.detach().numpy(), layer.bias.detach().numpy(), strict=True):
        pull = reference.complement(kernel)
        push, pull = (
            sum(ndimage.correlate(c, k, mode="constant") for c, k in zip(x.numpy(), one, strict=True))
            for one in (kernel, pull)
        )
        pull = ndimage.uniform_filter(pull, 3, mode="constant") / inside
        expected.append(np.maximum(push, 0) - 0.7 * np.maximum(pull, 0) + bias)
    np.testing.assert_allclose(layer(x).detach().numpy(), expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(layer(x[None])[0], layer(x))


def test_alpha_that_starts_at_random():
    torch.manual_seed(3)
    layer = PushPull2d(3, 64, 3, alpha="uniform", train_alpha=True, **FORM)
    torch.manual_seed(3)
    assert torch.equal(layer.weight, nn.Conv2d(3, 64, 3).weight)
    values = layer.alpha.detach().clone()
    assert ((values >= 0) & (values < 1)).all() and 0.2 < values.std() < 0.4 and len(values.unique()) == 64
    layer.reset_parameters()
    assert not torch.equal(layer.alpha, values)
    made = PushPull2d(3, 64, 3, alpha="uniform", train_alpha=True, device="meta").to_empty(device="cpu")
    made.reset_parameters()
    assert ((made.alpha >= 0) & (made.alpha < 1)).all()


def test_conversion_draws_alpha_and_leaves_the_generator():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3))
    weights, state = [net[0].weight, net[2].weight], torch.get_rng_state()
    convert(net, layers="all", alpha="uniform", train_alpha=True, **FORM)
    assert torch.equal(torch.get_rng_state(), state)
    assert net[0].weight is weights[0] and net[2].weight is weights[1]
    assert (net[0].pull, net[0].average_size) == ("complementary", 3)
    assert not torch.equal(net[0].alpha, net[2].alpha)
    x = torch.randn(2, 3, 9, 9)
    options = {"alpha": net[0].alpha, **FORM}
    assert torch.equal(net[0](x), push_pull_conv2d(x, net[0].weight, net[0].bias, **options))


@pytest.mark.parametrize("training", [True, False])
def test_compile_without_a_break_in_the_graph(training):
    layer, batch = layer_and_batch()
    layer.train(training)
    torch.compiler.reset()
    output = torch.compile(layer, fullgraph=True, backend="aot_eager")(batch)
    torch.testing.assert_close(output, layer(batch))


@pytest.mark.usefixtures("one_onnx_registry")
def test_export_onnx_and_fx():
    layer, batch = layer_and_batch()
    expected = layer.eval()(batch).detach()
    images = torch.export.Dim("images", min=2)
    program = torch.export.export(layer, (batch,), dynamic_shapes=({0: images},))
    torch.testing.assert_close(program.module()(batch[:3]), expected[:3])
    exported = torch.onnx.export(layer, (batch,), dynamo=True, optimize=False, verbose=False)
    session = onnxruntime.InferenceSession(exported.model_proto.SerializeToString())
    (result,) = session.run(None, {session.get_inputs()[0].name: batch.numpy()})
    np.testing.assert_allclose(result, expected.numpy(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(torch.fx.symbolic_trace(layer)(batch), expected)


def test_gradient_of_each_image_and_forward_mode():
    layer, batch = layer_and_batch()
    parameters = dict(layer.named_parameters())

    def loss(parameters, image):
        return torch.func.functional_call(layer, parameters, (image,)).square().mean()

    each = torch.func.vmap(torch.func.grad(loss), (None, 0))(parameters, batch)
    expected = torch.autograd.grad(layer(batch[2]).square().mean(), parameters.values())
    for name, gradient in zip(parameters, expected, strict=True):
        torch.testing.assert_close(each[name][2], gradient, rtol=1e-4, atol=1e-5)
    direction = torch.randn_like(batch)
    _, forward = torch.func.jvp(lambda x: layer(x).square().mean(), (batch,), (direction,))
    (backward,) = torch.autograd.grad(layer(batch.requires_grad_()).square().mean(), batch)
    torch.testing.assert_close(forward, (backward * direction).sum(), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast(dtype):
    layer, batch = layer_and_batch()
    with torch.autocast("cpu", dtype=dtype):
        output = layer(batch)
    assert output.dtype == dtype
    torch.testing.assert_close(output.float(), layer(batch), rtol=0.05, atol=0.05)


def test_channels_last_comes_out_as_it_goes_in():
    layer, batch = layer_and_batch()
    output = layer(batch.contiguous(memory_format=torch.channels_last))
    assert output.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(output, layer(batch))


def test_the_kept_kernel_follows_the_weights():
    layer, batch = layer_and_batch()
    layer.eval()
    with torch.no_grad():
        layer(batch)
        layer.weight.mul_(-2)
        assert torch.equal(layer(batch), copy.deepcopy(layer).train()(batch))


@pytest.mark.parametrize(
    "options",
    [{}, {"scale": 3.0}, {"pull": "complementary"}, {**FORM, "alpha": 0.5}, {**FORM, "average_size": 5}],
)
def test_weights_of_another_form_are_refused(options):
    state = PushPull2d(3, 8, 3, **FORM).state_dict()
    message = (
        "from a push-pull layer with alpha=1, pull=complementary, average_size=3, but this one has alpha="
    )
    with pytest.raises(ValueError, match=message):
        PushPull2d(3, 8, 3, **options).load_state_dict(state)
    PushPull2d(3, 8, 3, **FORM).load_state_dict(state)


def test_responses_side_by_side():
    options = {"padding": (0, 1), "pull": "complementary"}
    both = push_pull_conv2d(IMAGE, KERNEL, dual_output=True, **options)
    assert both[0].tolist() == [[[1.0, 6.0, 3.0, 9.0]], [[5.0, 0.0, 0.0, 0.0]]]
    with pytest.raises(ValueError, match="adds the bias after the subtraction, which dual_output omits"):
        PushPull2d(3, 8, 3, dual_output=True, **FORM)


def test_fused_without_a_bias_alone():
    layer, batch = layer_and_batch(alpha=0, train_alpha=False, bias=False)
    torch.testing.assert_close(fuse(copy.deepcopy(layer))(batch), layer(batch))
    layer, _ = layer_and_batch(alpha=0, train_alpha=False)
    with pytest.raises(ValueError, match="cannot fuse 'the net': its bias is added after the rectifier"):
        fuse(layer)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"pull": "inverted"}, ValueError, "pull must be one of upsampled, complementary, got 'inverted'"),
        ({"average_size": 3}, ValueError, 'average_size=3 needs pull="complementary"'),
        ({**FORM, "average_size": 4}, ValueError, "0 or an odd number of pixels, got 4"),
        ({**FORM, "average_size": -3}, ValueError, "0 or an odd number of pixels, got -3"),
        ({**FORM, "average_size": 3.0}, TypeError, "average_size must be an integer, got 3.0"),
        ({**FORM, "scale": 3.0}, ValueError, 'scale=3.0 needs pull="upsampled"'),
        ({**FORM, "alpha": "uniform"}, ValueError, "\"uniform\" with train_alpha, got 'uniform'"),
        ({**FORM, "alpha": "normal", "train_alpha": True}, ValueError, "got 'normal'"),
    ],
)
def test_one_clear_line(options, error, message):
    with pytest.raises(error, match=message):
        PushPull2d(3, 8, 3, **options)
