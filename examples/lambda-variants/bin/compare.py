#!/usr/bin/env python3
"""Lay the variants that were planted beside those that were called: `compare.py SAMPLE GENOME TRUTH CALLED`.

Prints a row for each variant: sample, chrom, pos, ref, alt, kind (snp, insertion, deletion), status (found,
missed, extra) and the call's quality. TRUTH is wgsim's list, `-` for nothing; CALLED has
chrom, pos, ref, alt, qual as VCF writes them. Both are brought to one form, shifted left as far as they go.
"""

import sys
from pathlib import Path


def read_genome(path: str) -> dict[str, str]:
    """Sequences by name."""
    genome: dict[str, list[str]] = {}
    name = ""
    for line in Path(path).read_text(encoding="ascii").splitlines():
        if line.startswith(">"):
            name = line[1:].split()[0]
            genome[name] = []
        else:
            genome[name].append(line.strip().upper())
    return {name: "".join(parts) for name, parts in genome.items()}


def normalise(sequence: str, pos: int, ref: str, alt: str) -> tuple[int, str, str]:
    """A variant in VCF's form, trimmed and shifted left; `pos` counts from 1, ref or alt may be empty."""
    while ref and alt and ref[-1] == alt[-1]:
        ref, alt = ref[:-1], alt[:-1]
    while ref and alt and ref[0] == alt[0]:
        pos, ref, alt = pos + 1, ref[1:], alt[1:]
    if ref and alt:
        return pos, ref, alt
    changed = ref or alt
    while pos > 1 and sequence[pos - 2] == changed[-1]:
        changed = changed[-1] + changed[:-1]
        pos -= 1
    before = sequence[pos - 2] if pos > 1 else "N"
    return (pos - 1, before + changed, before) if ref else (pos - 1, before, before + changed)


def planted(path: str) -> list[tuple[str, int, str, str]]:
    """wgsim's rows; it puts an insertion after the base at its position, so the next base is where it starts."""
    rows = []
    for line in Path(path).read_text(encoding="ascii").splitlines()[1:]:
        chrom, pos, ref, alt = line.split()
        rows.append((chrom, int(pos) + (ref == "-"), ref.replace("-", ""), alt.replace("-", "")))
    return rows


def kind_of(ref: str, alt: str) -> str:
    """What a variant in VCF's form is."""
    if len(ref) == len(alt):
        return "snp"
    return "insertion" if len(alt) > len(ref) else "deletion"


def main(sample: str, genome_path: str, truth_path: str, called_path: str) -> None:
    """Print the comparison."""
    genome = read_genome(genome_path)
    truth = {(chrom, *normalise(genome[chrom], *rest)) for chrom, *rest in planted(truth_path)}
    calls = {}
    for line in Path(called_path).read_text(encoding="ascii").splitlines():
        chrom, pos, ref, alt, qual = line.split()
        calls[(chrom, *normalise(genome[chrom], int(pos), ref, alt))] = qual
    for variant in sorted(truth | calls.keys()):
        chrom, pos, ref, alt = variant
        status = "missed" if variant not in calls else "found" if variant in truth else "extra"
        print(sample, chrom, pos, ref, alt, kind_of(ref, alt), status, calls.get(variant, "."), sep="\t")


if __name__ == "__main__":
    main(*sys.argv[1:])
