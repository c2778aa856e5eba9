"""The arithmetic of bench/roofline: raw figures in (what bench_roofline writes, reports of mtpgen),
fractions of ceilings and the account of a step out. Nothing here runs or prints anything."""

import math

# Operations whose bytes come from memory: weights, the keys and values, recurrent state. What the
# others read and write are activations, which stay in the first caches: their limit is taken as 0.
WEIGHTS = ("matmul", "expert_matmul")
CACHE = ("attention",)
STATE = ("conv", "delta_net")
DELTA_NET_BYTES_A_CELL = 8  # a float of the state, read and written
DELTA_NET_PRODUCTS_A_CELL = 4  # decay, prediction, correction, output: one multiplication each


def ceiling(raw, kind, threads=None, size=None):
    """The best rate of a kind in bytes or products a second; of working sets the largest that is
    not larger than `size`, by default the largest. Infinite where it is not measured: products on a GPU."""
    threads = threads or raw["threads"]
    found = [c for c in raw["ceilings"] if c["kind"] == kind and c["threads"] == threads]
    if not found:
        return math.inf
    if kind == "read":
        most = max(c["bytes"] for c in found) if size is None else size
        found = sorted((c for c in found if c["bytes"] <= most), key=lambda c: c["bytes"])[-1:]
    return found[0]["rate"]


def evaluate_products(raw):
    """Every product with its rates, limits and fractions."""
    read = ceiling(raw, "read")
    rows = []
    for product in raw["products"]:
        rate = ceiling(raw, product["arithmetic"])
        size, seconds = product["weight_bytes"] + product["input_bytes"], product["seconds"]
        limits = {"read": size / read, product["arithmetic"]: product["macs"] / rate}
        binds = max(limits, key=limits.get)
        rows.append({**product, "bytes": size, "us": 1e6 * seconds, "gb_s": size / seconds / 1e9,
                     "fraction_of_read": limits["read"] / seconds,
                     "gmac_s": product["macs"] / seconds / 1e9,
                     "fraction_of_arithmetic": limits[product["arithmetic"]] / seconds,
                     "limit": binds, "limit_us": 1e6 * limits[binds],
                     "fraction": limits[binds] / seconds})
    return rows


def token_by_products(rows):
    """What the products alone of a token take, one line a type for shapes whose type was chosen;
    a pass over n rows against one over a single row."""
    types = sorted({r["type"] for r in rows if r["type_chosen"]}) or [None]
    widths = sorted({r["rows"] for r in rows})
    lines = []
    for name in types:
        of_type = [r for r in rows if not r["type_chosen"] or r["type"] == name]

        def total(key, width, mine=of_type):
            return sum(r["calls_per_token"] * r[key] for r in mine if r["rows"] == width)
        first = widths[0]
        lines.append({"type": name or "of the file", "rows": first,
                      "weight_bytes": total("weight_bytes", first), "us": total("us", first),
                      "limit_us": total("limit_us", first),
                      "fraction": total("limit_us", first) / total("us", first),
                      "cost": {str(w): total("us", w) / total("us", first) for w in widths},
                      "limit_cost": {str(w): total("limit_us", w) / total("limit_us", first)
                                     for w in widths}})
    return lines


def step_bytes(report):
    """Bytes a plain step must move: {"weights": , "kv": , "state": , "total": }."""
    operations = {o["operation"]: o["bytes"] for o in report["profile"]["steps"]["operations"]}
    steps = report["steps"]
    parts = {name: sum(operations.get(o, 0) for o in kinds) / steps
             for name, kinds in (("weights", WEIGHTS), ("kv", CACHE), ("state", STATE))}
    parts["total"] = sum(parts.values())
    return parts


def products_of(operation, size, raw, report):
    """Multiplications a step of an operation that moves `size` bytes: {"int8": , "fp32": }."""
    macs = {"int8": 0.0, "fp32": 0.0}
    model = raw["model"]
    for product in model["products"]:
        if product["operation"] == operation:
            macs[product["arithmetic"]] += product["calls_per_token"] * product["macs"]
    if operation == "attention":  # each key and value element meets every query head that shares it
        element = 4 if report["options"]["kv"] == "f32" else 2
        macs["fp32"] = size / element * model["n_heads"] / model["n_kv_heads"]
    if operation == "delta_net":
        macs["fp32"] = size / DELTA_NET_BYTES_A_CELL * DELTA_NET_PRODUCTS_A_CELL
    return macs


