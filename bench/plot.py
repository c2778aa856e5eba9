"""SVG charts by gnuplot, which is an optional program: bars with their ranges, and lines."""

import contextlib
import os
import shutil
import subprocess

from ab_run import Failure

COLOURS = ["#3465a4", "#cc6600", "#4e9a06", "#a40000", "#75507b", "#8f7a00", "#2e8b8b", "#555753"]
NO_GNUPLOT = "--svg needs the program gnuplot (package gnuplot-nox), which is not here"


def quoted(text):
    """A gnuplot string. In data no quote can be escaped, so it becomes another one."""
    text = str(text).replace('"', "'").replace("\\", "/").replace("\r", " ")
    return '"' + text.replace("\n", "\\n") + '"'


def can_draw():
    return shutil.which("gnuplot") is not None


def draw(path, width, height, commands):
    """The chart appears whole or not at all."""
    if not can_draw():
        raise Failure(NO_GNUPLOT)
    half = f"{path}.part"
    script = "\n".join([
        f"set terminal svg size {width},{height} noenhanced font 'sans-serif,13' background 'white'",
        f"set output {quoted(half)}", "set border 3 lc rgb '#555753'", "set tics nomirror",
        "set grid lc rgb '#dddddd' lt 1", *commands, "unset output", ""])
    done = subprocess.run(["gnuplot"], input=script, capture_output=True, text=True, check=False)
    try:
        if done.returncode != 0:
            raise Failure(f"gnuplot failed: {done.stderr.strip()[-600:]}")
        os.replace(half, path)
    except OSError as error:
        raise Failure(f"the chart cannot be written: {error}") from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(half)


def heading(title, subtitle):
    return f"set title {quoted(title)} . \"\\n\" . {quoted(subtitle)} font ',14'"


def bars(path, title, subtitle, unit, rows):
    """Lying bars; rows are (name, value, low, high)."""
    n, most = len(rows), max(high for _, _, _, high in rows) or 1
    ticks = ", ".join(f"{quoted(name)} {n - i}" for i, (name, *_) in enumerate(rows))
    data = [f"{value} {n - i} {low} {high} {quoted(format(value, '.4g'))}"
            for i, (_, value, low, high) in enumerate(rows)]
    draw(path, 900, 150 + 46 * n, [
        heading(title, subtitle), f"set xlabel {quoted(unit)}", "unset key",
        f"set xrange [0:{most * 1.15}]", f"set yrange [0.4:{n + 0.6}]", f"set ytics ({ticks})",
        "unset grid", "set grid x lc rgb '#dddddd' lt 1", "set style fill solid 0.85 noborder",
        "$data << END", *data, "END",
        f"plot $data using 1:2:(0):1:($2-0.3):($2+0.3) with boxxyerror lc rgb '{COLOURS[0]}', \\",
        "  $data using 1:2:3:4 with xerrorbars lc rgb 'black' pt 0 lw 1.5, \\",
        "  $data using 4:2:5 with labels left offset 0.8,0 notitle"])


def paired_bars(path, title, unit, names, rows):
    """Two lying bars a row, one over the other; rows are (name, first, second)."""
    n = len(rows)
    ticks = ", ".join(f"{quoted(name)} {n - i}" for i, (name, _, _) in enumerate(rows))
    data = [f"{n - i} {first:.6g} {second:.6g}" for i, (_, first, second) in enumerate(rows)]
    bar = "($1-0.3):($1+0.3) with boxxyerror lc rgb"
    draw(path, 900, 150 + 40 * n, [
        f"set title {quoted(title)} font ',14'", f"set xlabel {quoted(unit)}", "set xrange [0:*]",
        f"set yrange [0.4:{n + 0.6}]", f"set ytics ({ticks})", "set style fill solid 0.85 noborder",
        "$data << END", *data, "END",
        f"plot $data using 2:1:(0):2:{bar} '{COLOURS[1]}' title {quoted(names[0])}, \\",
        f"  $data using 3:1:(0):3:{bar} '{COLOURS[0]}' title {quoted(names[1])}"])


def block(name, points):
    return [f"${name} << END", *(" ".join(f"{v:.6g}" for v in point) for point in points), "END"]


def line_commands(xlabel, ylabel, series, prefix):
    """series are (name, [(x, y, low, high), ...], dashed)."""
    drawn = [(name, points, dashed) for name, points, dashed in series if points]
    xs = [point[0] for _, points, _ in drawn for point in points]
    margin = (max(xs) - min(xs)) * 0.03 or 1
    commands, plots = [], []
    for i, (name, points, dashed) in enumerate(drawn):
        commands += block(f"{prefix}{i}", points)
        look = f"lc rgb '{COLOURS[i % len(COLOURS)]}' lw 2 "
        look += "dt 2 pt 0" if dashed else f"pt {5 + 2 * (i % 5)}"
        style = "linespoints" if dashed else "yerrorlines"
        columns = "1:2" if dashed else "1:2:3:4"
        plots.append(f"${prefix}{i} using {columns} with {style} {look} title {quoted(name)}")
    return commands + [f"set xlabel {quoted(xlabel)}", f"set ylabel {quoted(ylabel)}",
                       f"set xrange [{min(xs) - margin}:{max(xs) + margin}]", "set yrange [0:*]",
                       "plot " + ", \\\n  ".join(plots)]


def lines(path, title, subtitle, xlabel, ylabel, series):
    key = "set key below height 0.7" if sum(bool(points) for _, points, _ in series) > 1 else "unset key"
    draw(path, 900, 520, [heading(title, subtitle), key,
                          *line_commands(xlabel, ylabel, series, "s")])


def two_panels(path, title, panels):
    """Two line charts side by side; panels are (title, xlabel, ylabel, series)."""
    commands = [f"set multiplot layout 1,2 title {quoted(title)} font ',14'", "set key below height 0.7"]
    for i, (name, xlabel, ylabel, series) in enumerate(panels):
        commands += [f"set title {quoted(name)} font ',13'",
                     *line_commands(xlabel, ylabel, series, f"panel{i}_")]
    draw(path, 1100, 520, commands + ["unset multiplot"])
