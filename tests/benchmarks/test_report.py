"""Which code a benchmark says that it measured."""

import subprocess

from benchmarks.report import commit


def test_the_commit_tells_changed_code_and_no_changed_results(tmp_path):
    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@localhost"]
        command = ["git", *identity, *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="utf-8", check=True).stdout

    assert commit(tmp_path) is None
    results = tmp_path / "benchmarks" / "results"
    results.mkdir(parents=True)
    for path in (tmp_path / "layer.py", results / "layer.json"):
        path.write_text("first", encoding="utf-8")
    git("init", "-q")
    git("add", "-A")
    git("commit", "-qm", "first")
    measured = commit(tmp_path)
    assert len(measured) >= 7 and git("rev-parse", "HEAD").startswith(measured)
    (results / "layer.json").write_text("second", encoding="utf-8")
    assert commit(tmp_path) == measured
    (tmp_path / "layer.py").write_text("second", encoding="utf-8")
    assert commit(tmp_path) == f"{measured}-dirty"
