"""The layer under PyTorch's transformations, exporters and wrappers, on batches large enough for the separable path."""

import copy
import io
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.utils import parametrizations, parametrize

from pushpull import PushPull2d, fast
from pushpull.geometry import place

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def threads(one_thread):
    """One thread in every test here."""


def layer_and_batch(**options) -> tuple[PushPull2d, torch.Tensor]:
    torch.manual_seed(0)
    layer = PushPull2d(3, 8, 3, padding=1, **({"train_alpha": True} | options))
    batch = torch.randn(32, 3, 32, 32)
    if "dtype" not in options and "device" not in options:
        geometry = place((3, 3), (1, 1), (1, 1), (1, 1), layer.scale)
        assert fast.suits(batch, layer.weight, layer.bias, layer.alpha, 1, geometry)
    return layer, batch


def plain(layer: PushPull2d, batch: torch.Tensor) -> torch.Tensor:
    pull = -nn.functional.interpolate(layer.weight, size=(7, 7), mode="bilinear", align_corners=True)
    push = torch.conv2d(batch, layer.weight, layer.bias, padding=1).relu()
    alpha = layer.alpha.relu().view(-1, 1, 1) if isinstance(layer.alpha, torch.Tensor) else layer.alpha
    return push - alpha * torch.conv2d(batch, pull, -layer.bias, padding=3).relu()


def close(got: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("training", [True, False])
def test_compile_without_a_break_in_the_graph(training):
    layer, batch = layer_and_batch()
    layer.train(training)
    torch.compiler.reset()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    output = compiled(batch)
    close(output, layer(batch))
    gradients = torch.autograd.grad(output.sum(), tuple(layer.parameters()))
    expected = torch.autograd.grad(layer(batch).sum(), tuple(layer.parameters()))
    for got, wanted in zip(gradients, expected, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("alpha", ["trained", "one per kernel", "a number"])
def test_autocast(dtype, alpha):
    strength = torch.ones(8) if alpha == "one per kernel" else 1.0
    layer, batch = layer_and_batch(train_alpha=alpha == "trained", alpha=strength)
    with torch.autocast("cpu", dtype=dtype):
        output = layer(batch)
    assert output.dtype == dtype  # the responses', whatever alpha is
    tolerance = 0.05 if dtype == torch.bfloat16 else 0.01
    torch.testing.assert_close(output.float(), plain(layer, batch), rtol=tolerance, atol=tolerance)
    output.float().sum().backward()
    assert layer.weight.grad.dtype == torch.float32 and layer.weight.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_types(dtype):
    layer, batch = layer_and_batch(dtype=dtype)
    output = layer(batch.to(dtype))
    assert output.dtype == dtype
    expected = plain(layer.double(), batch.to(dtype).double())
    tolerance = {torch.bfloat16: 0.05, torch.float16: 0.01, torch.float64: 1e-9}[dtype]
    torch.testing.assert_close(output.double(), expected, rtol=tolerance, atol=tolerance)


def test_channels_last_goes_in_and_comes_out():
    layer, batch = layer_and_batch()
    output = layer(batch.contiguous(memory_format=torch.channels_last))
    assert output.is_contiguous(memory_format=torch.channels_last)
    close(output, plain(layer, batch))
    assert layer(batch).is_contiguous()
    layer.to(memory_format=torch.channels_last)
    assert layer(batch).is_contiguous(memory_format=torch.channels_last)


class TestFunctionalTransforms:
    def test_gradient_of_each_image(self):
        layer, batch = layer_and_batch()
        parameters = dict(layer.named_parameters())

        def loss(parameters, image):
            return torch.func.functional_call(layer, parameters, (image,)).square().mean()

        each = torch.func.vmap(torch.func.grad(loss), (None, 0))(parameters, batch[:3])
        for index in range(3):
            expected = torch.autograd.grad(
                plain(layer, batch[index : index + 1]).square().mean(), parameters.values()
            )
            for name, gradient in zip(parameters, expected, strict=True):
                close(each[name][index], gradient)

    @pytest.mark.parametrize("training", [True, False])
    def test_an_ensemble(self, training):
        layers = [PushPull2d(3, 8, 3, padding=1, train_alpha=True).train(training) for _ in range(2)]
        _, batch = layer_and_batch()
        parameters, buffers = torch.func.stack_module_state(layers)
        skeleton = copy.deepcopy(layers[0]).to("meta")
        outputs = torch.func.vmap(
            lambda p, b: torch.func.functional_call(skeleton, (p, b), (batch,)), (0, 0)
        )(parameters, buffers)
        for layer, output in zip(layers, outputs, strict=True):
            close(output, plain(layer, batch))

    def test_forward_mode(self):
        layer, batch = layer_and_batch()
        tangent = torch.randn_like(batch)
        output, derivative = torch.func.jvp(layer, (batch,), (tangent,))
        step = 1e-3
        numerical = (plain(layer, batch + step * tangent) - plain(layer, batch - step * tangent)) / (2 * step)
        close(output, plain(layer, batch))
        # but for the few responses whose rectifier changes within the step
        assert ((derivative - numerical).abs() < 1e-2).float().mean() > 0.99


def test_export():
    layer, batch = layer_and_batch()
    images = torch.export.Dim("images", min=2)
    program = torch.export.export(layer.eval(), (batch,), dynamic_shapes=({0: images},))
    close(program.module()(batch[:5]), plain(layer, batch[:5]))


@pytest.mark.usefixtures("one_onnx_registry")
def test_onnx():
    layer, batch = layer_and_batch()
    exported = torch.onnx.export(layer.eval(), (batch,), dynamo=True, optimize=False, verbose=False)
    session = onnxruntime.InferenceSession(exported.model_proto.SerializeToString())
    (result,) = session.run(None, {session.get_inputs()[0].name: batch.numpy()})
    np.testing.assert_allclose(result, plain(layer, batch).detach().numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("one_onnx_registry")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore:.*torch.jit", "ignore:.*legacy")
def test_the_ways_of_export_that_the_documentation_names(capfd):
    """`torch.export` and ONNX are above. Where one of the others comes to work, the documentation has to say so."""
    layer, batch = layer_and_batch()
    close(torch.jit.trace(layer.eval(), batch)(batch[:5]), plain(layer, batch[:5]))
    default = torch.onnx.export(layer, (batch,), verbose=False)
    session = onnxruntime.InferenceSession(default.model_proto.SerializeToString())
    (result,) = session.run(None, {session.get_inputs()[0].name: batch.numpy()})
    np.testing.assert_allclose(result, plain(layer, batch).detach().numpy(), rtol=1e-4, atol=1e-4)
    with pytest.raises(torch.onnx.errors.UnsupportedOperatorError, match="aten::kron"):
        torch.onnx.export(layer, (batch,), io.BytesIO(), dynamo=False)
    with pytest.raises(RuntimeError, match="relu"):
        torch.jit.script(layer)
    capfd.readouterr()  # the graph, as the exporter prints it


def saved_and_loaded(layer: PushPull2d) -> PushPull2d:
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    other = PushPull2d(3, 8, 3, padding=1, train_alpha=True)
    other.load_state_dict(torch.load(file, weights_only=True))
    return other


@pytest.mark.parametrize(
    "twin", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer)), saved_and_loaded]
)
def test_copies_and_files(twin):
    layer, batch = layer_and_batch()
    with torch.no_grad():
        layer.alpha.copy_(torch.linspace(-1, 2, 8))
        expected = layer.eval()(batch)  # with its pull kernel kept
        assert torch.equal(twin(layer).eval()(batch), expected)


