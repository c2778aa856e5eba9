"""Runs the commands of bench/ab: one run, rounds of runs, and whether their outputs agree."""

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import time


class Failure(Exception):
    """One sentence for whoever started the measurement."""


@dataclasses.dataclass
class Arm:
    name: str
    command: list
    like: str = None          # the arm whose output this one must repeat; itself where None
    may_differ: bool = False  # a difference is stated, not an error
    against: str = None       # one more arm to take ratios to
    x: float = None           # its place on the axis of a line chart
    probe: list = None        # a command run once behind the rounds, for what its report counts


def read_report(path, name):
    try:
        with open(path, encoding="utf-8") as file:
            report = json.load(file)
    except (OSError, ValueError) as error:
        raise Failure(f"arm {name}: its report cannot be read: {error}") from error
    if not isinstance(report, dict) or not isinstance(report.get("timing", {}), dict):
        raise Failure(f"arm {name}: its report is not an object with a timing")
    return report


def end_group(process):
    """Ends a command with all it started: asked first, so that it can tidy up, then made to."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(10)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def execute(command, timeout):
    """(exit status, standard output, standard error), whatever the end leaving nothing running."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, start_new_session=True)
    try:
        out, error = process.communicate(timeout=timeout)
    except BaseException:
        end_group(process)
        raise
    return process.returncode, out, error


def run(name, command, timeout, directory):
    """One run: {"wall": seconds, "stdout": bytes, "report": {...}, "tokens": ids or None,
    "timing": {...}}. A {report} in the command becomes a file to write."""
    path = None
    if any("{report}" in word for word in command):
        path = os.path.join(directory, "report.json")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        command = [word.replace("{report}", path) for word in command]
    start = time.monotonic()
    try:
        status, out, error = execute(command, timeout)
    except (OSError, subprocess.TimeoutExpired) as problem:
        raise Failure(f"arm {name}: {problem}") from problem
    wall = time.monotonic() - start
    if status != 0:
        raise Failure(f"arm {name}: exit status {status}\n{error.decode('utf-8', 'replace')[-2000:]}")
    report = {} if path is None else read_report(path, name)
    return {"wall": wall, "stdout": out, "report": report, "tokens": report.get("tokens"),
            "timing": report.get("timing", {})}


def difference(a, b):
    """Where two runs' outputs part, in words, or None. Token ids where both have them, else text."""
    if a["tokens"] is not None and b["tokens"] is not None:
        kind, left, right = "token", a["tokens"], b["tokens"]
    else:
        kind, left, right = "byte", a["stdout"], b["stdout"]
    if left == right:
        return None
    shared = min(len(left), len(right))
    first = next((i for i in range(shared) if left[i] != right[i]), shared)
    return f"{kind} {first} is the first that differs (of {len(left)} and {len(right)})"


def demand_equal(arm, result, runs, where):
    """The result must be what the first run of its yardstick gave."""
    yardstick = arm.like or arm.name
    if not result["tokens"] and not result["stdout"]:
        raise Failure(f"arm {arm.name} gave no output, so that nothing can be compared")
    if arm.may_differ and arm.name != yardstick:
        return
    first = runs[yardstick][0] if runs[yardstick] else result
    found = difference(first, result)
    if found is not None:
        raise Failure(f"outputs differ: arm {arm.name}, {where}, against the first run of arm "
                      f"{yardstick}: {found}")


def measure(arms, rounds, timeout, directory):
    """Runs of every arm, round by round: {name: [run, ...]}, the first of each not to be counted.
    Stops at the first wrong output."""
    runs = {arm.name: [] for arm in arms}
    for turn in range(rounds + 1):
        for arm in arms:
            result = run(arm.name, arm.command, timeout, directory)
            demand_equal(arm, result, runs, f"round {turn}")
            runs[arm.name].append(result)
    return runs


def probe(arms, runs, timeout, directory):
    """One more run of each arm that has a probe: {name: report}. Not timed, but equal all the same."""
    reports = {}
    for arm in arms:
        if arm.probe:
            result = run(arm.name, arm.probe, timeout, directory)
            demand_equal(arm, result, runs, "probe")
            reports[arm.name] = result["report"]
    return reports


def equality(arm, runs):
    """What the table says of an arm's output."""
    yardstick = arm.like or arm.name
    first, result = runs[yardstick][0], runs[arm.name][0]
    changing = any(difference(result, other) for other in runs[arm.name])
    where = difference(first, result)
    if where is not None or changing:
        return "may differ: " + (where or "equal in the first round") + (
            ", and from round to round" if changing else "")
    word = "equal" if arm.like else "the same in every round"
    if result["tokens"] is not None and first["tokens"] is not None:
        return f"{word}, {len(result['tokens'])} tokens"
    return f"{word}, {len(result['stdout'])} bytes"
