"""Metrics against loops written from their definitions, and against cases worked out by hand."""

import tracemalloc
from statistics import mean

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from common_corruptions.metrics import (
    classification_error,
    corruption_error,
    flip_probability,
    mean_corruption_error,
    mean_flip_probability,
    mean_flip_rate,
    ordinal_ranks,
    relative_corruption_error,
    sequences,
    top5_distance,
    zipf_distance,
)
from common_corruptions.metrics.baseline import ALEXNET_CLEAN_ERROR, ALEXNET_ERRORS
from common_corruptions.recipes.names import CORRUPTIONS, MAIN_CORRUPTIONS, SEVERITIES
from common_corruptions.summary import Baseline, undefined_relative

# Plain definitions


def loop_ranks(logits):
    """Rank of each class: its place in the list of classes by falling logit, then by index."""
    order = sorted(range(len(logits)), key=lambda c: (-logits[c], c))
    return [order.index(c) + 1 for c in range(len(logits))]


def loop_top5(reference, frame):
    """For each class of the reference's top five, the places 1 to 5 from the better of its two ranks to the worse."""
    total = 0
    for i in range(1, 6):
        s = frame[reference.index(i)]
        total += sum(1 for place in range(min(i, s), max(i, s)) if 1 <= place <= 5)
    return total


def loop_zipf(reference, frame):
    return sum(abs(1 / i - 1 / s) / i for i, s in zip(reference, frame, strict=True))


def loop_mean(sequences, distance, *, against_first):
    values = []
    for sequence in sequences:
        for t in range(1, len(sequence)):
            values.append(distance(sequence[0 if against_first else t - 1], sequence[t]))
    return mean(values)


sequences_of_logits = st.tuples(
    st.integers(1, 3), st.integers(2, 5), st.sampled_from([5, 6, 10, 33, 40])
).flatmap(
    lambda shape: arrays(np.float32, shape, elements=st.integers(-4, 4).map(float))  # few values: many ties
)
against_first_if = pytest.mark.parametrize(
    ("noise", "protocol", "against_first"),
    [
        (False, "hendrycks", False),
        (True, "hendrycks", True),
        (False, "official", False),
        (True, "official", False),
    ],
)


# Classification error


def test_classification_error_of_indices_and_logits():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(200, 10)), rng.integers(0, 10, 200)
    wrong = sum(
        max(range(10), key=lambda c: row[c]) != label for row, label in zip(logits, labels, strict=True)
    )
    assert classification_error(logits, labels) == pytest.approx(wrong / 2)
    assert classification_error(logits.argmax(1), labels.astype(np.uint8)) == pytest.approx(wrong / 2)
    assert classification_error(torch.from_numpy(logits), torch.from_numpy(labels)) == pytest.approx(
        wrong / 2
    )
    assert classification_error([0, 1, 2, 3], [0, 1, 2, 0]) == 25.0


def test_classification_error_takes_the_types_of_mixed_precision():
    logits = torch.tensor([[0.0, 2.0, 1.0], [3.0, 0.0, 1.0]], requires_grad=True)
    for dtype in (torch.bfloat16, torch.float16, torch.float32, torch.float64):
        assert classification_error(logits.to(dtype), torch.tensor([1, 1])) == 50.0


def test_equal_logits_predict_the_lower_class():
    assert classification_error([[1.0, 1.0, 0.0]], [0]) == 0.0


