"""An mtpgen whose tokens, counts and speeds are known, for tests of bench/.

    fake_mtpgen.py STATE ARGUMENTS OF MTPGEN...

Its speed is 100 tokens/s and 10 more a draft; less 20 with --moe per-token, half with --strict, three
quarters with --strict=sample; all that by 1 + prompt tokens / 1000. Four bytes of a prompt are a token.
It accepts one draft a step with k = 1, two of three and so on: k // 2 + 1. In STATE, `calls` notes every
command line; a file `wrong` holds words that make the tokens of a matching command line other ones,
`lazy` makes it draft nothing.
"""

import json
import os
import sys


def option(arguments, *names):
    value = None
    for i, word in enumerate(arguments):
        if word in names:
            value = arguments[i + 1]
    return value


def speed(arguments, k, prompt_tokens):
    rate = 100.0 + 10 * k
    if option(arguments, "--moe") == "per-token":
        rate -= 20
    if "--strict" in arguments:
        rate /= 2
    if "--strict=sample" in arguments:
        rate *= 0.75
    return rate / (1 + prompt_tokens / 1000)


def positions(k, steps):
    kept = k // 2 + 1 if k else 0
    accepted = [steps if i < kept else 0 for i in range(k)]
    compared = [steps if i <= kept else 0 for i in range(k)]
    return {"drafted": [steps] * k, "compared": compared, "accepted": accepted,
            "conditional": [a / c if c else None for a, c in zip(accepted, compared)],
            "cumulative": [a / steps for a in accepted]}


def report(arguments, prompt, state):
    n, k = int(option(arguments, "-n")), option(arguments, "--draft")
    k = 2 if k == "auto" else int(k)
    if os.path.exists(os.path.join(state, "lazy")):
        k = 0
    prompt_tokens, steps = max(len(prompt) // 4, 1), 10
    tokens = [prompt_tokens + i for i in range(n)]
    wrong = os.path.join(state, "wrong")
    if os.path.exists(wrong):
        with open(wrong, encoding="utf-8") as file:
            if file.read().strip() in " ".join(arguments):
                tokens[-1] += 1
    at = positions(k, steps)
    accepted = sum(at["accepted"])
    profile = {"steps": {"operations": [{"bytes": steps * (1000 + prompt_tokens)}]}}
    device = option(arguments, "--device")
    return {"options": {"device": device} if device else {}, "tokens": tokens, "n_tokens": n, "prompt_tokens": prompt_tokens, "steps": steps,
            "drafted": k * steps, "accepted": accepted,
            "mean_accepted_length": (accepted + steps) / steps, "acceptance_by_position": at,
            "profile": profile if "--profile" in arguments else None,
            "timing": {"decode_tok_s": speed(arguments, k, prompt_tokens), "prefill_tok_s": 1000.0}}


def main():
    state, arguments = sys.argv[1], sys.argv[2:]
    with open(os.path.join(state, "calls"), "a", encoding="utf-8") as file:
        file.write(" ".join(arguments) + "\n")
    prompt = (option(arguments, "-p") or "").encode()
    path = option(arguments, "-f")
    if path:
        with open(path, "rb") as file:
            prompt = file.read()
    with open(option(arguments, "--report"), "w", encoding="utf-8") as file:
        json.dump(report(arguments, prompt, state), file)
    print("text")


main()
