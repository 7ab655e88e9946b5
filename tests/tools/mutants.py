"""Mutation testing: every small fault that mutmut plants in a file must fail one of its tests.

    python tests/tools/mutants.py [FILE ...] [--least 0.9]        (make mutants)

Works on a copy in a temporary folder, on one core. Prints the change that each survivor makes, and
how many of each file's mutants were killed; ends with status 1 if less than --least of them were.
tests/tools/MUTANTS.md explains the survivors.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from checkout import copy_programs  # noqa: E402

FILES = ["losses.py", "losses_regional.py", "distance.py", "metrics.py", "scheduler.py"]

# Tests of a file beside those in test_<file>.
MORE_TESTS = {
    "losses.py": ["tests/library/test_losses_regional.py", "tests/library/test_build_loss.py"],
    "losses_regional.py": ["tests/library/test_build_loss.py", "tests/library/test_losses.py",
                           "tests/library/test_losses_of_maps.py"],
}

# By the status with which the tests of a mutant end.
VERDICTS = {0: "survived", 1: "killed", 3: "killed", 24: "timeout", -24: "timeout", 36: "timeout",
            33: "no test"}

NO_SHRINKING = """\
# A failure need not be made smaller, and every mutant meets the same examples.
from hypothesis import Phase, settings

settings.register_profile(
    "mutants", phases=[Phase.explicit, Phase.generate], derandomize=True, database=None)
settings.load_profile("mutants")
"""


def copy_checkout(folder, files):
    """Programs and tests alone, with mutmut's settings: of the tests, those of `files`."""
    (folder / "no_shrinking.py").write_text(NO_SHRINKING)
    copy_programs(folder, "pytest.ini", "tests")

    tests = [test for file in files
             for test in (f"tests/library/test_{file}", *MORE_TESTS.get(file, ()))]
    settings = {
        "source_paths": files,
        "also_copy": sorted({path.name for path in folder.iterdir()} - {*files, "tests"}),
        "pytest_add_cli_args": ["-p", "no:cacheprovider", "-p", "no_shrinking", "-m",
                                "not compiles"],
        "pytest_add_cli_args_test_selection": list(dict.fromkeys(tests)),  # each once
    }

    lines = ["[mutmut]", "use_git_change_detection = false"]
    for key, values in settings.items():
        lines += [f"{key} =", *(f"    {value}" for value in values)]
    (folder / "setup.cfg").write_text("\n".join(lines) + "\n")


def mutmut(folder, *words, **options):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "mutmut", *words]
    return subprocess.run(command, cwd=folder, env=environment, **options)


def verdicts(folder, file):
    """{mutant: "killed", "timeout", "survived", ...} of one file, from what mutmut wrote."""
    written = json.loads((folder / "mutants" / f"{file}.meta").read_text())
    return {mutant: VERDICTS.get(status, f"status {status}")
            for mutant, status in written["exit_code_by_key"].items()}


def table(found):
    """(lines of text, the smallest share of killed mutants) from {file: {mutant: verdict}}."""
    columns = ["mutants", "killed", "timeout", "others", "share"]
    lines, shares = [f"{'file':<19}" + "".join(f"{column:>9}" for column in columns)], []

    for file, mutants in found.items():
        count = Counter(mutants.values())
        # Whether a mutant that timed out really loops is for the reader to see.
        killed = count["killed"] + count["timeout"]
        shares.append(killed / len(mutants))
        numbers = len(mutants), count["killed"], count["timeout"], len(mutants) - killed
        lines.append(f"{file:<19}" + "".join(f"{number:>9}" for number in numbers)
                     + f"{shares[-1]:>9.1%}")

    return lines, min(shares)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", metavar="FILE", default=FILES, help=", ".join(FILES))
    parser.add_argument("--least", type=float, default=0.9,
                        help="the share of killed mutants that each file needs")
    options = parser.parse_args()

    start = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        copy_checkout(Path(name), options.files)
        if mutmut(name, "run", "--max-children", "1").returncode:
            sys.exit("error: mutmut failed; its message is above")

        found = {file: verdicts(Path(name), file) for file in options.files}
        for mutants in found.values():
            for mutant, verdict in mutants.items():
                if verdict != "killed":
                    print(mutmut(name, "show", mutant, capture_output=True, text=True).stdout)

    lines, least = table(found)
    print(*lines, f"{time.monotonic() - start:.0f} s", sep="\n")
    if least < options.least:
        sys.exit(f"error: expected {options.least:.0%} of each file's mutants killed, "
                 f"found {least:.1%}. Write tests for them.")


if __name__ == "__main__":
    main()