@pytest.mark.parametrize(
    ("predictions", "labels", "message"),
    [
        ([1, 2], [1, 2, 3], "2 predictions for 3 labels"),
        ([], [], "empty"),
        ([0.5, 1.5], [0, 1], "class indices"),
        ([-1, 1], [0, 1], "integer class indices from 0; got -1"),
        ([0, 1], [[0], [1]], r"labels have shape \(2, 1\)"),
        ([[[0.0]]], [0], r"predictions have shape"),
        ([[0.0, np.nan]], [0], "NaN"),
        ([[0.0, 1.0]], [2], "label 2 for logits of 2 classes"),
        ([[0.3], [0.7]], [0, 1], "at least 2 classes"),  # of which the largest is always the first
        (np.array([[1, 2], [2, 1]], np.uint8), [0, 1], "logits have type uint8"),  # ranks
        ([[True, False]], [0], "logits have type bool"),
        ([[1j, 0]], [0], "logits have type complex128"),
    ],
)
def test_classification_error_refuses(predictions, labels, message):
    with pytest.raises(ValueError, match=message):
        classification_error(predictions, labels)


# Corruption error


def test_corruption_errors_by_hand():
    errors, baseline = {"fog": 10.0, "snow": 90.0}, {"fog": 20.0, "snow": 30.0}
    assert corruption_error(errors, baseline) == pytest.approx({"fog": 50.0, "snow": 300.0})
    assert mean_corruption_error(errors, baseline) == pytest.approx(175.0)  # a ratio of sums gives 200
    # (10 - 4) / (20 - 5) = 0.4 and (90 - 4) / (30 - 5) = 3.44; a ratio of sums gives 230
    assert relative_corruption_error(errors, 4.0, baseline, 5.0) == pytest.approx(192.0)


def test_severities_are_summed_before_the_ratio():
    five, baseline = [10.0, 20.0, 30.0, 40.0, 50.0], [50.0, 40.0, 30.0, 20.0, 20.0]
    assert corruption_error({"fog": five}, {"fog": baseline})["fog"] == pytest.approx(100 * 150 / 160)
    for own, reference in ((30.0, baseline), (five, 32.0), (np.array(five), torch.tensor(baseline))):
        assert corruption_error({"fog": own}, {"fog": reference})["fog"] == pytest.approx(100 * 150 / 160)
    rce = relative_corruption_error({"fog": five}, 5.0, {"fog": baseline}, 12.0)
    assert rce == pytest.approx(100 * (30 - 5) / (32 - 12))


def test_the_baseline_is_at_100_on_19_and_15_corruptions():
    for names in (None, CORRUPTIONS, MAIN_CORRUPTIONS):
        assert mean_corruption_error(ALEXNET_ERRORS, corruptions=names) == pytest.approx(100.0)
        assert relative_corruption_error(
            ALEXNET_ERRORS, ALEXNET_CLEAN_ERROR, corruptions=names
        ) == pytest.approx(100.0)


def test_only_the_corruptions_asked_for_count():
    errors = {name: 20.0 + i for i, name in enumerate(CORRUPTIONS)}
    ratios = [errors[name] / ALEXNET_ERRORS[name] for name in MAIN_CORRUPTIONS]
    assert mean_corruption_error(errors, corruptions=MAIN_CORRUPTIONS) == pytest.approx(100 * mean(ratios))
    assert list(corruption_error(errors, corruptions=MAIN_CORRUPTIONS)) == list(MAIN_CORRUPTIONS)


def test_the_baseline_names_every_corruption_and_is_read_only():
    assert set(ALEXNET_ERRORS) == set(CORRUPTIONS)
    with pytest.raises(TypeError):
        ALEXNET_ERRORS["fog"] = 0.0


@pytest.mark.parametrize(
    ("errors", "options", "message"),
    [
        ({"fog": 1.0}, {"corruptions": ["fog", "snow", "frost"]}, "no error for snow, frost"),
        ({"fog": 1.0, "dust": 1.0}, {}, "no baseline error for dust"),
        ({}, {}, "no names"),
        ({"fog": 1.0}, {"corruptions": ["fog", "fog"]}, "twice"),
        ({"fog": float("nan")}, {}, "error of fog is nan"),
        ({"fog": 100.5}, {}, "0 to 100"),
        ({"fog": [1.0, 2.0, 3.0, 4.0, -5.0]}, {}, "0 to 100"),
        ({"fog": [1.0, 2.0, 3.0]}, {}, "5 severities"),
        ({"fog": 1.0}, {"baseline": {"fog": 0.0}}, "cannot normalise fog"),
    ],
)
def test_corruption_error_refuses(errors, options, message):
    with pytest.raises(ValueError, match=message):
        mean_corruption_error(errors, **options)


