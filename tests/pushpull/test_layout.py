import pytest
import torch

from pushpull.layout import channels_last

LAST = torch.channels_last


@pytest.mark.parametrize(
    "shape",
    [(2, 16, 32, 32), (2, 64, 16, 16), (1, 19, 64, 64), (3, 5, 7, 9), (2, 1, 8, 8), (1, 40, 1, 1024)],
    ids=str,
)
def test_values_stay_and_the_layout_changes(shape):
    images = torch.randn(shape)
    found = channels_last(images)
    assert found.is_contiguous(memory_format=LAST)
    assert torch.equal(found, images)


def test_images_of_that_layout_are_not_copied():
    images = torch.randn(2, 16, 32, 32).contiguous(memory_format=LAST)
    assert channels_last(images) is images


@pytest.mark.parametrize("expanded", [True, False])
def test_images_of_no_layout(expanded):
    one = torch.randn(1, 16, 1, 1)
    images = one.expand(2, 16, 32, 32) if expanded else torch.randn(2, 16, 32, 64)[..., ::2]
    found = channels_last(images)
    assert found.is_contiguous(memory_format=LAST)
    assert torch.equal(found, images)
