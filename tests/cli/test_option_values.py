"""Option values that no configuration section checks, and where a study's mistakes are said to be."""

import pytest

from fedrevive.cli.app import run_app

LONG = "x" * 256


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["resume", LONG], "DIR: 'xxx"),
        (["fsck", "a\nb"], "DIR: 'a\\x0ab' is not allowed; must be text that matches"),
        (["export", LONG, "-o", "x.parquet"], "DIR: 'xxx"),
        (["export", "somewhere", "-o", LONG], "--output: 'xxx"),
        (["diagnose", f"a/{LONG}/b"], "DIR: 'a/xxx"),
        (["run", "digits", f"--output={LONG}"], "--output: 'xxx"),
        (
            ["compare", "digits", "--output="],
            "--output: '' is not allowed; must be text of at least 1 character",
        ),
        (["study", "failure_modes", "--output=a\x00b"], "--output: 'a\\x00b' is not allowed"),
        (["tune", "digits", f"--output={'a/' * 2100}"], "--output: 'a/a/"),
        (["tune", "digits", "--trials=1_0"], "invalid value for '--trials': '1_0' has an underscore"),
        (["tune", "digits", "--trials=2.0"], "invalid value for '--trials': '2.0' is not an integer >= 1"),
        (
            ["tune", "digits", "--concurrent=0"],
            "invalid value for '--concurrent': '0' is not an integer >= 1",
        ),
        (
            ["tune", "digits", "--concurrent=true"],
            "invalid value for '--concurrent': 'true' is not an integer >= 1",
        ),
        (["run", "digits", "--workers=1_0"], "compute.workers: '1_0' has an underscore"),
        (["run", "digits", "--workers=null"], "compute.workers: null is not an integer or 'auto'"),
        (["compare", "digits", "--algorithms=fedbuf"], "--algorithms: 'fedbuf': no such algorithm; known: "),
        (["compare", "digits", "--controls=fedbuf"], "--controls: 'fedbuf': no such algorithm; known: "),
    ],
)
def test_a_value_that_cannot_be_used_is_one_line(words, expected, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run_app(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {expected}".replace("\\x0a", "\\n"))
    assert len(line) <= 300
    assert list(tmp_path.iterdir()) == []


def test_a_mistake_in_a_studys_words_names_the_setting(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = "name: s\nsettings: {easy: digits, hard: digits server.lr=-1}\nalgorithms: [fedbuff]\nseeds: [0]\n"
    (tmp_path / "s.yaml").write_text(text)
    assert run_app(["study", "s.yaml"]) == 2
    assert capsys.readouterr().err == "error: server.lr: -1 is not allowed; must be > 0.0 (settings.hard)\n"


def test_a_search_says_where_it_names_an_experiment_that_is_not_there(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.yaml").write_text("\nexperiment: digts\nsearch: {}\n")
    assert run_app(["tune", "s.yaml"]) == 2
    line = capsys.readouterr().err
    assert line.startswith("error: experiment: 'digts': no such preset")
    assert line.endswith("did you mean 'digits'? (line 2 of s.yaml)\n")
