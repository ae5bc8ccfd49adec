"""What a killed agent finds again."""

from pathlib import Path

import pytest

from agent.logs import journal as module
from agent.logs.journal import Intent, ShippingJournal, Totals


def test_a_new_journal(tmp_path: Path) -> None:
    """Without a file there is nothing sent, and the folder is made."""
    with ShippingJournal(tmp_path / "state" / "j") as journal:
        assert journal.totals == Totals()
        assert journal.planned == 0
        assert journal.open_intents == ()


def test_timestamps_always_grow(tmp_path: Path) -> None:
    """Each timestamp is after the one before, also when the clock stands or goes back, and after a restart."""
    with ShippingJournal(tmp_path / "j") as journal:
        stamps = [journal.intend(10, now).timestamp for now in (1000, 1000, 500, 2000)]
    with ShippingJournal(tmp_path / "j") as journal:
        stamps.append(journal.intend(10, 7).timestamp)

    assert stamps == [1000, 1001, 1002, 2000, 2001]


def test_only_a_prefix_is_committed(tmp_path: Path) -> None:
    """What was accepted beyond a gap counts once the gap is closed, before and after a restart."""
    with ShippingJournal(tmp_path / "j") as journal:
        first, second, third = (journal.intend(10, 0) for _ in range(3))
        journal.accept(third, 3, 0)
        assert journal.totals.committed == 0
        journal.accept(first, 1, 0)
        assert journal.totals.committed == 10
    with ShippingJournal(tmp_path / "j") as journal:
        assert journal.open_intents == (second,)
        assert journal.planned == 30
        journal.accept(second, 0, 2)
        assert journal.totals == Totals(committed=30, last_timestamp=third.timestamp, events=4, rejected=2)


def test_half_a_record_is_ignored(tmp_path: Path) -> None:
    """A last line that a kill left half written was never acted upon; the next record is readable again."""
    path = tmp_path / "j"
    with ShippingJournal(path) as journal:
        journal.intend(10, 5)
    with path.open("ab") as file:
        file.write(b'{"accepted": [0, 1')

    with ShippingJournal(path) as journal:
        assert journal.open_intents == (Intent(0, 10, 5),)
        journal.intend(10, 5)
    with ShippingJournal(path) as journal:
        assert journal.planned == 20


def test_the_file_stays_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is written anew now and then, and nothing is forgotten, batches on their way included."""
    monkeypatch.setattr(module, "_COMPACT_AT", 300)
    path = tmp_path / "j"
    with ShippingJournal(path) as journal:
        stuck = journal.intend(1, 0)
        for _ in range(100):
            journal.accept(journal.intend(1, 0), 1, 0)
        assert journal.open_intents == (stuck,)
        journal.accept(stuck, 1, 0)
        for _ in range(100):
            journal.accept(journal.intend(1, 0), 1, 0)
        assert path.stat().st_size < 600
    with ShippingJournal(path) as journal:
        assert journal.totals == Totals(committed=201, last_timestamp=201, events=201)


def test_a_disk_that_takes_nothing(tmp_path: Path) -> None:
    """The journal goes on in memory and says so; it is whole again as soon as the disk is."""
    blocked = tmp_path / "state"
    blocked.write_text("a file where the folder should be")
    with ShippingJournal(blocked / "j") as journal:
        assert journal.trouble is not None
        assert "lines may come twice" in journal.trouble
        intent = journal.intend(10, 5)
        assert journal.planned == 10

        blocked.unlink()
        journal.accept(intent, 1, 0)

    with ShippingJournal(blocked / "j") as journal:
        assert journal.trouble is None
        assert journal.totals == Totals(committed=10, last_timestamp=5, events=1)
