"""Coverage-guided fuzzing (atheris) of every file that may come from somebody else.

FUZZING.md has the results.

    make fuzz                                 100,000 executions, shared among the targets
    make fuzz RUNS=5000 TARGETS="runs page"   those targets alone
    make fuzz SECONDS=60                      at most so long each
    python tests/tools/fuzz.py --replay FILE --targets runs

Each target (fuzz_targets.py) runs in a process of its own, on inputs that grow from valid files. A
finding is: an exception other than UserError; an input that takes longer than --timeout; memory
beyond --memory; a file written, renamed or removed outside the folder; a process started, a socket
opened, or a file left half-written. Its input is saved in --out and shown, and the target goes on
with another seed. Exit status: 0, or 1 if there are findings.
"""

import argparse
import hashlib
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(HERE.parent), str(HERE)]

# Python's audit events: those that name files, and all that are watched
ON_PATHS = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.symlink", "os.link",
            "os.truncate", "os.chmod")
WATCHED = (*ON_PATHS, "open", "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn",
           "subprocess.Popen", "socket.connect", "socket.bind", "ctypes.dlopen")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
DEVICES, SHM = ("/dev/null",), "/dev/shm"

# Our modules and packages; with nibabel, their branches guide the mutations
OWN = [*(path.stem for path in ROOT.glob("*.py")),
       *(path.parent.name for path in ROOT.glob("*/__init__.py"))]
SHARES = {"nifti": 10, "archives": 30, "tables": 33.95, "checkpoints": 6, "runs": 10, "data": 10,
          "page": 0.05}  # %, of the executions
TOKENS = ("null", "true", "NaN", "-Infinity", "1e999", "-1", "[]", "{}", "[[", "..", "../", "/",
          "\\x00", "\\xff", ",", "|", "\\x0a", "4294967296", "99999999999999999999", "subject",
          "subset", "train", "val", "patient", "epoch", "val_dice")


def is_path(value):
    return isinstance(value, str | bytes | os.PathLike)


class Finding(Exception):
    """Something that no input may bring about."""


class Guard:
    """Notes what the code under test does to the system, by Python's audit events.

    See sys.addaudithook.
    """

    def __init__(self, folder):
        self.folder, self.active = os.path.realpath(folder), False
        self.seen, self.partial = [], False
        sys.addaudithook(self.hook)

    def hook(self, event, arguments):
        if not self.active or event not in WATCHED:
            return

        self.active = False  # what is asked below is not to be noted
        try:
            if event == "open":
                path, _, flags = arguments
                if isinstance(path, int) or not flags & WRITING:
                    return
                self.partial |= ".partial-" in os.fsdecode(path)
                if self.is_inside(path):
                    return
            elif event in ON_PATHS and all(map(self.is_inside, filter(is_path, arguments))):
                return
            self.seen.append(f"{event} {arguments!r:.200}")
        finally:
            self.active = True

    def is_inside(self, path):
        path = os.fsdecode(path)
        real = os.path.join(os.path.realpath(os.path.dirname(path) or "."), os.path.basename(path))
        return os.path.realpath(path) in DEVICES or real.startswith(self.folder + os.sep)

    def call(self, target, data):
        """Run the target on one input; Finding if it did what it must not."""
        self.seen, self.partial, self.active = [], False, True
        try:
            target(data)
        finally:
            self.active = False

        left = list(Path(self.folder).rglob("*.partial-*")) if self.partial else []
        if self.seen or left:
            raise Finding("; ".join([*self.seen, *(f"left behind: {path.name}" for path in left)]))


# One target, in a process of its own --------------------------------------------------------------

def child(name, valid, folder, memory, libfuzzer):
    """Fuzz until a finding or the end of the executions; libFuzzer ends the process."""
    import atheris
    import torch
    from matplotlib import pyplot  # noqa: F401  (before: to instrument these takes minutes)
    from scipy import ndimage, optimize, stats  # noqa: F401
    from torch._weights_only_unpickler import Unpickler
    with atheris.instrument_imports(include=["nibabel", *OWN]):
        import fuzz_targets

    # what reads zips and pickles guides the mutations too
    for where, names in ((Unpickler, ("load", "persistent_load")),
                         (torch.serialization, ("_load", "_legacy_load")),
                         (zipfile.ZipFile, ("_RealGetContents", "open")),
                         (zipfile.ZipExtFile, ("_read1",)),
                         (zipfile.ZipInfo, ("_decodeExtra",))):
        for function in filter(None, (vars(where).get(name) for name in names)):
            setattr(where, function.__name__, atheris.instrument_func(function))

    target = fuzz_targets.prepare(name, valid, folder)
    corpus = Path(folder).with_name(f"corpus-{name}")
    corpus.mkdir(exist_ok=True)
    for seed in target.seeds:
        (corpus / hashlib.sha1(seed).hexdigest()).write_bytes(seed)
    for seed in target.warm_up:
        target(seed)  # what is imported late is imported now

    limit_memory(memory)
    os.fsync = lambda _: None  # costs most of the time, and nothing here loses power
    guard = Guard(folder)
    atheris.Setup([sys.argv[0], *libfuzzer, str(corpus)], lambda data: guard.call(target, data))
    atheris.Fuzz()


def limit_memory(more):
    """Let requests beyond today's address space and `more` MiB fail.

    A single huge one is then a MemoryError at once.
    """
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + more * 2 ** 20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def replay(name, valid, folder, path):
    """One saved input, with its traceback."""
    import fuzz_targets
    target = fuzz_targets.prepare(name, valid, folder)
    target(target.seeds[0])
    Guard(folder).call(target, path.read_bytes())
    print(f"{path}: no finding")


# The run ------------------------------------------------------------------------------------------

