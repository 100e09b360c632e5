"""The progress bar: never in the way of the items, never on stdout."""

from __future__ import annotations

import pytest

from elastic_ir.progress import track


@pytest.mark.parametrize("disable", [None, True, False])
def test_items_pass_and_stdout_stays_clean(capsys: pytest.CaptureFixture[str], disable: bool | None) -> None:
    assert list(track(iter("abc"), "reading", total=3, disable=disable)) == ["a", "b", "c"]
    shown = capsys.readouterr()
    assert shown.out == ""
    assert ("reading" in shown.err) == (disable is False)
