#!/usr/bin/env python3
"""Put the samples together: `report.py --genome FA --compared TSV… --coverage TSV…`.

Writes variants.tsv (a row a variant), summary.tsv (a row a sample) and report.html, which needs nothing else.
"""

import argparse
import html
from dataclasses import dataclass
from pathlib import Path
from string import Template

VARIANT_COLUMNS = ("sample", "chrom", "pos", "ref", "alt", "kind", "status", "qual")
SUMMARY_COLUMNS = ("sample", "planted", "found", "missed", "extra", "recall", "precision", "mean_depth")
WIDTH, DEPTH_HEIGHT, TICK_HEIGHT = 1000, 90, 16


@dataclass(frozen=True)
class Sample:
    """One sample: its variants as rows of VARIANT_COLUMNS, and (position, mean depth) a window."""

    name: str
    variants: list[list[str]]
    coverage: list[tuple[int, float]]

    def count(self, *statuses: str) -> int:
        """How many variants are found, missed or extra."""
        return sum(row[6] in statuses for row in self.variants)

    def summary(self) -> list[str]:
        """The values of SUMMARY_COLUMNS; a share of nothing is 1."""
        found, missed, extra = self.count("found"), self.count("missed"), self.count("extra")
        recall = found / (found + missed) if found + missed else 1.0
        precision = found / (found + extra) if found + extra else 1.0
        depth = sum(value for _, value in self.coverage) / max(1, len(self.coverage))
        counts = [str(found + missed), str(found), str(missed), str(extra)]
        return [self.name, *counts, f"{recall:.4f}", f"{precision:.4f}", f"{depth:.1f}"]


def rows_of(path: Path) -> list[list[str]]:
    """The rows of a TSV without a header."""
    return [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]


def read_samples(compared: list[Path], coverage: list[Path]) -> list[Sample]:
    """Samples by name; both lists have a file a sample, named `<sample>.…`."""
    depths = {path.name.split(".")[0]: path for path in coverage}
    samples = []
    for path in sorted(compared):
        name = path.name.split(".")[0]
        depth = [(int(pos), float(mean)) for pos, mean in rows_of(depths[name])]
        samples.append(Sample(name, rows_of(path), depth))
    return samples


def track(sample: Sample, length: int) -> str:
    """The genome as SVG: the depth as an area, a tick for each variant below it."""
    top = max((depth for _, depth in sample.coverage), default=1.0) or 1.0
    points = [
        f"{pos / length * WIDTH:.1f},{DEPTH_HEIGHT * (1 - depth / top):.1f}" for pos, depth in sample.coverage
    ]
    area = f"0,{DEPTH_HEIGHT} {' '.join(points)} {WIDTH},{DEPTH_HEIGHT}"
    ticks = []
    for row in sample.variants:
        x = int(row[2]) / length * WIDTH
        label = html.escape(f"{row[2]} {row[3]}→{row[4]}: {row[6]}")
        ticks.append(
            f'<line class="{row[6]}" x1="{x:.1f}" x2="{x:.1f}" y1="{DEPTH_HEIGHT + 4}" '
            f'y2="{DEPTH_HEIGHT + 4 + TICK_HEIGHT}"><title>{label}</title></line>'
        )
    return (
        f'<svg viewBox="0 0 {WIDTH} {DEPTH_HEIGHT + TICK_HEIGHT + 8}" role="img" '
        f'aria-label="Depth and variants of {html.escape(sample.name)}" preserveAspectRatio="none">'
        f'<polygon class="depth" points="{area}"/>{"".join(ticks)}</svg>'
        f'<p class="scale"><span>1</span><span>highest mean depth of a window: {top:.0f}&times;</span>'
        f"<span>{length:,}</span></p>"
    )


def table(columns: tuple[str, ...], rows: list[list[str]]) -> str:
    """An HTML table; a cell of the status column carries its word as class."""
    head = "".join(f"<th>{html.escape(column.replace('_', ' '))}</th>" for column in columns)
    body = []
    for row in rows:
        cells = "".join(
            f'<td class="{html.escape(value)}">{html.escape(value)}</td>'
            if column == "status"
            else f"<td>{html.escape(value)}</td>"
            for column, value in zip(columns, row, strict=True)
        )
        body.append(f"<tr>{cells}</tr>")
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"


PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Variants of phage lambda</title>
<style>
:root { color-scheme: light dark; --ink: #1c2430; --dim: #667085; --line: #e3e7ee; --page: #fbfcfe; --card: #fff;
  --depth: #b9cdf5; --found: #1a7f4b; --missed: #c4372b; --extra: #b7791f; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ef; --dim: #98a2b3; --line: #2c3542; --page: #10151c;
  --card: #181f29; --depth: #33507f; --found: #4cc38a; --missed: #ff7a6b; --extra: #f0b849; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1060px; margin: 0 auto; padding: 32px 20px 64px; }
h1 { font-size: 26px; margin: 0 0 4px; } h2 { font-size: 17px; margin: 0 0 10px; }
.dim, .scale { color: var(--dim); }
.numbers { display: flex; flex-wrap: wrap; gap: 12px; margin: 22px 0; }
.numbers div, section { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 14px 18px; }
.numbers div { flex: 1 1 140px; } .numbers b { display: block; font-size: 24px; font-weight: 650; }
section { margin: 0 0 16px; overflow-x: auto; }
svg { width: 100%; height: 118px; display: block; }
svg .depth { fill: var(--depth); } svg line { stroke-width: 2; vector-effect: non-scaling-stroke; }
line.found { stroke: var(--found); } line.missed { stroke: var(--missed); } line.extra { stroke: var(--extra); }
.scale { display: flex; justify-content: space-between; margin: 2px 0 0; font-size: 12px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 5px 12px 5px 0; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { color: var(--dim); font-weight: 500; font-size: 13px; } tr:last-child td { border-bottom: 0; }
td.found, .key .found { color: var(--found); } td.missed, .key .missed { color: var(--missed); }
td.extra, .key .extra { color: var(--extra); } .key span { margin-right: 14px; }
details summary { cursor: pointer; }
</style>
</head>
<body><main>
<h1>Variants of phage lambda</h1>
<p class="dim">Variants were planted in copies of $chrom ($length bases), reads were simulated from the copies, and
the planted variants were looked for with bwa and bcftools.</p>
<div class="numbers">
<div><b>$samples</b>samples</div><div><b>$planted</b>variants planted</div><div><b>$found</b>of them found</div>
<div><b>$extra</b>called, not planted</div><div><b>$depth&times;</b>mean depth</div>
</div>
<section><h2>Samples</h2>$summary</section>
<p class="key dim"><span class="found">┃ found</span><span class="missed">┃ missed</span>
<span class="extra">┃ called, not planted</span>· the area is the depth of the reads</p>
$tracks
<section><details><summary>All $rows variants</summary>$variants</details></section>
</main></body>
</html>
""")


def page(samples: list[Sample], chrom: str, length: int) -> str:
    """The report as one HTML document."""
    summaries = [sample.summary() for sample in samples]
    variants = [row for sample in samples for row in sample.variants]
    tracks = "".join(f"<section><h2>{html.escape(s.name)}</h2>{track(s, length)}</section>" for s in samples)
    return PAGE.substitute(
        chrom=html.escape(chrom),
        length=f"{length:,}",
        samples=len(samples),
        planted=sum(int(row[1]) for row in summaries),
        found=sum(int(row[2]) for row in summaries),
        extra=sum(int(row[4]) for row in summaries),
        depth=f"{sum(float(row[7]) for row in summaries) / max(1, len(summaries)):.0f}",
        summary=table(SUMMARY_COLUMNS, summaries),
        tracks=tracks,
        rows=len(variants),
        variants=table(VARIANT_COLUMNS, variants),
    )


def write_table(path: Path, columns: tuple[str, ...], rows: list[list[str]]) -> None:
    """A TSV with a header."""
    path.write_text("".join("\t".join(row) + "\n" for row in [list(columns), *rows]), encoding="utf-8")


def main() -> None:
    """Read, then write the three files to the current folder."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--genome", type=Path, required=True)
    parser.add_argument("--compared", type=Path, nargs="+", required=True)
    parser.add_argument("--coverage", type=Path, nargs="+", required=True)
    args = parser.parse_args()
    lines = args.genome.read_text(encoding="ascii").splitlines()
    samples = read_samples(args.compared, args.coverage)
    write_table(Path("variants.tsv"), VARIANT_COLUMNS, [row for s in samples for row in s.variants])
    write_table(Path("summary.tsv"), SUMMARY_COLUMNS, [s.summary() for s in samples])
    length = sum(len(line) for line in lines if not line.startswith(">"))
    Path("report.html").write_text(page(samples, lines[0][1:].split()[0], length), encoding="utf-8")


if __name__ == "__main__":
    main()
