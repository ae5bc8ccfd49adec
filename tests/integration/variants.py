"""How right the demo pipeline's calls are: its published VCFs against the variants that were planted.

Reads the two files of each sample by itself, and nothing that the pipeline's own comparison wrote.
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path

Snp = tuple[str, int, str, str]
"""Chromosome, position from 1, reference base, alternative base."""


@dataclass(frozen=True)
class Accuracy:
    """Single-base variants of one sample or of several: how many were planted, called, and both."""

    planted: int
    called: int
    both: int

    @property
    def recall(self) -> float:
        """The share of the planted variants that was called."""
        return self.both / self.planted if self.planted else 1.0

    @property
    def precision(self) -> float:
        """The share of the called variants that was planted."""
        return self.both / self.called if self.called else 1.0


def planted_snps(truth: Path) -> set[Snp]:
    """The single-base variants in a `truth/<sample>.truth.tsv`."""
    rows = [line.split("\t") for line in truth.read_text().splitlines()[1:]]
    return {(chrom, int(pos), ref, alt) for chrom, pos, ref, alt in rows if "-" not in (ref, alt)}


def called_snps(vcf: Path) -> set[Snp]:
    """The single-base variants in a `variants/<sample>.vcf.gz`."""
    with gzip.open(vcf, "rt") as lines:
        rows = [line.split("\t") for line in lines if not line.startswith("#")]
    return {
        (chrom, int(pos), ref, alt)
        for chrom, pos, _id, ref, alt, *_rest in rows
        if len(ref) == 1 and len(alt) == 1
    }


def by_sample(results: Path) -> dict[str, Accuracy]:
    """The accuracy of each sample that has a truth file; `results` is the pipeline's outdir.

    Raises:
        FileNotFoundError: a sample's calls are missing.
    """
    accuracy = {}
    for truth in sorted(results.glob("truth/*.truth.tsv")):
        sample = truth.name.removesuffix(".truth.tsv")
        planted = planted_snps(truth)
        called = called_snps(results / "variants" / f"{sample}.vcf.gz")
        accuracy[sample] = Accuracy(len(planted), len(called), len(planted & called))
    return accuracy


def recall_and_precision(results: Path) -> tuple[float, float]:
    """Recall and precision over all samples; 0.0 and 0.0 where there is no sample at all."""
    samples = by_sample(results).values()
    total = Accuracy(
        sum(one.planted for one in samples),
        sum(one.called for one in samples),
        sum(one.both for one in samples),
    )
    return (total.recall, total.precision) if total.planted else (0.0, 0.0)
