"""Snow and drops of water over images, for both the corruptions and the perturbations."""

import cv2
import numpy as np

from common_corruptions.recipes.colour import from_planes, in_channels, luma, to_planes
from common_corruptions.recipes.filters import clipped_zoom, to_uint8

WATER = (175, 238, 238)  # pale turquoise
DROP_STENCIL = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]], dtype=np.float32)


def snow_layer(flakes: np.ndarray, zoom: float, threshold: float) -> np.ndarray:
    """Snow flakes, uint8 (N, H, W), from noise (N, H, W) in units of 1: enlarged, thresholded and clipped."""
    layer = clipped_zoom(flakes, zoom)
    layer[layer < threshold] = 0.0
    return to_uint8(layer)


def whiten(images: np.ndarray, keep: float) -> np.ndarray:
    """Whiten uint8 images (N, H, W, C) as in snow, keeping a share `keep` of them; float64 planes (C, N, H, W).

    The grey value has single precision, as in OpenCV.
    """
    unit = to_planes(images) / 255.0
    white = luma(unit.astype(np.float32)) * np.float32(1.5) + np.float32(0.5)
    whitened = np.maximum(unit, white)
    whitened *= 1 - keep
    unit *= keep
    unit += whitened
    return unit


def lay_snow(whitened: np.ndarray, layer: np.ndarray) -> np.ndarray:
    """Add the blurred `layer` (N, H, W), 0 to 255, and its 180-degree rotation to the planes of `whiten`; uint8."""
    flakes = layer / 255.0
    unit = whitened + flakes
    unit += flakes[:, ::-1, ::-1]
    return from_planes(to_uint8(unit))


def water_mask(layer: np.ndarray, strength: float, *, reach: float = 20.0) -> tuple[np.ndarray, np.ndarray]:
    """The opacity of drops of water at each pixel.

    As published, an amount of water above 1 wraps around to 0.

    Args:
        layer: the amount of water, float64 (N, H, W), 0 where the image is dry.
        strength: maximum opacity of the water.
        reach: distance in pixels from a drop's edge at which its shading ends.

    Returns:
        The opacity, float32 (N, H, W), and whether there is no drop at all, bool (N, 1, 1).
    """
    water = (layer * 255).astype(np.int64).astype(np.uint8)
    shade = np.empty_like(water)
    distance, nearby = np.empty(layer.shape, dtype=np.float32), np.empty(layer.shape)
    for source, target in zip(water, shade, strict=True):
        cv2.Canny(source, 50, 150, edges=target)
    for source, target in zip(~shade, distance, strict=True):
        # With labels OpenCV measures in units of 2^-16; without, it uses Intel's library where that is present.
        cv2.distanceTransformWithLabels(source, cv2.DIST_L2, 5, dst=target, labelType=cv2.DIST_LABEL_PIXEL)
    np.minimum(distance, np.float32(reach), out=distance)
    for source, target in zip(distance, nearby, strict=True):
        cv2.boxFilter(source, cv2.CV_64F, (3, 3), dst=target, normalize=False)  # exact: multiples of 2^-16
    nearby /= 9
    shade = nearby.astype(np.uint8)
    for image in shade:
        cv2.filter2D(cv2.equalizeHist(image), -1, DROP_STENCIL, dst=image)
        cv2.blur(image, (3, 3), dst=image)
    shine: np.ndarray = water * shade.astype(np.float32)
    peak = shine.max(axis=(1, 2), keepdims=True)
    dry = peak == 0
    shine /= np.where(dry, np.float32(1), peak)
    shine *= np.float32(strength)
    return shine, dry


def lay_water(images: np.ndarray, mask: np.ndarray, dry: np.ndarray) -> np.ndarray:
    """Put water of the opacity `mask` (N, H, W) on uint8 images (N, H, W, C); uint8.

    As published, an image without a drop, where `dry` (N, 1, 1), becomes black, because of 0 / 0.
    """
    unit = mask * in_channels(WATER, images.shape[-1])
    unit += to_planes(images) / np.float32(255)
    unit *= ~dry
    return from_planes(to_uint8(unit))
