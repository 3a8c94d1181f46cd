"""`train`: what it tells before it trains."""

from SemiSupSegLib.__main__ import main


def test_the_methods_are_listed_without_naming_cases(capsys):
    code = main(["train", "--list-methods"])

    lines = capsys.readouterr().out.splitlines()
    assert code == 0
    assert lines[0].split("  ")[0] == "Method"
    assert [line.split()[0] for line in lines[1:]] == ["supervised", "curriculum"]
    assert "arXiv 2602.08797" in lines[2]
    assert "labelled and unlabelled cases" in lines[2]
    assert "1 + pseudo_labels.passes" in lines[2]


def test_the_help_names_the_presets(capsys):
    assert main(["train", "--help"]) == 0
    assert "one of fast_check, liu_verbatim, standard" in " ".join(capsys.readouterr().out.split())


def test_an_unknown_preset_gets_the_valid_ones(tmp_path, capsys):
    words = ["--cases", str(tmp_path), "--out", str(tmp_path / "run"), "--preset", "fast"]

    assert main(["train", *words, "--device", "cpu"]) == 2
    told = capsys.readouterr().err
    assert "no preset 'fast'. Choose one of: fast_check, liu_verbatim, standard" in told