class TestStateSaysAlphaAndScale:
    @pytest.mark.parametrize("options", [{"alpha": 0.5}, {"scale": 3}, {"train_alpha": True}])
    @pytest.mark.parametrize("strict", [True, False])
    def test_another_layers_is_an_error(self, options, strict):
        state = PushPull2d(3, 8, 3).state_dict()
        with pytest.raises(
            ValueError, match=r"from a push-pull layer with alpha=1, scale=2, but this one has alpha="
        ):
            PushPull2d(3, 8, 3, **options).load_state_dict(state, strict=strict)

    def test_a_convolution_does_not_take_a_push_pull_layers(self):
        with pytest.raises(RuntimeError, match="_extra_state"):
            nn.Conv2d(3, 8, 3).load_state_dict(PushPull2d(3, 8, 3).state_dict())

    def test_weights_without_it_are_taken(self):
        convolution, layer = nn.Conv2d(3, 8, 3), PushPull2d(3, 8, 3, alpha=0.3)
        assert not layer.load_state_dict(convolution.state_dict()).missing_keys
        assert torch.equal(layer.weight, convolution.weight)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
    def test_stored_in_less_precision_it_is_the_same(self, dtype):
        layer = PushPull2d(3, 8, 3, alpha=0.3, scale=1.7)
        layer.load_state_dict({name: value.to(dtype) for name, value in layer.state_dict().items()})

    def test_it_is_a_tensor_as_all_else(self):
        layer = nn.Sequential(PushPull2d(3, 8, 3, alpha=0.25, scale=3))
        assert layer.state_dict()["0._extra_state"].tolist() == [0.25, 3]


