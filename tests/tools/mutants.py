"""Mutation testing: every small fault that mutmut plants in a file must fail one of the file's tests.

    python tests/tools/mutants.py [losses.py distance.py metrics.py scheduler.py] [--least 0.9]        (make mutants)

Works on a copy in a temporary folder, on one core. Prints the change that each survivor makes and what was killed by
file; ends with status 1 if less than --least of a file's mutants are. tests/tools/MUTANTS.md explains the survivors.
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

FILES = ["losses.py", "distance.py", "metrics.py", "scheduler.py"]
MORE_TESTS = {"losses.py": ["tests/library/test_losses_regional.py"]}  # than those of test_<file>
VERDICTS = {0: "survived", 1: "killed", 3: "killed", 24: "timeout", -24: "timeout", 36: "timeout", 33: "no test"}  # by status
NO_SHRINKING = """# A failure need not be made smaller, and every mutant meets the same examples.
from hypothesis import Phase, settings

settings.register_profile("mutants", phases=[Phase.explicit, Phase.generate], derandomize=True, database=None)
settings.load_profile("mutants")
"""


def copy_checkout(folder, files):
    """Programs and tests alone, with mutmut's settings: of the tests, those of `files`."""
    (folder / "no_shrinking.py").write_text(NO_SHRINKING)
    copy_programs(folder, "pytest.ini", "tests")
    others = sorted(path.name for path in folder.iterdir() if path.name not in [*files, "tests"])
    settings = {"source_paths": files, "also_copy": others,
                "pytest_add_cli_args": ["-p", "no:cacheprovider", "-p", "no_shrinking"],
                "pytest_add_cli_args_test_selection": [
                    test for file in files for test in (f"tests/library/test_{file}", *MORE_TESTS.get(file, ()))]}
    lines = [f"{key} =\n" + "\n".join(f"    {value}" for value in values) for key, values in settings.items()]
    (folder / "setup.cfg").write_text("[mutmut]\nuse_git_change_detection = false\n" + "\n".join(lines) + "\n")


def mutmut(folder, *words, **options):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run([sys.executable, "-m", "mutmut", *words], cwd=folder, env=environment, **options)


def verdicts(folder, file):
    """{mutant: "killed", "timeout", "survived", ...} of one file, from what mutmut wrote."""
    statuses = json.loads((folder / "mutants" / f"{file}.meta").read_text())["exit_code_by_key"]
    return {mutant: VERDICTS.get(status, f"status {status}") for mutant, status in statuses.items()}


def table(found):
    """Lines of text from {file: {mutant: verdict}}, and the smallest share of killed mutants of a file."""
    lines, shares = [f"{'file':<14}{'mutants':>9}{'killed':>9}{'timeout':>9}{'others':>9}{'share':>9}"], []
    for file, mutants in found.items():
        count = Counter(mutants.values())
        killed = count["killed"] + count["timeout"]  # whether a timeout really loops is for the reader to see
        shares.append(killed / len(mutants))
        lines.append(f"{file:<14}{len(mutants):>9}{count['killed']:>9}{count['timeout']:>9}{len(mutants) - killed:>9}"
                     f"{shares[-1]:>9.1%}")
    return lines, min(shares)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", default=FILES)
    parser.add_argument("--least", type=float, default=0.9, help="the share of killed mutants that each file needs")
    options = parser.parse_args()
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        copy_checkout(Path(name), options.files)
        if mutmut(name, "run", "--max-children", "1").returncode:
            sys.exit("error: mutmut did not end well; what it says stands above")
        found = {file: verdicts(Path(name), file) for file in options.files}
        for mutant in (mutant for mutants in found.values() for mutant, verdict in mutants.items() if verdict != "killed"):
            print(mutmut(name, "show", mutant, capture_output=True, text=True).stdout)
    lines, least = table(found)
    print(*lines, f"{time.monotonic() - start:.0f} s", sep="\n")
    if least < options.least:
        sys.exit(f"error: expected {options.least:.0%} of each file's mutants killed, found {least:.1%}. Write tests for them.")


if __name__ == "__main__":
    main()
