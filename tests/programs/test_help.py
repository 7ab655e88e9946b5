"""--help of every program: its purpose, examples that it takes, every option explained."""

import argparse
import importlib
import re
import runpy
import shlex
import sys

import pytest

from checkout import ROOT

PROGRAMS = ("preprocess", "main", "evaluate", "report", "predict",
            "scans.download", "scans.phantom", "scans.test_scans", "scoring.raters",
            "scoring.status", "scoring.test_set", "studies.ablation", "studies.claims",
            "studies.comparison", "studies.decision_rule")


class Parsed(Exception):
    """Ends a program's parse_arguments where the parser is complete."""


@pytest.fixture(params=PROGRAMS)
def parser(request, monkeypatch):
    """The parser of a program, with all its options."""
    made = []

    def stop(parser, argv):
        made.append(parser)
        raise Parsed

    name = request.param
    program = importlib.import_module(name)
    if not hasattr(program, "main"):  # a package, as `python -m` runs it
        program = importlib.import_module(f"{name}.__main__")
    with monkeypatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", stop)
        with pytest.raises(Parsed):
            program.parse_arguments([])

    made[0].prog = f"-m {name}" if "." in name else f"{name}.py"
    return made[0]


def test_help_has_purpose_examples_and_exit_status(parser):
    text = parser.format_help()
    assert f"\n\nExamples:\n  python {parser.prog} " in text and "\nExit status: 0" in text
    assert all(len(line) <= 122 for line in parser.description.splitlines())


def test_every_option_is_explained_and_says_its_default(parser):
    for action in parser._actions:
        assert action.help, action.option_strings
        default = action.default
        if action.nargs != 0 and action.option_strings and default not in (None, []):
            shown = f"{default:g}" if isinstance(default, float) else str(default)
            told = re.search(rf"default[^)]*{re.escape(shown)}", action.help)
            assert told, action.option_strings


def test_every_example_is_a_command_line_that_the_program_takes(parser):
    description = re.sub(r"\\\n\s+", "", parser.description)  # continued on the next line
    examples = re.findall(rf"^  python {re.escape(parser.prog)} (.+)$", description, re.MULTILINE)
    assert len(examples) >= 2
    for example in examples:
        parser.parse_args(shlex.split(example.split(" > ")[0]))


PARTS = sorted(path.stem for path in (ROOT / "studies").glob("[a-z]*.py"))


@pytest.mark.parametrize("name", [f"studies.{part}" for part in PARTS] + [
    "scans.phantom", "training.check_rows", "reporting.publish"])
def test_help_prints_for_every_module_that_can_be_run(name, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", [name, "--help"])
    for loaded in (name, f"{name}.__main__"):
        monkeypatch.delitem(sys.modules, loaded, raising=False)
    try:
        runpy.run_module(name, run_name="__main__", alter_sys=False)
    except SystemExit as end:
        assert not end.code
    assert f"usage: python -m {name} " in capsys.readouterr().out
