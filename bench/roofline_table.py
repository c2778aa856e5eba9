"""Markdown and the chart of bench/roofline."""

import ab_record
import plot


def size(count):
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= unit:
            return f"{count / unit:.3g} {name}"
    return f"{count:.0f} B"


def number(value):
    return f"{value:.4g}" if abs(value) < 1e4 else f"{value:.0f}"


def table(heads, rows):
    return ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|",
            *("| " + " | ".join(str(cell) for cell in row) + " |" for row in rows), ""]


def ceilings(raw):
    rows = []
    verb = "copy" if raw["device"] == "cuda" else "read"
    for c in raw["ceilings"]:
        what = f"{verb} {size(c['bytes'])}" if c["kind"] == "read" else c["kind"]
        unit = "GB/s" if c["kind"] == "read" else "GMAC/s"
        rows.append((c["device"], what, c["threads"], f"{c['rate'] / 1e9:.1f} {unit}",
                     f"{c['median'] / 1e9:.1f}"))
    return ["## Ceilings", ""] + table(
        ("device", "ceiling", "threads", f"best of {raw['ceilings'][0]['rounds']} rounds", "median"), rows)


def products(rows, raw):
    lines = ["## Products", "",
             f"Weights and inputs pass through {size(raw['rotation_bytes'])} before they are used again "
             f"(last-level cache: {size(raw['cache_bytes'])}, {raw['cache_source']}), "
             f"{raw['threads']} threads.", ""]
    return lines + table(
        ("device", "matrix", "type", "rows x columns", "N", "us", "GB/s", "of read", "GMAC/s",
         "of arithmetic", "limit", "of limit"),
        [(r["device"], r["name"], r["type"], shape(r), r["rows"], number(r['us']), f"{r['gb_s']:.1f}",
          f"{r['fraction_of_read']:.2f}", f"{r['gmac_s']:.1f}", f"{r['fraction_of_arithmetic']:.2f}",
          r["limit"], f"{r['fraction']:.2f}") for r in rows])


def shape(row):
    text = f"{row['n_out']} x {row['n_in']}"
    return text if row["n_experts"] == 1 else f"{text}, {row['n_used']} of {row['n_experts']}"


def tokens(lines):
    widths = sorted((int(w) for w in lines[0]["cost"]), key=int)
    heads = ["type", "bytes", "us", "limit, us", "limit, tok/s", "of limit"]
    heads += [f"{w} rows against {widths[0]}" for w in widths[1:]]
    return ["## A token's products", "", "Every product of a token once, weights from memory. What more rows "
            "cost, and in brackets what the limits would cost.", ""] + table(
        heads, [[t["type"], size(t["weight_bytes"]), number(t["us"]), number(t["limit_us"]),
                 number(1e6 / t["limit_us"] * t["rows"]), f"{t['fraction']:.2f}"]
                + [f"{t['cost'][str(w)]:.2f} ({t['limit_cost'][str(w)]:.2f})" for w in widths[1:]]
                for t in lines])


def multiplying(a):
    if a["int8_rate"] is None:
        return "what multiplying takes is not known here"
    return f"multiplying {a['arithmetic_limit_us']:.4g} us"


def where_bytes_lie(a):
    if a["working_set"] <= a["cache_bytes"]:
        return (f"The bytes of a token fit the last-level cache ({size(a['cache_bytes'])}): the limit is "
                f"the rate of reading a working set of {size(a['working_set'])}, "
                f"{a['read_rate'] / 1e9:.1f} GB/s. Other tokens need other experts: over all "
                f"{size(a['weight_bytes'])} of weights reading has {a['weights_rate'] / 1e9:.1f} GB/s. From "
                f"memory, at {a['memory_rate'] / 1e9:.1f} GB/s, the limit would be "
                f"{1e6 / a['memory_limit_us']:.0f} tok/s.")
    return (f"The bytes of a token do not fit the last-level cache ({size(a['cache_bytes'])}): they come "
            f"from memory, {a['read_rate'] / 1e9:.1f} GB/s at a working set of {size(a['working_set'])}.")


def step(a):
    b = a["bytes"]
    lines = ["## A whole step", "",
             f"{a['model'].rsplit('/', 1)[-1]}, {a['device']}, {a['isa']}, {a['threads']} threads, "
             f"{a['steps']} plain steps behind a prompt of {a['prompt_tokens']} tokens.", "",
             f"- bytes a token: {size(b['total'])} (weights {size(b['weights'])}, keys and values "
             f"{size(b['kv'])}, recurrent state {size(b['state'])})",
             f"- reading them takes {a['read_limit_us']:.4g} us at least, {multiplying(a)}: the limit is {a['limit_tok_s']:.4g} tok/s ({a['limit']})",
             f"- measured: {a['measured_us']:.4g} us, {a['measured_tok_s']:.4g} tok/s, "
             f"**{a['fraction']:.2f} of the limit**", "", where_bytes_lie(a), ""]
    rows = [(o["operation"], f"{o['calls']:.4g}", f"{o['us']:.4g}",
             f"{100 * o['us'] / a['measured_us']:.1f} %",
             f"{o['read_limit_us']:.4g}", f"{o['arithmetic_limit_us']:.4g}", o["limit"],
             f"{o['limit_us'] / o['us']:.2f}" if o["us"] > 0 else "", f"{o['gap_us']:.4g}")
            for o in a["operations"]]
    lines += table(("operation", "calls", "us", "of the time", "reading, us", "arithmetic, us", "limit",
                    "of limit", "gap, us"), rows)
    rows = [("the limit", f"{a['limit_us']:.1f}", f"{100 * a['fraction']:.1f} %")]
    rows += [(g["name"], f"{g['us']:.1f}", f"{100 * g['us'] / a['measured_us']:.1f} %") for g in a["gap"]]
    rows += [("measured", f"{a['measured_us']:.1f}", "100 %")]
    return lines + ["The gap by name, largest first:", ""] + table(
        ("time above the limit", "us a token", "of the time"), rows)


def record(where, commands):
    return [*ab_record.describe(where),
            f"- other programs kept {where['others']:.2f} processors busy meanwhile",
            *(f"- `{c}`" for c in commands), ""]


def draw(path, result):
    """Time and limit of every operation."""
    rows = [(o["operation"], o["us"], o["limit_us"]) for o in result["step"]["operations"] if o["us"] > 0][:12]
    title = ab_record.marked("A plain step by operation", result["machine"])
    plot.paired_bars(path, title, "microseconds a token", ("time", "limit"), rows)