def test_a_rise_by_rounding_is_none():
    errors = {"fog": 9.0, "snow": 9.0}
    baseline = Baseline({"fog": 20.0, "snow": 7 / 3 + 5e-8}, 7 / 3, "two means of the same errors")
    assert undefined_relative(baseline, errors) == ["snow"]
    with pytest.raises(ValueError, match="cannot normalise snow"):
        relative_corruption_error(errors, 5.0, baseline.errors, baseline.clean)


def test_relative_corruption_error_refuses():
    with pytest.raises(ValueError, match="cannot normalise snow: the baseline is no worse"):
        relative_corruption_error({"fog": 9.0, "snow": 9.0}, 5.0, {"fog": 20.0, "snow": 10.0}, 10.0)
    with pytest.raises(ValueError, match="clean_error is 101"):
        relative_corruption_error({"fog": 9.0}, 101.0)
    with pytest.raises(ValueError, match="baseline_clean is nan"):
        relative_corruption_error({"fog": 9.0}, 5.0, baseline_clean=float("nan"))
    with pytest.raises(TypeError):
        relative_corruption_error({"fog": 9.0}, [5.0, 7.0])


def test_another_baseline_has_another_clean_error():
    errors, baseline = {"fog": 20.0}, {"fog": 40.0}
    with pytest.raises(ValueError, match="give baseline_clean, this baseline's own error"):
        relative_corruption_error(errors, 10.0, baseline)
    assert relative_corruption_error(errors, 10.0, baseline, 20.0) == pytest.approx(50.0)
    assert relative_corruption_error(errors, 10.0) == pytest.approx(100 * 10 / (30.31 - 13.87))


def test_one_string_is_no_list_of_names():
    for metric in (mean_corruption_error, mean_flip_probability):
        with pytest.raises(TypeError, match=r"such as \['fog'\], not one string"):
            metric({"fog": 0.5}, corruptions="fog") if metric is mean_corruption_error else metric(
                {"fog": 0.5}, "fog"
            )


# Flip probability and rank distances


@against_first_if
@settings(max_examples=30, deadline=None)
@given(logits=sequences_of_logits)
def test_perturbation_metrics_against_loops(logits, noise, protocol, against_first):
    options = {"noise": noise, "protocol": protocol}
    ranks = [[loop_ranks(frame) for frame in sequence] for sequence in logits.tolist()]
    classes = [[frame.index(1) for frame in sequence] for sequence in ranks]
    flips = loop_mean(classes, lambda a, b: float(a != b), against_first=against_first)
    top5 = loop_mean(ranks, loop_top5, against_first=against_first)
    zipf = loop_mean(ranks, loop_zipf, against_first=against_first)

    ours = ordinal_ranks(logits)
    assert ours.tolist() == ranks
    assert flip_probability(np.array(classes), **options) == pytest.approx(flips)
    assert flip_probability(logits, **options) == pytest.approx(flips)
    assert top5_distance(logits, **options) == pytest.approx(top5)
    assert top5_distance(ours, ranked=True, **options) == pytest.approx(top5)
    assert zipf_distance(logits, **options) == pytest.approx(zipf)
    assert zipf_distance(ours, ranked=True, **options) == pytest.approx(zipf)


def test_flips_of_one_sequence_by_hand():
    sequence = [[3, 3, 5, 5, 3]]
    assert flip_probability(sequence) == 2 / 4
    assert flip_probability(sequence, noise=True) == 2 / 4
    sequence = [[3, 5, 5, 5]]
    assert flip_probability(sequence) == 1 / 3
    assert flip_probability(sequence, noise=True) == 1.0
    assert flip_probability(sequence, noise=True, protocol="official") == 1 / 3


