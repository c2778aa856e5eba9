"""roofline_check.py figures JSON MARKDOWN ROW_BYTES - everything that bench/roofline derives, derived once
more from bytes, products and times. ROW_BYTES: a row of the model's embedding, which no product reads.
roofline_check.py account BENCH - the arithmetic with made-up figures whose results are known.
No time is ever judged.
"""

import json
import sys

sys.dont_write_bytecode = True


def near(a, b, tolerance=1e-6):
    assert abs(a - b) <= tolerance * max(1.0, abs(a), abs(b)), (a, b)


def rate(data, kind, threads, size=None):
    [found] = {c["rate"] for c in data["ceilings"] if c["kind"] == kind and c["threads"] == threads
               and c.get("bytes") == size}
    return found


def check_ceilings(data):
    step = data["step"]
    assert data["rotation_bytes"] == 4 * data["cache_bytes"] == 4 << 20, data["rotation_bytes"]
    for threads in {1, data["threads"]}:
        for size in (data["read_bytes"], step["working_set"], step["weight_bytes"] // 4096 * 4096):
            assert rate(data, "read", threads, size) > 0, size
        assert rate(data, "int8", threads) > 0 and rate(data, "fp32", threads) > 0
    assert all(c["device"] == "cpu" and c["rate"] >= c["median"] for c in data["ceilings"])


def check_products(data, row_bytes):
    model, rows = data["model"], data["products"]
    names = {(p["name"], p["type"], n) for p in model["products"] for n in (1, 2, 4, 8, 16, 512)}
    assert {(r["name"], r["type"], r["rows"]) for r in rows} == names and len(rows) == len(names), len(rows)
    reads = sum(p["calls_per_token"] * p["bytes"] for p in model["products"])
    assert reads + row_bytes == model["bytes_per_token"], (reads, model["bytes_per_token"])
    assert reads == sum(r["calls_per_token"] * r["weight_bytes"] for r in rows if r["rows"] == 1)
    read = rate(data, "read", data["threads"], data["read_bytes"])
    for r in rows:
        assert r["device"] == "cpu" and r["passes"] > 0 and r["best_seconds"] <= r["seconds"], r
        assert r["macs"] == r["rows"] * r["n_used"] * r["n_out"] * r["n_in"], r
        assert r["arithmetic"] == ("fp32" if r["type"] == "F32" else "int8"), r
        if r["n_experts"] == 1:
            assert r["copies"] * r["weight_bytes"] >= data["rotation_bytes"], r
        size = r["weight_bytes"] + r["input_bytes"]
        multiplying = r["macs"] / rate(data, r["arithmetic"], data["threads"])
        near(r["us"], 1e6 * r["seconds"])
        near(r["gb_s"], size / r["seconds"] / 1e9)
        near(r["gmac_s"], r["macs"] / r["seconds"] / 1e9)
        near(r["fraction_of_read"], size / read / r["seconds"])
        near(r["fraction_of_arithmetic"], multiplying / r["seconds"])
        near(r["fraction"], max(size / read, multiplying) / r["seconds"])
        assert r["limit"] == ("read" if size / read > multiplying else r["arithmetic"]), r
    check_experts([r for r in rows if r["name"] == "ffn_gate_exps, ffn_up_exps"])


def check_experts(rows):
    """16 experts, 4 of them a row: 4 x 256 rows of 288 bytes for one row, 16 for many."""
    wanted = {1: 4, 2: 7, 4: 11, 8: 14, 16: 16, 512: 16}
    got = {r["rows"]: r["weight_bytes"] / (256 * 288) for r in rows}
    assert got == wanted, got


def check_printed(data, markdown):
    """Every row of the products' table: the fractions are those of the rates beside them."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in markdown.splitlines()
            if line.startswith("| cpu |") and " x " in line]
    assert len(rows) == len(data["products"]), len(rows)
    read = rate(data, "read", data["threads"], data["read_bytes"]) / 1e9
    for row, r in zip(rows, data["products"]):
        arithmetic = rate(data, r["arithmetic"], data["threads"]) / 1e9
        assert row[1:3] == [r["name"], r["type"]] and row[4] == str(r["rows"]), row
        assert abs(float(row[6]) / read - float(row[7])) <= 0.005 + 0.06 / read, row
        assert abs(float(row[8]) / arithmetic - float(row[9])) <= 0.005 + 0.06 / arithmetic, row
        assert abs(max(float(row[7]), float(row[9])) - float(row[11])) <= 0.011, row


def check_step(data):
    step, plain, profiled = data["step"], data["reports"]["plain"], data["reports"]["profiled"]
    phase, steps = profiled["profile"]["steps"], profiled["steps"]
    assert steps == step["steps"] == 16 and plain["drafted"] == 0 and plain["profile"] is None
    near(step["measured_us"], 1e6 / plain["timing"]["decode_tok_s"])
    near(step["profiled_us"], 1e3 * phase["ms"] / steps)
    # the report rounds to microseconds a run
    rounding = (len(step["operations"]) + 2) * 0.5 / steps
    assert abs(sum(o["us"] for o in step["operations"]) + step["outside_us"]
               - step["profiled_us"]) <= rounding
    near(sum(g["us"] for g in step["gap"]) + step["limit_us"], step["measured_us"])
    assert step["gap"] == sorted(step["gap"], key=lambda g: -g["us"])
    moved = {o["operation"]: o["bytes"] / steps for o in phase["operations"]}
    assert len(step["operations"]) == len(moved)
    products = sum(p["calls_per_token"] * p["bytes"] for p in data["model"]["products"])
    near(step["bytes"]["weights"], moved["matmul"] + moved["expert_matmul"])
    near(step["bytes"]["weights"], products)
    near(step["bytes"]["kv"], moved["attention"])
    near(step["bytes"]["state"], moved["conv"] + moved["delta_net"])
    near(step["bytes"]["total"], products + step["bytes"]["kv"] + step["bytes"]["state"])
    read = rate(data, "read", data["threads"], step["working_set"])
    near(step["read_limit_us"], 1e6 * step["bytes"]["total"] / read)
    near(step["limit_us"], max(step["read_limit_us"], step["arithmetic_limit_us"]))
    near(step["limit_tok_s"], 1e6 / step["limit_us"])
    near(step["fraction"], step["limit_us"] / step["measured_us"])


def check_account(bench):
    sys.path.insert(0, bench)
    import roofline_account
    ceilings = [{"kind": "read", "threads": 2, "bytes": 1 << 30, "rate": 10e9},
                {"kind": "read", "threads": 2, "bytes": 4096, "rate": 20e9},
                {"kind": "read", "threads": 1, "bytes": 1 << 30, "rate": 5e9},
                {"kind": "int8", "threads": 2, "rate": 100e9},
                {"kind": "fp32", "threads": 2, "rate": 5e9}]
    product = {"weight_bytes": 900, "input_bytes": 100, "macs": 5000, "seconds": 4e-7, "rows": 1,
               "arithmetic": "int8", "type": "Q8_0", "type_chosen": True, "calls_per_token": 3}
    wide = dict(product, rows=2, macs=20000, seconds=8e-7)
    raw = {"threads": 2, "device": "cpu", "cache_bytes": 1 << 20, "read_bytes": 1 << 30,
           "ceilings": ceilings, "products": [product, wide],
           "model": {"n_heads": 8, "n_kv_heads": 2, "products": [
               {"operation": "matmul", "arithmetic": "int8", "calls_per_token": 2, "macs": 50000},
               {"operation": "matmul", "arithmetic": "fp32", "calls_per_token": 1, "macs": 1000}]}}
    one, two = roofline_account.evaluate_products(raw)
    assert one["limit"] == "read" and two["limit"] == "int8", (one, two)
    near(one["fraction"], 0.25)
    near(two["fraction"], 0.25)
    near(two["fraction_of_read"], 0.125)
    [token] = roofline_account.token_by_products([one, two])
    near(token["us"], 1.2)
    near(token["limit_us"], 0.3)
    near(token["cost"]["2"], 2.0)
    near(token["limit_cost"]["2"], 2.0)
    no_rates = dict(raw, ceilings=ceilings[:3], products=[])
    operations = [{"operation": "matmul", "calls": 6, "ms": 0.020, "bytes": 2 * 4000},
                  {"operation": "attention", "calls": 2, "ms": 0.008, "bytes": 2 * 1000},
                  {"operation": "delta_net", "calls": 2, "ms": 0.004, "bytes": 2 * 1600},
                  {"operation": "add", "calls": 2, "ms": 0.002, "bytes": 2 * 5000}]
    report = {"steps": 2, "prompt_tokens": 3, "options": {"kv": "f16", "isa": "avx2"},
              "model": {"path": "m", "weight_bytes": 9000},
              "profile": {"steps": {"ms": 0.036, "outside_ms": 0.002, "operations": operations}}}
    plain = {"timing": {"decode_tok_s": 1e6 / 16}}
    step = roofline_account.account(raw, plain, report)
    limits = {o["operation"]: (o["limit"], round(o["limit_us"], 6)) for o in step["operations"]}
    # matmul: 100,000 / 100e9 + 1,000 / 5e9 s against 4,000 B / 20e9; attention: 1,000 B / 2 keys and values
    # x 4 heads each = 2,000 products; delta_net: 200 cells x 4 products
    assert limits == {"matmul": ("arithmetic", 1.2), "attention": ("arithmetic", 0.4),
                      "delta_net": ("arithmetic", 0.16), "add": ("none", 0)}, limits
    near(step["bytes"]["total"], 6600)
    assert step["working_set"] == 4096
    near(step["read_limit_us"], 0.33)
    near(step["arithmetic_limit_us"], 1.76)
    near(step["fraction"], 1.76 / 16)
    gap = {g["name"]: g["us"] for g in step["gap"]}
    near(gap["matmul"], 10 - 1.2)
    near(gap["outside operations"], 1)
    near(gap["profiling, and what it keeps from running together"], 16 - 18)
    near(sum(gap.values()), 16 - 1.76)
    # where the rate of multiplying is not known, reading is the limit
    gpu = roofline_account.account(no_rates, plain, report)
    assert gpu["int8_rate"] is None and gpu["limit"] == "read", gpu
    near(gpu["limit_us"], 0.33)
    near(sum(g["us"] for g in gpu["gap"]), 16 - 0.33)


def main():
    if sys.argv[1] == "account":
        check_account(sys.argv[2])
        return
    with open(sys.argv[2], encoding="utf-8") as file:
        data = json.load(file)
    with open(sys.argv[3], encoding="utf-8") as file:
        markdown = file.read()
    what = sys.argv[1]
    if what == "ceilings":
        check_ceilings(data)
    elif what == "products":
        check_products(data, int(sys.argv[4]))
    elif what == "printed":
        check_printed(data, markdown)
    else:
        check_step(data)


main()