def fuzz(name, place, options):
    """Run a target to its number of executions, and go on after each finding.

    Returns:
        {"target", "executions", "seconds", "edges" (of the code, reached), "findings"}.
    """
    chosen = sum(SHARES[target] for target in options.targets)
    left, began = round(options.runs * SHARES[name] / chosen), time.monotonic()
    (place / "dict").write_text("".join(f'"{token}"\n' for token in TOKENS))
    row = {"target": name, "executions": 0, "seconds": 0, "edges": 0, "findings": []}
    for attempt in range(options.findings):
        spent = time.monotonic() - began
        if left <= 0 or options.seconds and spent >= options.seconds:
            break

        words = [f"-runs={left}", f"-dict={place / 'dict'}", f"-seed={options.seed + attempt + 1}",
                 "-max_len=262144", f"-timeout={options.timeout}",
                 f"-rss_limit_mb={options.memory + 2048}", "-len_control=0",
                 "-print_final_stats=1", f"-artifact_prefix={options.out}/{name}-"]
        if options.seconds:
            words.append(f"-max_total_time={int(options.seconds - spent)}")
        status, text = run_child(name, place, f"{name}{attempt}", options, words)

        done = executions(text)
        left, row["executions"] = left - max(done, 1), row["executions"] + done
        row["edges"] = max(row["edges"], *map(int, re.findall(r"cov: (\d+)", text)), 0)
        if status:
            row["findings"].append(what(text, status))
            print(f"{name}: {row['findings'][-1]}", flush=True)
    row["seconds"] = round(time.monotonic() - began)
    return row


def run_child(name, place, folder, options, libfuzzer):
    """Run a target in a process of its own; returns its status and what it printed."""
    command = [sys.executable, __file__, "--child", name, "--place", place,
               "--folder", place / folder, "--memory", str(options.memory), "--", *libfuzzer]
    log = options.out / f"{folder}.log"
    with open(log, "w") as file:
        status = subprocess.run(command, stdout=file, stderr=file).returncode
    return status, log.read_text(errors="replace")


def executions(text):
    """How many there were, from libFuzzer's output; of a killed process, its last count."""
    counts = (re.findall(r"number_of_executed_units:\s*(\d+)", text)
              or re.findall(r"^#(\d+)", text, re.M) or [0])
    return int(counts[-1])


def what(text, status):
    """A finding in a line, from libFuzzer's output: the error, where, and the input's file."""
    saved = re.findall(r"Test unit written to (\S+)", text)
    error = re.findall(r"^(\w[\w.]*(?:Error|Exception|Finding|Exit)\b.*)$", text, re.M)
    alarm = re.findall(r"ERROR: libFuzzer: (.*)", text)
    frames = [f"{Path(file).name}:{line}"
              for file, line in re.findall(r'File "(.*?)", line (\d+)', text) if is_own(file)]
    last = (error or alarm or [f"status {status}"])[-1]
    return f"{last:.160} at {frames[-1] if frames else '?'}; input {saved}"


def is_own(file):
    """Is it a file of the programs?"""
    path = Path(file)
    return path.is_relative_to(ROOT) and path.relative_to(ROOT).parts[0].removesuffix(".py") in OWN


def table(rows):
    lines = ["| target | executions | edges | seconds | findings |", "|---|---|---|---|---|"]
    lines += [f"| {row['target']} | {row['executions']:,} | {row['edges']:,} | {row['seconds']} "
              f"| {len(row['findings'])} |" for row in rows]

    count, seconds = (sum(row[key] for row in rows) for key in ("executions", "seconds"))
    findings = sum(len(row["findings"]) for row in rows)
    lines.append(f"| all | {count:,} | | {seconds} | {findings} |")
    return "\n".join(lines)


def main():
    options = parse_arguments()
    if options.child:
        child(options.child, options.place / "valid", options.folder, options.memory,
              options.libfuzzer)
    try:
        import atheris  # noqa: F401
    except ImportError:
        sys.exit("error: atheris: expected the package, found none. "
                 "pip install -r requirements-fuzz.txt")

    from fuzz_targets import make_valid
    options.out = options.out.resolve()
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=SHM if os.access(SHM, os.W_OK) else None) as place:
        place = Path(place).resolve()
        (place / "valid").mkdir()
        make_valid(place / "valid")
        if options.replay:
            return replay(options.targets[0], place / "valid", place / "replay",
                          options.replay.resolve())
        rows = [fuzz(name, place, options) for name in options.targets]
        os.chdir("/")  # the folder that ends here is the working directory

    print(table(rows))
    for row in rows:
        for finding in row["findings"]:
            print(f"{row['target']}: {finding}")
    return 1 if any(row["findings"] for row in rows) else 0


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--targets", nargs="+", default=list(SHARES), choices=SHARES, metavar="NAME",
        help=f"of {', '.join(SHARES)}")
    add("--runs", type=int, default=100_000, help="executions in all (default 100,000)")
    add("--seconds", type=int, help="the most for each target (default: no limit)")
    add("--timeout", type=int, default=20, help="the most for one input, s (default 20)")
    add("--memory", type=int, default=2048,
        help="what a target may take beyond its start, MiB (default 2048)")
    add("--findings", type=int, default=20, help="give a target up after so many (default 20)")
    add("--seed", type=int, default=0, help="of the mutations (default 0)")
    add("--out", type=Path, default=Path(".fuzz"),
        help="where logs and inputs of findings go (default .fuzz)")
    add("--replay", type=Path, metavar="FILE",
        help="run one saved input of --targets NAME and show what happens")

    # of the processes that this one starts
    for hidden in ("--child", "--place", "--folder"):
        add(hidden, help=argparse.SUPPRESS, type=str if hidden == "--child" else Path)
    add("libfuzzer", nargs="*", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