def account_of_operation(entry, steps, raw, report, read):
    name, size = entry["operation"], entry["bytes"] / steps
    macs = products_of(name, size, raw, report)
    limits = {"read": size / read if name in WEIGHTS + CACHE + STATE else 0.0,
              "arithmetic": sum(macs[kind] / ceiling(raw, kind) for kind in macs)}
    binds = max(limits, key=limits.get)
    us, limit = 1e3 * entry["ms"] / steps, 1e6 * limits[binds]
    return {"operation": name, "calls": entry["calls"] / steps, "us": us, "bytes": size,
            "macs": macs["int8"] + macs["fp32"], "read_limit_us": 1e6 * limits["read"],
            "arithmetic_limit_us": 1e6 * limits["arithmetic"], "limit_us": limit,
            "limit": binds if limit > 0 else "none", "gap_us": us - limit}


def account(raw, plain, profiled):
    """A plain step from a run with --profile and one without, whose time is the one measured. The
    limit is the larger of reading all bytes, at the rate of a working set as large as they are, and of
    all multiplications. measured = limit + the sum of the gaps."""
    size = step_bytes(profiled)
    working_set = working_set_of(profiled, raw["read_bytes"])
    read = ceiling(raw, "read", size=working_set)
    steps, phase = profiled["steps"], profiled["profile"]["steps"]
    operations = [account_of_operation(o, steps, raw, profiled, read) for o in phase["operations"]]
    operations.sort(key=lambda o: -o["us"])
    outside = 1e3 * phase["outside_ms"] / steps
    measured = 1e6 / plain["timing"]["decode_tok_s"]
    by_reading = 1e6 * size["total"] / read
    by_arithmetic = sum(o["arithmetic_limit_us"] for o in operations)
    limit = max(by_reading, by_arithmetic)
    profiling = measured - outside - sum(o["us"] for o in operations)
    gap = [{"name": o["operation"], "us": o["gap_us"]} for o in operations]
    gap += [{"name": "outside operations", "us": outside},
            {"name": "profiling, and what it keeps from running together", "us": profiling},
            {"name": "reading and arithmetic of different operations do not overlap",
             "us": sum(o["limit_us"] for o in operations) - limit}]
    gap.sort(key=lambda entry: -entry["us"])
    return {"model": profiled["model"]["path"], "device": raw["device"], "threads": raw["threads"],
            "isa": profiled["options"]["isa"], "steps": steps, "prompt_tokens": profiled["prompt_tokens"],
            "bytes": size, "working_set": working_set,
            "weight_bytes": profiled["model"]["weight_bytes"],
            "weights_rate": ceiling(raw, "read", size=max(profiled["model"]["weight_bytes"], working_set)),
            "cache_bytes": raw["cache_bytes"], "read_rate": read,
            "memory_rate": ceiling(raw, "read"),
            "int8_rate": measured_or_none(ceiling(raw, "int8")),
            "fp32_rate": measured_or_none(ceiling(raw, "fp32")),
            "profiled_us": 1e3 * phase["ms"] / steps, "measured_us": measured,
            "measured_tok_s": 1e6 / measured, "read_limit_us": by_reading,
            "memory_limit_us": 1e6 * size["total"] / ceiling(raw, "read"),
            "arithmetic_limit_us": by_arithmetic, "limit_us": limit, "limit_tok_s": 1e6 / limit,
            "limit": "read" if limit == by_reading else "arithmetic", "fraction": limit / measured,
            "operations": operations, "outside_us": outside, "gap": gap}


def measured_or_none(rate):
    return None if math.isinf(rate) else rate


def working_set_of(report, most):
    """Bytes of a step as a working set to read: whole pages, no more than are read anyway."""
    return int(max(4096, min(step_bytes(report)["total"], most) // 4096 * 4096))
