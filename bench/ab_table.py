"""The figures of bench/ab, as Markdown and as JSON."""

import shlex
import statistics

import ab_record
from ab_run import Failure, equality


def chosen_metric(wanted, runs):
    everything = [result for results in runs.values() for result in results]
    if wanted == "auto":
        reported = all(result["timing"].get("decode_tok_s") for result in everything)
        return "decode_tok_s" if reported else "wall"
    if wanted != "wall" and not all(result["timing"].get(wanted) for result in everything):
        raise Failure(f"not every run reports a {wanted} above zero")
    return wanted


def paired_ratios(values, base, metric):
    """Of the same rounds, above 1 where the values are the faster ones."""
    if metric.endswith("_tok_s"):
        return [value / first for value, first in zip(values, base)]
    return [first / value for value, first in zip(values, base)]


def evaluate(arms, runs, metric):
    """[{"name", "values" of the rounds that count, "median", "ratios" to the first arm, "ratio": their
    median}, ...], and "against" with "against_ratios" where an arm names one more."""
    values = {arm.name: [r["wall"] if metric == "wall" else r["timing"][metric]
                         for r in runs[arm.name][1:]] for arm in arms}
    figures = []
    for arm in arms:
        ratios = paired_ratios(values[arm.name], values[arms[0].name], metric)
        figure = {"name": arm.name, "values": values[arm.name],
                  "median": statistics.median(values[arm.name]), "ratios": ratios,
                  "ratio": statistics.median(ratios)}
        if arm.against:
            ratios = paired_ratios(values[arm.name], values[arm.against], metric)
            figure |= {"against": arm.against, "against_ratios": ratios,
                       "against_ratio": statistics.median(ratios)}
        figures.append(figure)
    return figures


# Columns are (heading, [cell of every arm, ...]).

def ratio_columns(figures):
    columns = [(f"ratio to {figures[0]['name']}", [f"{f['ratio']:.3f}" for f in figures]),
               ("range", [f"{min(f['ratios']):.3f} .. {max(f['ratios']):.3f}" for f in figures])]
    if any("against" in f for f in figures):
        columns.append(("ratio to another arm", [
            f"{f['against_ratio']:.3f} ({min(f['against_ratios']):.3f} .. "
            f"{max(f['against_ratios']):.3f}) to {f['against']}" if "against" in f else ""
            for f in figures]))
    return columns


def drafted_cell(report):
    drafted, accepted, length = (report.get(key) for key in (
        "drafted", "accepted", "mean_accepted_length"))
    if not drafted:
        return ""
    return f"{accepted} of {drafted}" + (f", {length:.2f} a step" if length else "")


def device_of(report):
    """Where a run computed, as its report says, or None."""
    options = report.get("options")
    return options.get("device") if isinstance(options, dict) else None


def device_columns(arms, runs):
    cells = [device_of(runs[arm.name][-1]["report"]) or "" for arm in arms]
    return [("device", cells)] if any(cells) else []


def draft_columns(arms, runs):
    cells = [drafted_cell(runs[arm.name][-1]["report"]) for arm in arms]
    return [("drafts accepted, tokens a step", cells)] if any(cells) else []


def token_bytes(report):
    """Bytes that the steps of a profiled run moved for a token, or None."""
    profile, n = report.get("profile"), report.get("steps")
    if not profile or not n:
        return None
    return sum(operation["bytes"] for operation in profile["steps"]["operations"]) / n


def context_figures(arms, figures, probes):
    """Bytes a token where the probes' reports have them: adds "positions", "token_bytes",
    "bytes_growth" and "time_growth" (against the first arm) to the figures."""
    counts = {arm.name: token_bytes(probes[arm.name]) for arm in arms if arm.name in probes}
    for arm, figure in zip(arms, figures):
        if counts.get(arm.name) and counts.get(arms[0].name):
            first = probes[arm.name]["prompt_tokens"]
            figure["positions"] = [first, first + probes[arm.name]["n_tokens"] - 1]
            figure["token_bytes"] = counts[arm.name]
            figure["bytes_growth"] = counts[arm.name] / counts[arms[0].name]
            figure["time_growth"] = 1 / figure["ratio"]


def context_columns(figures):
    if not all("positions" in figure for figure in figures):
        return []
    return [("positions", [f"{f['positions'][0]} .. {f['positions'][1]}" for f in figures]),
            ("MB a token", [f"{f['token_bytes'] / 1e6:.1f}" for f in figures]),
            ("bytes grew", [f"{f['bytes_growth']:.2f}" for f in figures]),
            ("time grew", [f"{f['time_growth']:.2f}" for f in figures])]


def rows_of(columns):
    lines = ["| " + " | ".join(heading for heading, _ in columns) + " |", "|" + "---|" * len(columns)]
    for cells in zip(*(cells for _, cells in columns)):
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def markdown(suite, runs, metric, figures, where, rounds):
    unit = "wall, s" if metric == "wall" else metric
    columns = [("arm", [f["name"] for f in figures])] + device_columns(suite.arms, runs)
    columns += [(f"{unit} (median of {rounds})", [f"{f['median']:.4g}" for f in figures]),
               ("range", [f"{min(f['values']):.4g} .. {max(f['values']):.4g}" for f in figures])]
    columns += ratio_columns(figures) + context_columns(figures) + draft_columns(suite.arms, runs)
    columns.append(("output", [equality(arm, runs) for arm in suite.arms]))
    lines = [f"### {suite.title}", ""] if suite.title else []
    lines += rows_of(columns)
    lines += ["", "Ratios above 1 are faster; each is taken within one round.", ""]
    lines += ab_record.describe(where) + [f"- {note}" for note in suite.notes]
    return "\n".join(lines + [f"- {arm.name}: `{shlex.join(arm.command)}`" for arm in suite.arms])


def document(suite, runs, metric, figures, where, rounds):
    """The JSON: everything the table has, and every value of every round that counts."""
    for arm, figure in zip(suite.arms, figures):
        counted = runs[arm.name][1:]
        figure["command"] = arm.command
        figure["device"] = device_of(counted[-1]["report"])
        figure["output"] = equality(arm, runs)
        figure["timing"] = [result["timing"] for result in counted]
        if arm.x is not None:
            figure["x"] = arm.x
        for key in ("n_tokens", "drafted", "accepted", "mean_accepted_length"):
            if key in counted[-1]["report"]:
                figure[key] = counted[-1]["report"][key]
    return {"title": suite.title, "machine": where, "notes": suite.notes, "metric": metric,
            "rounds": rounds, "arms": figures}
