"""Run ids, which sort by time, and run names as Nextflow likes them: an adjective and a scientist."""

from __future__ import annotations

import random
import uuid
from datetime import UTC, datetime
from typing import Final

_ALPHABET: Final = "0123456789abcdefghijklmnopqrstuvwxyz"


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_ADJECTIVES: Final = _words(
    """
    agile amber ample apt astute autumn balmy bold brave breezy bright brisk calm candid careful
    cheerful chipper clear clever coastal cobalt copper cordial crisp curious dapper daring deft
    distant dreamy eager early earnest electric emerald fabled fearless fervent festive fleet fluent
    fond frank fresh frosty gallant gentle gilded glad golden graceful grand hardy hasty hearty
    helpful honest hopeful humble humming indigo ivory jaunty jolly jovial joyful keen kind leafy
    lively loyal lucid lunar magnetic mellow merry mighty misty modest neat nimble noble northern
    patient peaceful placid plucky polite prime proud quick quiet radiant rapid rosy rustic sage
    scarlet serene sharp shiny silent silver sincere snowy solar spry stately steady sturdy sunny
    swift tender thrifty tidy tranquil trusty upbeat valiant velvet vivid warm willing wise witty
    zealous zesty
    """
)
_SCIENTISTS: Final = _words(
    """
    agnesi alhazen anning archimedes aryabhata avery bassi becquerel beaufort bernoulli bohr boole
    bose brenner buffon cannon carson cavendish cerf chandra chargaff clarke copernicus crick curie
    cuvier dalton darwin delbruck descartes dirac dobzhansky doudna edison einstein elion erdos
    euclid euler faraday fermat fermi feynman fibonacci fisher fleming franklin galileo galois gauss
    germain gilbert goodall haldane hamilton heisenberg herschel hertz hilbert hodgkin holley hooke
    hopper hubble huygens hypatia jacob jemison joliot kepler khorana kilby lagrange lamarr
    lavoisier leavitt lederberg leeuwenhoek leibniz linnaeus lovelace lyell margulis maxwell mayer
    mcclintock meitner mendel mendeleev mirzakhani moore morgan newton nightingale nobel noether
    ochoa ohm pasteur pauling payne perutz planck poincare ptolemy ramanujan ride rosalind rubin
    sabin salk sanger shannon snow somerville sutton swanson tesla thales torvalds turing venter
    volta wallace watson wiles woese wu yalow
    """
)


def new_run_id(now: datetime, rng: random.Random) -> str:
    """A run id: the time in UTC to the second, and six random characters."""
    tail = "".join(rng.choice(_ALPHABET) for _ in range(6))
    return f"{now.astimezone(UTC):%Y%m%dt%H%M%S}-{tail}"


def new_run_name(rng: random.Random) -> str:
    """A run name such as `nimble_mendel`."""
    return f"{rng.choice(_ADJECTIVES)}_{rng.choice(_SCIENTISTS)}"


def new_session_id(rng: random.Random) -> str:
    """A Nextflow session: a random UUID."""
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))