def test_distances_of_two_frames_by_hand():
    falling = np.arange(10.0, 0.0, -1.0)
    swapped = falling.copy()
    swapped[[0, 1]] = swapped[[1, 0]]
    leaves = falling.copy()
    leaves[0] = 0.0  # the first falls to the last place, all others rise by one
    assert top5_distance([[falling, falling]]) == zipf_distance([[falling, falling]]) == 0.0
    assert top5_distance([[falling, swapped]]) == 2
    assert zipf_distance([[falling, swapped]]) == pytest.approx(1 / 2 + 1 / 4)
    assert top5_distance([[falling, falling[::-1]]]) == 15  # the maximum: all five leave
    # the two directions differ: only the classes of the reference's top five count
    assert top5_distance([[falling, leaves]]) == 5 + 4
    assert top5_distance([[leaves, falling]]) == 1 + 1 + 1 + 1 + 1


def test_the_first_frame_is_the_reference_of_a_noise():
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(20, 6, 10))
    for metric in (flip_probability, top5_distance, zipf_distance):
        by_frame = [metric(logits[:, [0, t]]) for t in range(1, 6)]
        assert metric(logits, noise=True) == pytest.approx(mean(by_frame))
        assert metric(logits, noise=True) != pytest.approx(metric(logits))
        assert metric(logits, noise=True, protocol="official") == metric(logits)


@pytest.mark.parametrize("classes", [10, 100, 300])
def test_ranks_of_many_classes(classes):
    logits = np.random.default_rng(2).normal(size=(3, 4, classes)).round(1)
    ranks = ordinal_ranks(logits)
    assert ranks.dtype == (np.uint8 if classes < 256 else np.uint16)
    assert [[loop_ranks(frame) for frame in sequence] for sequence in logits.tolist()] == ranks.tolist()
    lists = ranks.tolist()
    assert top5_distance(logits) == pytest.approx(loop_mean(lists, loop_top5, against_first=False))
    assert zipf_distance(logits) == pytest.approx(loop_mean(lists, loop_zipf, against_first=False))


@pytest.mark.parametrize("classes", [8, 40])
@pytest.mark.parametrize("dtype", [np.int8, np.float16, np.float32, np.float64])
def test_ranks_of_every_type_with_ties_and_extremes(classes, dtype):
    info = np.iinfo(dtype) if np.issubdtype(dtype, np.integer) else np.finfo(dtype)
    values = [info.min, info.max, 0, 1] if info.dtype.kind == "i" else [-np.inf, info.max, 0, -0.0]
    logits = np.random.default_rng(3).choice(np.array(values, dtype), size=(5, classes))
    if info.dtype.kind == "f":
        logits[np.arange(5), [0, 3, 5, 6, 7]] = np.inf  # several in a row are refused
    assert ordinal_ranks(logits).tolist() == [loop_ranks(row) for row in logits.astype(float).tolist()]


def test_tensors_give_what_arrays_give():
    logits = np.random.default_rng(4).normal(size=(8, 5, 10)).astype(np.float32)
    tensor = torch.from_numpy(logits).requires_grad_()
    assert (ordinal_ranks(tensor) == ordinal_ranks(logits)).all()
    for metric in (flip_probability, top5_distance, zipf_distance):
        assert metric(tensor) == metric(logits)
    rounded = tensor.bfloat16()
    assert zipf_distance(rounded) == zipf_distance(rounded.float())


def test_blocks_leave_no_trace(monkeypatch):
    logits = np.random.default_rng(5).normal(size=(23, 7, 10))
    whole = top5_distance(logits), zipf_distance(logits, noise=True), ordinal_ranks(logits).tolist()
    monkeypatch.setattr(sequences, "_BLOCK", 300)
    assert (top5_distance(logits), zipf_distance(logits, noise=True), ordinal_ranks(logits).tolist()) == whole


