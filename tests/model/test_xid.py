"""Whose fault an Xid is, and where its GPU sits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.model.xid import APPLICATION, HARDWARE, NOTES, XidKind, bus_address, kind_of, words_for


@pytest.mark.parametrize(
    ("code", "text", "kind"),
    [
        (48, "DBE (double bit error)", XidKind.HARDWARE),
        (62, "", XidKind.HARDWARE),
        (64, "Row Remapper: Error", XidKind.HARDWARE),
        (74, "NVLink: fatal error", XidKind.HARDWARE),
        (79, "GPU has fallen off the bus.", XidKind.HARDWARE),
        (95, "Uncontained", XidKind.HARDWARE),
        (119, "Timeout after 45s of waiting for RPC response from GPU0 GSP", XidKind.HARDWARE),
        (13, "Graphics SM Warp Exception", XidKind.APPLICATION),
        (31, "MMU Fault", XidKind.APPLICATION),
        (43, "Ch 00000008", XidKind.APPLICATION),
        (45, "Ch 00000008", XidKind.APPLICATION),
        (94, "Contained", XidKind.APPLICATION),
        (63, "Row Remapper: New row marked for remapping, reset gpu to activate.", XidKind.NOTE),
        (92, "", XidKind.NOTE),
        (149, "NETIR_LINK_EVT  Fatal", XidKind.NOTE),
        (9999, "of a driver to come", XidKind.NOTE),
        (154, "GPU recovery action changed from 0x0 (None) to 0x1 (GPU Reset Required)", XidKind.HARDWARE),
        (154, "GPU recovery action changed from 0x0 (None) to 0x2 (Node Reboot Required)", XidKind.HARDWARE),
        (154, "GPU recovery action changed from 0x0 (None) to 0x4 (Drain and Reset)", XidKind.HARDWARE),
        (154, "GPU recovery action changed from 0x0 (None) to 0x3 (Drain P2P)", XidKind.NOTE),
        (154, "GPU recovery action changed from 0x1 (GPU Reset Required) to 0x0 (None)", XidKind.NOTE),
        (154, "", XidKind.NOTE),
    ],
)
def test_an_xid_is_the_hardwares_the_applications_or_a_note(code: int, text: str, kind: XidKind) -> None:
    assert kind_of(code, text) is kind


def test_a_code_has_one_meaning() -> None:
    assert not set(HARDWARE) & set(APPLICATION)
    assert not set(NOTES) & {*HARDWARE, *APPLICATION}
    assert words_for(79) == "Xid 79 (fallen off the bus)"
    assert words_for(63) == "Xid 63 (bad memory was remapped; a reset activates that)"
    assert words_for(9999) == "Xid 9999"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("00000000:3B:00.0", "0000:3b:00"),
        ("PCI:0000:3b:00", "0000:3b:00"),
        ("0000:03:00", "0000:03:00"),
        ("03:00.0", "0000:03:00"),
        ("PCI:0009:01:00", "0009:01:00"),
        ("00010000:01:00.0", "10000:01:00"),
        ("PCI:0000:07:00 GPU-I:05", "0000:07:00"),
        ("", None),
        ("invalid", None),
        ("3b:00:", None),
    ],
)
def test_an_address_has_one_form_whoever_writes_it(text: str, address: str | None) -> None:
    assert bus_address(text) == address


@given(st.text())
def test_no_text_is_too_odd_for_an_address(text: str) -> None:
    found = bus_address(text)
    assert found is None or found.count(":") == 2
