"""What a measurement says of where it was made: machine, clocks, temperature, load, commit, date.
Everything is read, nothing is set; what the machine does not show is left out."""

import contextlib
import datetime
import glob
import os
import subprocess


def output_of(command):
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def lines_of(path):
    with contextlib.suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
        return file.read().splitlines()
    return []


def cpuinfo(key):
    return [line.partition(":")[2].strip() for line in lines_of("/proc/cpuinfo")
            if line.partition(":")[0].strip() == key]


def governors():
    found = {line for path in glob.glob("/sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor")
             for line in lines_of(path)}
    return ", ".join(sorted(found))


def hottest():
    """Degrees Celsius of the hottest sensor, or None."""
    degrees = []
    for pattern in ("/sys/class/thermal/thermal_zone*/temp", "/sys/class/hwmon/hwmon*/temp*_input"):
        for path in glob.glob(pattern):
            with contextlib.suppress(ValueError, IndexError):
                degrees.append(int(lines_of(path)[0]) / 1000)
    return max(degrees, default=None)


def state():
    """What changes while a measurement runs."""
    clocks = [float(text) for text in cpuinfo("cpu MHz")]
    gpus = output_of(["nvidia-smi", "--format=csv,noheader",
                      "--query-gpu=name,clocks.sm,clocks.mem,temperature.gpu"])
    return {"load": os.getloadavg()[0], "mhz": [min(clocks), max(clocks)] if clocks else None,
            "celsius": hottest(), "gpu": gpus.splitlines()}


def graphics():
    """The GPUs by name, with their driver."""
    return output_of(["nvidia-smi", "--format=csv,noheader",
                      "--query-gpu=name,memory.total,driver_version"]).splitlines()


def commit():
    here = os.path.dirname(os.path.abspath(__file__))
    name = output_of(["git", "-C", here, "rev-parse", "HEAD"])
    if name and output_of(["git", "-C", here, "status", "--porcelain", "-uno"]):
        name += " with changes"
    return name or "unknown"


def machine():
    """The record as a measurement begins; ended() completes it."""
    cpu = cpuinfo("model name")
    return {"cpu": cpu[0] if cpu else "unknown", "cores": len(os.sched_getaffinity(0)),
            "system": " ".join(os.uname()[::2]), "governor": governors(), "commit": commit(),
            "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "gpus": graphics(), "before": state(), "after": None, "synthetic": False}


def ended(where, reports=()):
    """Whether a model was made by mtpsynth is in the reports of mtpgen."""
    where["after"] = state()
    where["synthetic"] = any(report.get("model", {}).get("synthetic", False) is True
                             for report in reports if isinstance(report.get("model", {}), dict))
    return where


def marked(text, where):
    """A title, which says when its figures are those of a synthetic model."""
    return f"{text} (synthetic model)" if where["synthetic"] else text


def hardware(where, devices):
    """What computed: the processor, and a GPU where one of the devices is."""
    on_gpu = where["gpus"][:1] if any(device == "cuda" for device in devices) else []
    return ", ".join([where["cpu"], f"{where['cores']} cores"] + on_gpu)


def describe_state(word, at):
    parts = [f"load {at['load']:.2f}"]
    if at["mhz"]:
        low, high = at["mhz"]
        parts.append(f"{low:.0f} MHz" if high - low < 1 else f"{low:.0f} .. {high:.0f} MHz")
    if at["celsius"] is not None:
        parts.append(f"{at['celsius']:.0f} degrees C")
    return ", ".join([word + ": " + parts[0]] + parts[1:] + at["gpu"])


def describe(where):
    """Lines of a Markdown list."""
    governor = f", governor {where['governor']}" if where["governor"] else ""
    lines = [f"- {where['cpu']}, {where['cores']} cores{governor}, {where['system']}, {where['date']}"]
    lines += [f"- GPU: {name}" for name in where["gpus"]]
    lines += ["- " + describe_state(word, where[word]) for word in ("before", "after") if where[word]]
    if where["synthetic"]:
        lines.append("- synthetic model: shapes of a real one; text, acceptance and routing are made up")
    return lines + [f"- commit {where['commit']}"]
