"""What stands under the name of an `.npy` file and is none."""

import io
import re
import zipfile

import numpy as np
import pytest
from click.testing import CliRunner

from common_corruptions.__main__ import main
from common_corruptions.npy import load_array, load_labels
from tests.archives.miniatures import npy_bytes


def archive(**members: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)
    return stream.getvalue()


def npz() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, images=np.zeros(3))
    return stream.getvalue()


WHOLE = npy_bytes(np.arange(400, dtype=np.uint8).reshape(5, 80))
OBJECTS = io.BytesIO()
np.save(OBJECTS, np.array([{}, "text"], dtype=object), allow_pickle=True)
DAMAGED = {
    "empty": (b"", "it is empty"),
    "page": (b"<!DOCTYPE html><title>404</title>", "it begins with b'<!DOCTYPE html><"),
    # The next bytes are the time of day: with an apostrophe among them, all stand between quotation marks.
    "zip": (archive(images=b"123"), r"it begins with b['\"]PK"),
    "npz": (npz(), r"it begins with b['\"]PK"),
    "cut short": (WHOLE[:-1], "mmap length is greater than file size"),
    "cut in its header": (WHOLE[:40], "EOF"),
    "header": (WHOLE.replace(b"'shape': (5, 80)", b"'shape': (5, 80("), ""),
    "type": (WHOLE.replace(b"'|u1'", b"'|q1'"), ""),
    "objects": (OBJECTS.getvalue(), "Python objects"),
}


@pytest.fixture(params=DAMAGED)
def damaged(request, tmp_path):
    content, reason = DAMAGED[request.param]
    path = tmp_path / "images.npy"
    path.write_bytes(content)
    return path, reason


def test_a_damaged_file_is_one_line_with_its_name_and_what_to_do(damaged):
    path, reason = damaged
    with pytest.raises(ValueError, match=re.escape(str(path))) as error:
        load_array(path)
    message = str(error.value)
    assert "\n" not in message and "allow_pickle" not in message
    assert re.search(reason, message) and message.endswith("; fetch it or make it again")


def test_any_damaged_byte_of_the_header_is_an_error_of_value(tmp_path):
    random = np.random.default_rng(0)
    path = tmp_path / "images.npy"
    refused = 0
    for _ in range(300):
        content = np.frombuffer(WHOLE, np.uint8).copy()
        content[random.integers(10, 80, size=2)] = random.integers(256, size=2)
        path.write_bytes(content.tobytes())
        try:
            load_array(path)
        except ValueError:
            refused += 1
    assert refused > 200


def test_the_command_ends_in_one_line(damaged, tmp_path):
    path, _ = damaged
    done = CliRunner().invoke(main, ["corrupt", str(path), str(tmp_path / "out")])
    assert done.exit_code == 1
    assert re.fullmatch(rf"Error: {re.escape(str(path))} is not an .npy file .*\n", done.stderr)
    assert not (tmp_path / "out").exists()


def test_what_is_an_array_is_read_as_it_is(tmp_path):
    for array in (np.arange(6).reshape(2, 3), np.asfortranarray(np.eye(3)), np.zeros((0, 4)), np.float32(3)):
        np.save(tmp_path / "array.npy", array)
        np.testing.assert_array_equal(load_array(tmp_path / "array.npy"), array)
    with pytest.raises(FileNotFoundError, match=r"no\.npy"):
        load_array(tmp_path / "no.npy")


@pytest.mark.parametrize("labels", [np.zeros((3, 1), int), np.zeros(3), np.array([0, -1]), np.array(["cat"])])
def test_labels_are_integers_from_0_in_one_dimension(tmp_path, labels):
    np.save(tmp_path / "labels.npy", labels)
    with pytest.raises(ValueError, match=r"labels\.npy must hold labels"):
        load_labels(tmp_path / "labels.npy")
