"""Mutation testing: every small fault that mutmut plants in a file must fail a test of it.

    python tests/tools/mutants.py [losses.py distance.py metrics.py scheduler.py] [--least 0.9]

Works on a copy in a temporary folder, on one core. Prints the change that each survivor makes, and
how many were killed in each file; ends with status 1 if these are less than --least of a file's
mutants. MUTANTS.md, in this folder, explains the survivors. `make mutants` runs it.
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
VERDICTS = {0: "survived", 1: "killed", 3: "killed", 24: "timeout", -24: "timeout",
            36: "timeout", 33: "no test"}  # by the status that mutmut notes
NO_SHRINKING = """# A failure need not be made smaller, and every mutant meets the same examples.
from hypothesis import Phase, settings

settings.register_profile("mutants", phases=[Phase.explicit, Phase.generate], derandomize=True,
                          database=None)
settings.load_profile("mutants")
"""


def copy_checkout(folder, files):
    """Programs and tests alone, with mutmut's settings: of the tests, those of `files`."""
    (folder / "no_shrinking.py").write_text(NO_SHRINKING)
    copy_programs(folder, "pytest.ini", "tests")

    others = sorted(path.name for path in folder.iterdir() if path.name not in [*files, "tests"])
    tests = [test for file in files
             for test in (f"tests/library/test_{file}", *MORE_TESTS.get(file, ()))]
    settings = {"source_paths": files, "also_copy": others,
                "pytest_add_cli_args": ["-p", "no:cacheprovider", "-p", "no_shrinking"],
                "pytest_add_cli_args_test_selection": tests}
    lines = ["[mutmut]", "use_git_change_detection = false"]
    for key, values in settings.items():
        lines += [f"{key} =", *(f"    {value}" for value in values)]
    (folder / "setup.cfg").write_text("\n".join(lines) + "\n")


def mutmut(folder, *words, **options):
    """Run mutmut in the copy, in a process of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run([sys.executable, "-m", "mutmut", *words], cwd=folder, env=environment,
                          **options)


def verdicts(folder, file):
    """{mutant: "killed", "timeout", "survived", ...} of one file, from what mutmut wrote."""
    statuses = json.loads((folder / "mutants" / f"{file}.meta").read_text())["exit_code_by_key"]
    return {mutant: VERDICTS.get(status, f"status {status}") for mutant, status in statuses.items()}


def table(found):
    """Lines of text from {file: {mutant: verdict}}, and the smallest share of killed of a file."""
    heads = ("mutants", "killed", "timeout", "others", "share")
    lines, shares = [f"{'file':<14}" + "".join(f"{head:>9}" for head in heads)], []
    for file, mutants in found.items():
        count = Counter(mutants.values())
        # whether what timed out really loops is for the reader to see
        killed = count["killed"] + count["timeout"]
        shares.append(killed / len(mutants))
        lines.append(f"{file:<14}{len(mutants):>9}{count['killed']:>9}{count['timeout']:>9}"
                     f"{len(mutants) - killed:>9}{shares[-1]:>9.1%}")
    return lines, min(shares)


def main():
    options = parse_arguments()
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        copy_checkout(Path(name), options.files)
        if mutmut(name, "run", "--max-children", "1").returncode:
            sys.exit("error: mutmut did not end well; what it says stands above")

        found = {file: verdicts(Path(name), file) for file in options.files}
        for mutants in found.values():
            for mutant, verdict in mutants.items():
                if verdict != "killed":
                    print(mutmut(name, "show", mutant, capture_output=True, text=True).stdout)

    lines, least = table(found)
    print(*lines, f"{time.monotonic() - start:.0f} s", sep="\n")
    if least < options.least:
        sys.exit(f"error: expected {options.least:.0%} of each file's mutants killed, found "
                 f"{least:.1%}. Write tests for them.")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", default=FILES)
    parser.add_argument("--least", type=float, default=0.9,
                        help="the share of killed mutants that each file needs")
    return parser.parse_args()


if __name__ == "__main__":
    main()
