"""The layer read by torch.compile, with sizes and alphas that change, and by torch.fx."""

import copy

import pytest
import torch
from torch import fx
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.ao.quantization import get_default_qconfig_mapping
from torch.ao.quantization.quantize_fx import prepare_fx
from torch.fx.experimental.proxy_tensor import make_fx
from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

from nets import create_net
from pushpull import PushPull2d, convert, push_pull_conv2d


@pytest.fixture(autouse=True)
def fresh(one_thread):
    torch.manual_seed(0)


def compiled(function, backend="aot_eager", **options):
    """By a compiler that has seen nothing. The backend "eager" reads Python alone, in a third of the time."""
    torch.compiler.reset()
    return torch.compile(function, fullgraph=True, backend=backend, **options)


@pytest.mark.parametrize("train_alpha", [False, True])
def test_sizes_that_change(train_alpha):
    """With the gradients of a layer whose alpha is trained, and without those of one whose alpha is a number."""
    layer = PushPull2d(3, 8, 3, padding=1, train_alpha=train_alpha).requires_grad_(train_alpha)
    function = compiled(layer, "aot_eager" if train_alpha else "eager", dynamic=True)
    for shape in ((2, 3, 16, 17), (3, 3, 20, 19)):  # sides that are equal would be one number to the compiler
        x = torch.randn(shape)
        torch.testing.assert_close(function(x), layer(x))


def test_an_alpha_and_a_scale_that_change():
    layer, x = PushPull2d(3, 8, 3, padding=1), torch.randn(2, 3, 16, 16)
    function = compiled(layer)
    for layer.alpha in (1.0, 0.9, 0.5):
        torch.testing.assert_close(function(x), layer(x))
    for layer.scale in (2.0, 3.0, 1.5):
        torch.testing.assert_close(function(x), layer(x))


def test_numbers_that_are_arguments():
    """From the second call on they are symbols to the compiler; with `dynamic=True` the sizes would be, too."""
    x, weight = torch.randn(2, 3, 16, 16), torch.randn(8, 3, 3, 3)

    def respond(alpha, stride, padding):
        return push_pull_conv2d(x, weight, None, stride, padding, alpha=alpha)

    function = compiled(respond)
    for numbers in ((1.0, 1, 1), (0.4, 2, 0), (2, 1, 2)):
        torch.testing.assert_close(function(*numbers), respond(*numbers))


@pytest.mark.parametrize("images", [2, 40])  # on the plain path, and enough for the separable one
class TestDispatchModes:
    @pytest.fixture
    def layer(self):
        return PushPull2d(3, 8, 3, padding=1).eval().requires_grad_(False)

    def test_tensors_without_values_leave_no_kernel_behind(self, layer, images):
        x = torch.randn(images, 3, 32, 32)
        for _ in range(2):  # before and after a kernel is kept
            with FakeTensorMode(allow_non_fake_inputs=True) as mode:
                assert layer(mode.from_tensor(x)).shape == (images, 8, 32, 32)
            torch.testing.assert_close(layer(x), copy.deepcopy(layer)(x))

    @pytest.mark.parametrize("tracing_mode", ["real", "fake", "symbolic"])
    def test_a_graph_of_operators_follows_the_weights(self, layer, images, tracing_mode):
        x = torch.randn(images, 3, 32, 32)
        layer(x)

        def respond(weight, x):
            return torch.func.functional_call(layer, {"weight": weight}, (x,))

        traced = make_fx(respond, tracing_mode=tracing_mode, _allow_non_fake_inputs=True)(
            layer.weight.detach(), x
        )
        weight = torch.randn_like(layer.weight)
        torch.testing.assert_close(traced(weight, x), respond(weight, x), rtol=1e-4, atol=1e-4)


class TestFx:
    @pytest.fixture(params=["a number", "one per kernel", "trained"])
    def net(self, request):
        alpha = torch.rand(16) if request.param == "one per kernel" else 0.7
        net = convert(create_net("resnet14"), alpha=alpha, train_alpha=request.param == "trained").eval()
        if request.param == "trained":  # half of them count as 0
            torch.nn.init.uniform_(net.conv1.alpha, -1, 1)
        return net

    def test_features_of_a_layer_behind(self, net):
        x = torch.randn(2, 3, 32, 32)
        expected = net.layer1(torch.relu(net.bn1(net.conv1(x))))
        features = create_feature_extractor(net, ["layer1"])(x)["layer1"]
        torch.testing.assert_close(features, expected)

    @pytest.mark.parametrize("training", [False, True])
    def test_the_response_is_one_node(self, net, training):
        names = get_graph_node_names(net.train(training))[0]
        assert "conv1.push_pull_conv" in names and not any("conv2d" in name for name in names)
        traced, x = fx.symbolic_trace(net), torch.randn(2, 3, 32, 32)
        twin = copy.deepcopy(net)
        torch.testing.assert_close(traced(x), twin(x))

    @pytest.mark.filterwarnings("ignore:.*deprecated", "ignore:Please use quant_min")
    def test_prepared_for_quantisation_it_is_the_same_function(self, net):
        x = torch.randn(2, 3, 32, 32)
        prepared = prepare_fx(net, get_default_qconfig_mapping("x86"), (x,))
        torch.testing.assert_close(prepared(x), net(x), rtol=1e-4, atol=1e-4)
