"""Evaluate nets on images and whole sets, with torch or ONNX Runtime."""

from common_corruptions.evaluation.inputs import (
    affine,
    default_batch_size,
    float32_as,
    memory_format,
    normalise,
)
from common_corruptions.evaluation.prediction import (
    Net,
    evaluating,
    outputs,
    predict,
    predict_ranks,
    tensors_of,
)

__all__ = [
    "Net",
    "affine",
    "default_batch_size",
    "evaluating",
    "float32_as",
    "memory_format",
    "normalise",
    "outputs",
    "predict",
    "predict_ranks",
    "tensors_of",
]
