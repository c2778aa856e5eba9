"""The suites of bench/ab: which arms answer which question. Each function here takes the options of
the command line and gives a Suite; docs/benchmarking.md says what they are for."""

import dataclasses
import os
import shlex
import sys

from ab_run import Arm, Failure, run

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PROMPT = "It is a truth universally acknowledged, that"
LONG_TEXT = os.path.join(ROOT, "tests", "data", "heldout-prose.txt")
MOST_DRAFTS = 8


@dataclasses.dataclass
class Suite:
    title: str
    arms: list
    axis: str = None  # of a line chart; None: bars
    notes: list = dataclasses.field(default_factory=list)


def prompt_words(options):
    if options.prompt_file:
        return ["-f", options.prompt_file]
    return ["-p", PROMPT if options.prompt is None else options.prompt]


def engine_words(options, prompt, *more):
    words = [options.engine, "-m", options.model, *prompt, "-n", str(options.n), "-q",
             "--report", "{report}"]
    if options.threads:
        words += ["-t", str(options.threads)]
    if options.device:
        words += ["--device", options.device]
    return words + shlex.split(options.engine_args) + list(more)


def arms_of(options, table):
    """Arms with the same prompt from {name: arguments}; all must give what the first gives."""
    prompt, first = prompt_words(options), next(iter(table))
    return [Arm(name, engine_words(options, prompt, *words), like=first)
            for name, words in table.items()]


def mtp(options):
    k = str(options.draft)
    arms = arms_of(options, {
        "mtp-off": ["--draft", "0"],
        "per-token verify": ["--draft", k, "--moe", "per-token"],
        "grouped verify": ["--draft", k, "--moe", "grouped"]})
    arms[2].against = "per-token verify"
    return Suite(f"Drafting off, and {k} drafts checked token by token or together", arms)


def k(options):
    arms = arms_of(options, {f"k = {n}": ["--draft", str(n)] for n in range(MOST_DRAFTS + 1)})
    for n, arm in enumerate(arms):
        arm.x = n
    return Suite("Decode speed by number of drafts", arms, axis="drafts a step, k")


def strict(options):
    k = str(options.draft)
    drafts = f"{k} drafts"
    arms = arms_of(options, {
        "plain": ["--draft", "0"], "plain, strict": ["--draft", "0", "--strict"],
        drafts: ["--draft", k], f"{drafts}, strict": ["--draft", k, "--strict"],
        f"{drafts}, strict=sample": ["--draft", k, "--strict=sample"]})
    arms[1].against, arms[3].against, arms[4].against = "plain", drafts, drafts
    return Suite("Price of --strict", arms)


def positions(options):
    try:
        lengths = [int(word) for word in options.context_lengths.split(",")]
    except ValueError:
        lengths = []
    if len(lengths) < 2 or min(lengths) < 0 or lengths != sorted(set(lengths)):
        raise Failure("--context-lengths takes two or more rising numbers, such as 0,512,2048")
    return lengths


def long_text(options):
    if options.prompt is not None:
        return options.prompt.encode(), "the text of --prompt"
    path = options.prompt_file or LONG_TEXT
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise Failure(f"the text for the prompts: {error}") from error
    if not data.strip():
        raise Failure(f"{path}: a prompt needs text")
    return data, os.path.basename(path)


def cut(text, n):
    """The first n bytes of the text repeated, without a torn character."""
    repeated = text * (n // len(text) + 1)
    return repeated[:n].decode("utf-8", "ignore").encode()


def saved(directory, name, data):
    path = os.path.join(directory, name)
    with open(path, "wb") as file:
        file.write(data)
    return path


def bytes_a_token(options, text):
    """How many bytes of the text make a token, by one run over its beginning."""
    sample = cut(text, 4000)
    path = saved(options.directory, "sample.txt", sample)
    words = engine_words(options, ["-f", path], "-n", "1", "--draft", "0")
    tokens = run("tokens", words, options.timeout, options.directory)["report"].get("prompt_tokens")
    if not isinstance(tokens, int) or tokens < 1:
        raise Failure("suite context: the engine's report has no prompt_tokens")
    return len(sample) / tokens


def context(options):
    """Plain decoding behind prompts of several lengths; the number of tokens read is the report's, so
    that the length asked for need only be near."""
    lengths = positions(options)
    text, name = long_text(options)
    size = bytes_a_token(options, text)
    window = str(lengths[-1] + lengths[-1] // 5 + options.n + 64)
    suite = Suite("Decode speed by length of context", [], axis="positions read before the first token")
    for length in lengths:
        data = cut(text, max(int(length * size), 32))
        path = saved(options.directory, f"prompt-{length}.txt", data)
        words = engine_words(options, ["-f", path], "-c", window, "--draft", "0")
        suite.arms.append(Arm(f"{length} positions", words, x=length, probe=words + ["--profile"]))
        suite.notes.append(f"prompt-{length}.txt: the first {len(data)} bytes of {name}"
                           + (", repeated" if len(data) > len(text) else ""))
    return suite


def engines(options):
    if not options.llama_server:
        raise Failure("suite engines needs --llama-server PATH")
    adapter = [sys.executable, os.path.join(ROOT, "bench", "llama_arm"),
               "--server", options.llama_server, "-m", options.model, "-n", str(options.n),
               "--report", "{report}", *prompt_words(options)]
    if options.threads:
        adapter += ["-t", str(options.threads)]
    if options.device:
        adapter += ["--device", options.device]
    drafting = ["--spec-type", "draft-mtp", "--spec-draft-n-max", str(options.draft)]
    arms = arms_of(options, {"mtpgen plain": ["--draft", "0"], "mtpgen auto": ["--draft", "auto"]})
    for name, words in (("llama.cpp plain", ["--"]), ("llama.cpp MTP", ["--", *drafting])):
        words = adapter + words + shlex.split(options.llama_args)
        arms.append(Arm(name, words, like="mtpgen plain", may_differ=True))
    arms[0].against = "llama.cpp plain"
    arms[1].against = arms[3].against = "llama.cpp plain"
    return Suite("mtpgen and llama.cpp", arms)


SUITES = {"mtp": mtp, "k": k, "strict": strict, "context": context, "engines": engines}
