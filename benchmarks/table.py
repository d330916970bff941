"""Print the table of all benchmarks from the JSON files beside this one, with "missed" where an aim is missed.

python benchmarks/table.py              # what was measured last
python benchmarks/table.py --write      # and put it into README.md beside this file
python benchmarks/table.py --quick      # of the last try, speed.py --quick
"""

import argparse
import json
from collections.abc import Iterator, Mapping
from typing import Any

from common import HERE, Result, load, results_of

START, END = "<!-- table -->", "<!-- end of table -->"
HEADER = "| what | aim | measured | | to be known |\n|---|---|---|---|---|"
ORDER = (
    "linear", "everything", "flatten", "auto", "peers", "many", "cache", "processes", "help", "decoding", "gpu",
)  # fmt: skip


def main() -> None:
    """Print the table, and write it where it is asked for."""
    parser = argparse.ArgumentParser(description="Print the table of all benchmarks.")
    parser.add_argument("--write", action="store_true", help="put the table into README.md")
    parser.add_argument("--quick", action="store_true", help="of the last try")
    given = parser.parse_args()
    text = table(given.quick)
    print(text)
    if given.write:
        readme = HERE / "README.md"
        before, _, rest = readme.read_text(encoding="utf-8").partition(START)
        _, _, after = rest.partition(END)
        readme.write_text(f"{before}{START}\n{text}\n{END}{after}", encoding="utf-8")


def table(quick: bool) -> str:
    """Write all results as one Markdown table, and under it where and when they were measured."""
    lines = load("quick.json" if quick else "speed.json")
    rows = [row(r) for name in ORDER if name in lines for r in results_of(lines[name])]
    rows += [row(Result(f"line {name} of speed.py", None, note="not measured")) for name in ORDER if name not in lines]
    rows += [row(r) for r in streaming("quick_streaming.json" if quick else "streaming.json")]
    if not quick:
        rows += [row(r) for r in (*engine(), *inference(), *filters())]
    return "\n".join([HEADER, *rows, "", *measured(lines)])


def row(result: Result) -> str:
    """Write one line of the table."""
    spread = f" [{result.spread[0]:.3g}–{result.spread[1]:.3g}]" if result.spread else ""
    value = "–" if result.value is None else f"{result.value:.3g} {result.unit}".strip() + spread
    worst = "" if result.worst is None else f"worst difference {result.worst:.0e}; "
    verdict = f"**{result.verdict}**" if result.verdict == "missed" else result.verdict
    cells = (result.what, result.aim, value, verdict, (worst + result.note).removesuffix("; "))
    return "| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |"


def measured(lines: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Say when, where and of which versions the lines of speed.py were measured, once for each setting."""
    seen: dict[str, list[str]] = {}
    for name in ORDER:
        if name not in lines:
            continue
        line = lines[name]
        here, of, how = line["machine"], line["versions"], line["settings"]
        versions = ", ".join(f"{k} {v}" for k, v in of.items() if v != "not installed")
        parts = (here["processor"], f"{here['cores']} cores", f"{here['memory_GB']:.0f} GB", here.get("gpu"))
        where = ", ".join(filter(None, parts))
        text = f"{where}; {how['threads']} threads, n = {how['stimuli']}, {how['repeats']} rounds; {versions}"
        seen.setdefault(text, []).append(f"{name} ({line['date'][:16]}, load before {line['load_before']:.1f})")
    for text, names in seen.items():
        yield f"{', '.join(names)}: {text}."


def streaming(file: str) -> list[Result]:
    """Read what streaming.py measured: memory and speed of streamed linear CKA."""
    if not (HERE / file).is_file():
        return [Result("streaming.py", None, note="not measured")]
    return [r for line in load(file).values() for r in results_of(line)]


def engine() -> list[Result]:
    """Read what engine.py measured: the engine alone beside its products, and its memory."""
    path = HERE / "engine.json"
    if not path.is_file():
        return [Result("engine.py", None, note="not measured")]
    found: list[Result] = []
    for line in json.loads(path.read_text(encoding="utf-8"))["lines"]:
        what, worst = line["line"], line["worst_relative"]
        if "ratio" in line:
            spread = min(line["ratios"]), max(line["ratios"])
            found.append(Result(f"engine / its products, {what}", line["ratio"], "×", line["aim"], None, spread, worst))
        else:
            peak, note = line["peak_bytes"] / 1e9, f"in {line['seconds']:.0f} s"
            found.append(Result(f"peak, {what}", peak, "GB", line["aim_bytes"] / 1e9, worst=worst, note=note))
    return found


def inference() -> list[Result]:
    """Read what inference.py measured: the jackknife and permutations of a whole matrix."""
    path = HERE / "inference.json"
    if not path.is_file():
        return [Result("inference.py", None, note="not measured")]
    content = json.loads(path.read_text(encoding="utf-8"))
    size = f"{content['layers']} × {content['layers']} layers, n = {content['stimuli']:,}"
    found: list[Result] = []
    for line in content["lines"]:
        metric, permutations = line["metric"], line["permutations"]
        ratio, worst = line["jackknife_ratio"], line["jackknife_against_refit"]
        found.append(Result(f"jackknife / stacked product, {metric}", ratio, "×", 2.0, worst=worst, note=size))
        seconds, worst = line["permutations_s"], line["permuted_against_definition"]
        what = f"{permutations:,} permutations, {metric}"
        found.append(Result(what, seconds, "s", 60.0, worst=worst, note=size))
    return found


def filters() -> list[Result]:
    """Read what filters.py measured: the filter `cat` beside catvision."""
    path = HERE / "filters.json"
    if not path.is_file():
        return [Result("filters.py", None, note="not measured")]
    content = json.loads(path.read_text(encoding="utf-8"))
    taken, how = content["ms_per_picture"], content["settings"]
    size = f"{how['height']} × {how['width']}, one thread"
    value = taken["catvision"] / taken["cat:fov_deg=60"]
    return [Result("catvision / filter cat:fov_deg=60, time per picture", value, "×", None, 4.0, note=size)]


if __name__ == "__main__":
    main()
