"""A function around a module in training mode: a warning that names it, and silence where there is nothing to say."""

import functools
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from common_corruptions import benchmark
from common_corruptions.benchmarking.any_net import adapt
from common_corruptions.evaluation import predict

IMAGES = np.random.default_rng(0).integers(256, size=(8, 16, 16, 3), dtype=np.uint8)
LABELS = np.arange(8) % 3


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.norm, self.last = nn.BatchNorm2d(3), nn.Linear(768, 3)

    def forward(self, x):
        return self.last(self.norm(x).flatten(1))


class Predictor:
    def __init__(self, net):
        self.inner = net

    def __call__(self, x):
        return self.inner(x)

    def logits(self, x):
        return self.inner(x)


WHOLE = Net().eval()


def through_a_global(x):
    return WHOLE(x)


def around(net):
    def call(x):
        return net(x)

    return call


def scaled(net, x, factor):
    return factor * net(x)


FUNCTIONS = {
    "closure": (around, r"net \(Net\)"),
    "lambda": (lambda one: lambda x: one(x), r"one \(Net\)"),
    "bound method": (lambda net: net.forward, "Net"),
    "partial": (lambda net: functools.partial(scaled, net, factor=2), "Net"),
    "keyword of a partial": (lambda net: functools.partial(lambda x, it: it(x), it=net), r"it \(Net\)"),
    "partial of a method": (lambda net: functools.partial(Predictor(net).logits), r"inner \(Net\)"),
    "object": (Predictor, r"inner \(Net\)"),
    "method of an object": (lambda net: Predictor(net).logits, r"inner \(Net\)"),
    "decorated": (lambda net: torch.no_grad()(around(net)), r"net \(Net\)"),
    "a function in a function": (lambda net: around(around(net)), r"net \(Net\)"),
    "ensemble": (lambda net: around(lambda x: net(x) + net(x)), r"net \(Net\)"),
    "list": (lambda net: (lambda nets: lambda x: sum(one(x) for one in nets))([net]), "Net"),
    "dict": (lambda net: (lambda nets: lambda x: nets["a"](x))({"a": net}), r"a \(Net\)"),
}


@pytest.mark.parametrize("make", FUNCTIONS)
def test_a_module_in_training_mode_is_named_once_and_left_as_it_is(make):
    build, named = FUNCTIONS[make]
    net = Net().eval()
    net.norm.train()  # of one part alone, too
    adapted = adapt(build(net))
    with pytest.warns(
        UserWarning, match=rf"the net is a function, and {named} in it is in training mode.*call its eval\(\)"
    ) as said:
        predict(adapted, IMAGES, batch_size=4)
    assert len(said) == 1 and net.norm.training
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_allclose(
            predict(adapt(build(net.eval())), IMAGES) / predict(net, IMAGES),
            {"partial": 2, "ensemble": 2}.get(make, 1),
            rtol=1e-5,
        )


def test_a_net_among_the_globals():
    WHOLE.train()
    try:
        with pytest.warns(UserWarning, match=r"WHOLE \(Net\) in it is in training mode"):
            predict(adapt(through_a_global), IMAGES)
    finally:
        WHOLE.eval()


def test_a_function_that_calls_eval_itself():
    net = Net().train()

    def call(x):
        net.eval()
        return net(x)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = predict(adapt(call), IMAGES)
    np.testing.assert_array_equal(found, predict(Net().eval(), IMAGES))


def test_functions_of_which_nothing_is_seen():
    """Those without a module, with a frozen script, and one that names a variable which is not set yet."""
    script = torch.jit.freeze(torch.jit.script(Net().eval()))

    def unset(x):
        return later(x) if x.isnan().any() else x.flatten(1)[:, :3]

    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        for function in (lambda x: script(x), lambda x: x.flatten(1)[:, :3], unset):
            predict(adapt(function), IMAGES)
    later = WHOLE


def test_the_benchmark_says_it():
    net = Net().train()
    with pytest.warns(UserWarning, match=r"net \(Net\) in it is in training mode"):
        benchmark(lambda x: net(x), (IMAGES, LABELS), corruptions=["brightness"], progress=False)


def test_a_net_that_takes_gradients():
    """As the documentation has it: a step of adaptation for each batch, which moves what the next batch meets."""
    net = Net().eval()
    first = predict(net, IMAGES[:4])

    def adapting(x):
        with torch.inference_mode(False), torch.enable_grad():
            logits = net(x.clone())
            logits.logsumexp(1).sum().backward()
            with torch.no_grad():
                net.norm.weight -= 0.1 * net.norm.weight.grad
        return logits.detach()

    adapted = predict(adapt(adapting), IMAGES, batch_size=4)
    np.testing.assert_allclose(adapted[:4], first, rtol=1e-5)
    assert net.norm.weight.grad.abs().sum() > 0
    assert not np.allclose(adapted[4:], predict(Net().eval(), IMAGES[4:]))
