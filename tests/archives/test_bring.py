"""Archives brought to a folder of arrays, with nothing of the pipeline around."""

import numpy as np
import pytest

from archives.bring import bring
from archives.formats import ArchiveError
from tests.archives.archive_server import File, serving
from tests.archives.miniatures import corruptions


@pytest.mark.parametrize("keep", [False, True], ids=["scratch", "placed"])
def test_the_arrays_arrive_and_the_archive_stays_where_it_was_placed_alone(tmp_path, keep):
    archive, content, arrays = corruptions(images=4)
    placed = tmp_path / "placed" if keep else None
    with serving(a=File(content)) as server:
        archive = archive.model_copy(update={"urls": [server.url("a")]})
        bring([archive], tmp_path / "c", tmp_path / "scratch", placed, ["fog"])
    assert sorted(path.stem for path in (tmp_path / "c").iterdir()) == ["fog", "labels"]
    np.testing.assert_array_equal(np.load(tmp_path / "c/fog.npy"), arrays["fog"])
    assert list((tmp_path / "scratch").rglob("*.tar")) == []
    if keep:
        assert (placed / archive.name).read_bytes() == content


def test_a_failure_is_a_value_error_and_leaves_no_set(tmp_path):
    archive, _, _ = corruptions(images=4)
    with serving() as server:
        archive = archive.model_copy(update={"urls": [server.url("gone")]})
        with pytest.raises(ArchiveError, match="404"):
            bring([archive], tmp_path / "c", tmp_path / "scratch")
    assert issubclass(ArchiveError, ValueError) and not (tmp_path / "c").exists()