def test_meta_device():
    layer, batch = layer_and_batch(device="meta")
    assert layer(batch.to("meta")).shape == (32, 8, 32, 32)
    layer.to_empty(device="cpu").reset_parameters()
    assert layer.weight.std() > 0


@pytest.mark.parametrize("train_alpha", [False, True])
def test_made_without_memory_it_starts_at_the_alpha_given(train_alpha):
    """What FSDP does: memory that holds anything, then `reset_parameters` of every module."""
    alpha = torch.linspace(0.1, 0.8, 8)
    layer = PushPull2d(3, 8, 3, alpha=alpha, train_alpha=train_alpha, device="meta").to_empty(device="cpu")
    with torch.no_grad():
        layer.alpha.fill_(float("nan"))
    layer.reset_parameters()
    torch.testing.assert_close(layer.alpha.detach(), alpha)


def test_parametrizations():
    layer, batch = layer_and_batch()

    class Doubled(nn.Module):
        def forward(self, weight):
            return 2 * weight

    expected = copy.deepcopy(layer)
    expected.weight.data *= 2
    parametrize.register_parametrization(layer, "weight", Doubled())
    for mode in (True, False):
        close(layer.train(mode)(batch), plain(expected, batch))
    layer(batch).sum().backward()
    (wanted,) = torch.autograd.grad(plain(expected, batch).sum(), expected.weight)
    gradient = layer.parametrizations.weight.original.grad
    torch.testing.assert_close(gradient, 2 * wanted, rtol=1e-3, atol=1e-2)
    normed = parametrizations.spectral_norm(PushPull2d(3, 8, 3, padding=1))
    assert normed(batch).shape == (32, 8, 32, 32)


@pytest.fixture
def process_group(tmp_path):
    store = f"file://{tmp_path / 'store'}"
    torch.distributed.init_process_group("gloo", init_method=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.filterwarnings("ignore:DTensor random operators")
@pytest.mark.parametrize("alpha", [0.3, torch.linspace(0.1, 0.8, 8)])
def test_made_without_memory_and_sharded_it_starts_at_the_alpha_given(process_group, alpha):
    layer = PushPull2d(3, 8, 3, padding=1, alpha=alpha, train_alpha=True, device="meta")
    fully_shard(layer, mesh=init_device_mesh("cpu", (1,)))
    layer.to_empty(device="cpu")
    with torch.no_grad():
        layer.alpha.to_local().fill_(float("nan"))
    layer.reset_parameters()
    torch.testing.assert_close(layer.alpha.full_tensor().detach(), torch.as_tensor(alpha).expand(8))
    assert layer(torch.randn(2, 3, 8, 8)).isfinite().all()


def test_distributed_data_parallel(process_group):
    layer, batch = layer_and_batch()
    wrapped = nn.parallel.DistributedDataParallel(copy.deepcopy(layer))
    wrapped(batch).square().mean().backward()
    parameters = tuple(layer.parameters())
    expected = torch.autograd.grad(plain(layer, batch).square().mean(), parameters)
    for parameter, gradient in zip(wrapped.module.parameters(), expected, strict=True):
        close(parameter.grad, gradient)


def test_needs_torch_alone(tmp_path):
    """Every distribution that torch does not ask for is kept from being imported, and so are our other rooms."""
    script = f"""
import importlib.metadata, re, sys
sys.path.insert(0, {str(ROOT)!r})
needed, queue = set(), ["torch"]
while queue:
    name = re.sub("[-_.]+", "-", queue.pop()).lower()
    if name not in needed:
        needed.add(name)
        try:
            requirements = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        queue += [re.match("[A-Za-z0-9._-]+", r)[0] for r in requirements if "extra ==" not in r]
allowed = {{re.sub("[-_.]+", "-", n).lower() for n in needed}}
blocked = {{
    module for module, names in importlib.metadata.packages_distributions().items()
    if not any(re.sub("[-_.]+", "-", n).lower() in allowed for n in names)
}} - set(sys.stdlib_module_names) - {{"pushpull"}} | {{"nets", "common_corruptions", "stages"}}
assert {{"numpy", "scipy", "pandas"}} <= blocked
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in blocked:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Block())
import torch
from pushpull import PushPull2d, convert, fuse
layer = convert(torch.nn.Conv2d(3, 8, 3))
layer(torch.ones(32, 3, 40, 40)).sum().backward()
print(layer.weight.grad.shape)
"""
    run = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, encoding="utf-8")
    assert run.returncode == 0, run.stderr
    assert "[8, 3, 3, 3]" in run.stdout
