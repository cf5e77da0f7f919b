"""Which code a benchmark says that it measured."""

import subprocess

from benchmarks.report import commit


def test_the_commit_tells_changed_code_and_no_changed_results(tmp_path, monkeypatch):
    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@localhost"]
        command = ["git", *identity, *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="utf-8", check=True).stdout

    monkeypatch.chdir(tmp_path)
    assert commit() is None
    results = tmp_path / "benchmarks" / "results"
    results.mkdir(parents=True)
    for path in (tmp_path / "params.yaml", results / "layer.json"):
        path.write_text("first", encoding="utf-8")
    git("init", "-q")
    git("add", "-A")
    git("commit", "-qm", "first")
    measured = commit()
    assert len(measured) >= 7 and git("rev-parse", "HEAD").startswith(measured)
    (results / "layer.json").write_text("second", encoding="utf-8")
    assert commit() == measured
    (tmp_path / "params.yaml").write_text("second", encoding="utf-8")
    assert commit() == f"{measured}-dirty"
