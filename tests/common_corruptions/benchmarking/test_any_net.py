"""Nets that return what they like: the same logits from each of them, or one error that says how to name them."""

import warnings
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

from common_corruptions.benchmarking.any_net import adapt
from common_corruptions.evaluation import predict
from common_corruptions.evaluation.onnx_runtime import Exported, export

pytestmark = pytest.mark.usefixtures("one_onnx_registry")

IMAGES = np.random.default_rng(0).integers(256, size=(10, 4, 4, 3), dtype=np.uint8)


def linear(classes=5):
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(48, classes))


def of(net, logits=None, **options):
    return predict(adapt(net, logits), IMAGES, batch_size=4, **options)


@pytest.fixture(scope="module")
def expected():
    return predict(linear(), IMAGES)


class Several(nn.Module):
    """Returns what `make` makes of its logits and features."""

    def __init__(self, make):
        super().__init__()
        self.linear, self.make = linear(), make

    def forward(self, x):
        return self.make(self.linear(x), x.flatten(1)[:, :7])


class Output(NamedTuple):
    logits: torch.Tensor
    features: torch.Tensor


class Array:
    """What another library's array is: it converts to NumPy's."""

    def __init__(self, tensor):
        self.array = tensor.detach().numpy()

    def __array__(self, dtype=None, copy=None):
        return self.array if dtype is None else self.array.astype(dtype)


ALONE = {
    "tuple": lambda logits, _: (logits,),
    "dict with a loss": lambda logits, _: {"loss": logits.mean(), "logits": logits},
    "list": lambda logits, _: [logits],
    "rows of numbers": lambda logits, _: logits.tolist(),
    "rows of tensors": lambda logits, _: list(logits),
    "rows of arrays": lambda logits, _: list(logits.detach().numpy()),
    "numpy": lambda logits, _: logits.detach().numpy(),
    "another library's": lambda logits, _: Array(logits),
}
NAMED = {
    "tuple": (lambda logits, features: (features, logits), 1),
    "tuple from its end": (lambda logits, features: (features, logits), -1),
    "dict": (lambda logits, features: {"features": features, "out": logits}, "out"),
    "named tuple": (Output, "logits"),
    "arrays": (lambda logits, features: [features.numpy(), logits.detach().numpy()], 1),
}


@pytest.mark.parametrize("make", ALONE.values(), ids=ALONE)
def test_logits_are_found_where_nothing_else_can_be_meant(make, expected):
    net = Several(make)
    np.testing.assert_allclose(of(net), expected, atol=1e-6)
    with torch.no_grad():
        np.testing.assert_allclose(of(lambda x: net(x)), expected, atol=1e-6)


@pytest.mark.parametrize(("make", "key"), NAMED.values(), ids=NAMED)
def test_logits_are_named_where_there_is_a_choice(make, key, expected):
    np.testing.assert_allclose(of(Several(make), key), expected, atol=1e-6)
    with pytest.raises(
        TypeError,
        match=r"\(4, 7\).*, not only logits \(n, K\); select them, such as by logits=.* in eval mode",
    ):
        of(Several(make))
    with pytest.raises(TypeError, match=r"logits='absent' selects no logits from what the net returned"):
        of(Several(make), "absent")


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (lambda x: None, r"the net returned a NoneType, not only logits"),
        (lambda x: {"label": "cat"}, r"the net returned a dict with 'label': str, not only logits"),
        (lambda x: "cat", r"the net returned a str, not only"),
        (lambda x: [[1.0, 2.0], [1.0]], r"the net returned a list with"),
        ("cat", r"a str is not a net: give a Module, an ONNX session, or a function"),
    ],
)
def test_no_logits(net, message):
    with pytest.raises(TypeError, match=message):
        of(net)


def test_an_output_of_a_net_that_returns_logits_alone():
    with pytest.raises(
        TypeError, match=r"logits=0 selects no logits from what the net returned, Tensor \(4, 5\)"
    ):
        of(linear(), 0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype, expected):
    found = of(linear().to(dtype))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=0.02)


def test_modes_and_gradients_are_those_of_the_net():
    net = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(0.9), linear()).train()
    net[1].eval()
    before = net[0].running_mean.clone()
    np.testing.assert_array_equal(of(net), of(net))
    assert [one.training for one in net] == [True, False, True] and torch.equal(net[0].running_mean, before)


def test_frozen_scripts_and_exported_programs(expected):
    script = torch.jit.freeze(torch.jit.script(linear().eval()))
    np.testing.assert_allclose(of(script), expected, atol=1e-6)
    images = torch.export.Dim("images")
    program = torch.export.export(linear().eval(), (torch.zeros(2, 3, 4, 4),), dynamic_shapes=({0: images},))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the mode, which it keeps
        np.testing.assert_allclose(of(program.module()), expected, atol=1e-6)


def test_what_returns_a_dict_is_exported_too(expected):
    """The faster way stays open: the exporter takes the net with the choice of its logits."""
    exported = Exported(adapt(Several(NAMED["dict"][0]), "out"))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        found = predict(exported, IMAGES)
    assert exported.session is not None
    np.testing.assert_allclose(found, expected, atol=1e-5)


# ONNX


@pytest.fixture(scope="module")
def session():
    """Makes the session of an exported net, for any number of images or for `size` of them."""
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")

    def make(exported, size=None):
        model = onnx.load_from_string(exported)
        if size is not None:
            for value in (*model.graph.input, *model.graph.output):
                value.type.tensor_type.shape.dim[0].dim_value = size
        return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])

    return make


@pytest.fixture(scope="module")
def exported_linear():
    pytest.importorskip("onnx")
    return export(linear().eval(), (3, 4, 4))


@pytest.mark.parametrize("size", [None, 1, 3])
def test_sessions_with_any_or_a_fixed_number_of_images(session, exported_linear, size, expected):
    made = session(exported_linear, size)
    assert isinstance(made.get_inputs()[0].shape[0], str if size is None else int)
    np.testing.assert_allclose(of(made), expected, atol=1e-5)


def test_sessions_of_half_precision(expected):
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    from onnx import helper, numpy_helper

    half, net = onnx.TensorProto.FLOAT16, linear().half()
    model = helper.make_model(
        helper.make_graph(
            [
                helper.make_node("Flatten", ["x"], ["flat"]),
                helper.make_node("Gemm", ["flat", "weight", "bias"], ["y"], transB=1),
            ],
            "linear",
            [helper.make_tensor_value_info("x", half, ["n", 3, 4, 4])],
            [helper.make_tensor_value_info("y", half, ["n", 5])],
            [
                numpy_helper.from_array(value.detach().numpy(), name)
                for name, value in net[1].named_parameters()
            ],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=10,
    )
    made = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    assert made.get_inputs()[0].type == "tensor(float16)"
    np.testing.assert_allclose(of(made), expected, atol=0.02)


def test_sessions_with_two_outputs(session, expected):
    made = session(export(Several(lambda logits, features: (features, logits)).eval(), (3, 4, 4)))
    features, logits = (one.name for one in made.get_outputs())
    np.testing.assert_allclose(of(made, logits), expected, atol=1e-5)
    with pytest.raises(TypeError, match=rf"'{features}': \(4, 7\), '{logits}': \(4, 5\).*select them"):
        of(made)


def test_sessions_that_do_not_take_the_images(session, exported_linear):
    with pytest.raises(ValueError, match=r"the ONNX model does not accept images \(10, 3, 8, 4\): "):
        predict(adapt(session(exported_linear)), np.zeros((10, 8, 4, 3), np.uint8))
