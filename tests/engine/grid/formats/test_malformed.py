"""Files that are broken in any way are refused with a place and a rule, and never end in another error."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

import pytest
from power_grid_model.utils import json_serialize

from evflex.engine.grid.formats import NetworkFormat, read_network
from evflex.engine.validation import InvalidProblemError
from tests.conftest import SOAK
from tests.engine.grid.formats.foreign import pandapower_network, pp
from tests.engine.grid.formats.test_matpower import CASE
from tests.engine.grid.formats.test_pandapower import small_network, three_phase_network
from tests.engine.grid.formats.test_power_grid_model import BY_PHASES, COMPONENTS, arrays
from tests.engine.grid.formats.test_simbench import SMALL

ROUNDS = 3000 if SOAK else 120
STRANGE: tuple[Any, ...] = (
    None, True, -1, 0, 1, 2**70, 10**400, 1e308, -1e308, 1e-308, 1e-320, float("nan"), float("inf"), "", "x", "1", [],
    {}, [1, 2, 3], [None, "a", {}], {"_class": "DataFrame"}, 0.5, 1e29, -1e29, 1e-29,
)  # fmt: skip


def whole_files() -> dict[NetworkFormat, list[dict[str, bytes]]]:
    """Sound files of each format."""
    networks = [small_network, lambda: three_phase_network("Dyn", 150.0, short_circuit_mva=1e3)]
    grid = arrays({**COMPONENTS, **BY_PHASES})
    return {
        NetworkFormat.MATPOWER: [{"case.m": CASE.encode()}],
        NetworkFormat.PANDAPOWER: [{"n.json": pp.to_json(pandapower_network(make)).encode()} for make in networks],
        NetworkFormat.POWER_GRID_MODEL: [
            {"g.json": json_serialize(grid, use_compact_list=compact).encode()} for compact in (True, False)
        ],
        NetworkFormat.SIMBENCH: [{name: text.encode() for name, text in SMALL.items()}],
    }


def attempt(network_format: NetworkFormat, files: dict[str, bytes]) -> None:
    try:
        read_network(network_format, files)
        told = []
    except InvalidProblemError as error:
        told = list(error.violations)
    assert all(violation.field and len(violation.description) < 1000 for violation in told)


@pytest.mark.parametrize("network_format", NetworkFormat)
def test_cut_and_garbled_files_are_read_or_refused(network_format: NetworkFormat) -> None:
    chance = random.Random(int(network_format))
    for files in whole_files()[network_format]:
        for _ in range(ROUNDS):
            name = chance.choice(list(files))
            content = bytearray(files[name])
            for _ in range(chance.randint(0, 3)):
                content[chance.randrange(len(content))] = chance.choice(b"0123456789;,[]{}\"'-+.eE\n %\x00\xff")
            if chance.random() < 0.3:
                del content[chance.randrange(len(content)) :]
            if chance.random() < 0.2:
                at = chance.randrange(len(content) + 1)
                del content[at : at + chance.randint(1, 40)]
            attempt(network_format, {**files, name: bytes(content)})


@pytest.mark.parametrize("network_format", [NetworkFormat.PANDAPOWER, NetworkFormat.POWER_GRID_MODEL])
def test_values_of_any_kind_are_read_or_refused(network_format: NetworkFormat) -> None:
    chance = random.Random(7)
    for files in whole_files()[network_format]:
        ((name, content),) = files.items()
        for _ in range(ROUNDS):
            document = json.loads(content)
            for _ in range(chance.randint(1, 3)):
                _spoil(document, chance)
            attempt(network_format, {name: json.dumps(document).encode()})


def _spoil(document: Any, chance: random.Random) -> None:
    """Replace or drop something at any depth, in tables within texts as well."""
    holder = document
    while True:
        keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        if not keys:
            return
        key = chance.choice(keys)
        value = holder[key]
        if isinstance(value, str) and value.startswith('{"columns"'):
            table = json.loads(value)
            _spoil(table, chance)
            holder[key] = json.dumps(table)
            return
        if isinstance(value, (dict, list)) and value and chance.random() < 0.97:
            holder = value
        elif chance.random() < 0.1:
            del holder[key]
            return
        else:
            holder[key] = copy.deepcopy(chance.choice(STRANGE))
            return


def test_numbers_of_any_kind_in_tables_of_text_are_read_or_refused() -> None:
    chance = random.Random(3)
    for _ in range(4 * ROUNDS):
        name = chance.choice([name for name in SMALL if name != "Coordinates.csv"])
        rows = [line.split(";") for line in SMALL[name].splitlines()]
        row = chance.choice(rows[1:])
        row[chance.randrange(len(row))] = str(chance.choice(STRANGE))
        text = "\n".join(";".join(row) for row in rows)
        attempt(NetworkFormat.SIMBENCH, {**{k: v.encode() for k, v in SMALL.items()}, name: text.encode()})


@pytest.mark.parametrize("network_format", NetworkFormat)
@pytest.mark.parametrize(
    "content",
    [b"", b"\x00", b"\xff\xfe", b"null", b"[]", b"{}", b"7", b"[" * 200_000, b'{"a":' * 100_000, b"9" * 10_000,
     b'{"_class":"pandapowerNet","_object":{"bus":' + b"[" * 100_000, b"id;a\n" + b'"' * 200_000],
)  # fmt: skip
def test_what_is_no_network_is_refused(network_format: NetworkFormat, content: bytes) -> None:
    with pytest.raises(InvalidProblemError):
        read_network(network_format, {"Node.csv": content})
    with pytest.raises(InvalidProblemError):
        read_network(network_format, {})