def test_memory_does_not_grow_with_the_number_of_sequences():
    def peak(sequences):
        logits = np.random.default_rng(6).normal(size=(sequences, 31, 10)).astype(np.float32)
        tracemalloc.start()
        zipf_distance(logits)
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    peak(10)
    assert peak(3000) < 1.1 * peak(1000)


LOGITS = np.random.default_rng(7).normal(size=(2, 3, 6))
WITH_NAN = LOGITS.copy()
WITH_NAN[1, 1, 1] = np.nan


@pytest.mark.parametrize("metric", [top5_distance, zipf_distance])
@pytest.mark.parametrize(
    ("logits", "options", "message"),
    [
        (LOGITS[0], {}, "shape"),
        (LOGITS[:0], {}, "shape"),
        (LOGITS[:, :1], {}, "at least 2"),
        (WITH_NAN, {}, "NaN"),
        (LOGITS, {"protocol": "first"}, "unknown protocol 'first'"),
        (ordinal_ranks(LOGITS), {}, "ranked=True"),
        (LOGITS, {"ranked": True}, "ranks have type float64"),
        (ordinal_ranks(LOGITS) - 1, {"ranked": True}, "not ordinal ranks"),
        (np.ones_like(LOGITS, dtype=int), {"ranked": True}, "not ordinal ranks"),
        (np.full((2, 3, 5), 3), {"ranked": True}, "not ordinal ranks"),  # with the right sum
    ],
)
def test_rank_distances_refuse(metric, logits, options, message):
    with pytest.raises(ValueError, match=message):
        metric(logits, **options)


def test_top5_distance_needs_five_classes():
    with pytest.raises(ValueError, match="at least 5 classes, got 4"):
        top5_distance(LOGITS[..., :4])
    assert zipf_distance(LOGITS[..., :4]) > 0


@pytest.mark.parametrize(
    ("predictions", "message"),
    [
        ([1, 2, 3], "shape"),
        ([[1], [2]], "at least 2"),
        ([[0.5, 1.0]], "class indices"),
        ([[[0.0, np.nan], [0.0, 1.0]]], "NaN"),
        (np.zeros((0, 3), int), "empty"),
        (np.zeros((2, 3, 1)), "at least 2 classes"),
        (ordinal_ranks(LOGITS), "logits have type uint8"),
    ],
)
def test_flip_probability_refuses(predictions, message):
    with pytest.raises(ValueError, match=message):
        flip_probability(predictions)


def test_means_over_perturbations():
    flips, baseline = {"snow": 0.1, "tilt": 0.3}, {"snow": 0.2, "tilt": 0.1}
    assert mean_flip_probability(flips) == pytest.approx(0.2)
    assert mean_flip_probability(flips, ["tilt"]) == pytest.approx(0.3)
    assert mean_flip_rate(flips, baseline) == pytest.approx(175.0)  # a ratio of sums gives 133
    with pytest.raises(TypeError):
        mean_flip_rate(flips)
    with pytest.raises(ValueError, match="no baseline flip probability for tilt"):
        mean_flip_rate(flips, {"snow": 0.1})
    with pytest.raises(ValueError, match="cannot normalise tilt"):
        mean_flip_rate(flips, {"snow": 0.1, "tilt": 0.0})
    with pytest.raises(ValueError, match="no flip probability for rotate"):
        mean_flip_probability(flips, ["snow", "rotate"])
    with pytest.raises(ValueError, match="0 to 1"):
        mean_flip_probability({"snow": 10.0})


def test_values_of_another_form_are_one_line():
    with pytest.raises(TypeError, match="give a dict of values by name, not a list"):
        mean_flip_probability([0.1, 0.2])
    with pytest.raises(TypeError, match="fog is a dict; give its mean, or the 5 severities in order"):
        mean_corruption_error({"fog": dict.fromkeys(SEVERITIES, 10.0)}, {"fog": 20.0})
