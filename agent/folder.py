"""The run's folder on the machine: one name for each place in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunFolder:
    """`<scratch>/<session id>`: the same path on the machine, in the head container and in every task.

    It is named by the Nextflow session, not the run: a resumed run finds its work dir at the path that
    Nextflow's cache knows, on whichever machine it lands.
    """

    root: Path

    @property
    def work(self) -> Path:
        """Nextflow's work dir, where it is local."""
        return self.root / "work"

    @property
    def results(self) -> Path:
        """`params.outdir` and `-output-dir`: what becomes artifacts."""
        return self.root / "results"

    @property
    def pipeline(self) -> Path:
        """The pipeline's files, where they were sent along as a bundle."""
        return self.root / "pipeline"

    @property
    def launch(self) -> Path:
        """Nextflow's own folder, `.nextflow/` (cache), is here; it is started in the results folder."""
        return self.root / "launch"

    @property
    def config(self) -> Path:
        """Generated configuration, params and scripts."""
        return self.root / "config"

    @property
    def spool(self) -> Path:
        """The workload's output, byte by byte: its own stdout and stderr."""
        return self.root / "spool" / "workload.log"

    @property
    def logs(self) -> Path:
        """Trace, report, timeline, Nextflow's log, metrics, the agent's log."""
        return self.root / "logs"

    @property
    def trace(self) -> Path:
        """Nextflow's trace file."""
        return self.logs / "trace.txt"

    @property
    def nextflow_log(self) -> Path:
        """Nextflow's own log (`nextflow -log`)."""
        return self.logs / "nextflow.log"

    @property
    def metrics(self) -> Path:
        """Samples of cpu, memory, disk and network, a JSON object a line."""
        return self.logs / "metrics.jsonl"

    @property
    def state(self) -> Path:
        """What the agent must know again after it was killed: log offset, stop reason, upload journal."""
        return self.root / "state"

    def create(self) -> None:
        """Make every folder; existing ones stay as they are."""
        for path in (
            self.work,
            self.results,
            self.launch,
            self.config,
            self.spool.parent,
            self.logs,
            self.state,
        ):
            path.mkdir(parents=True, exist_ok=True)
