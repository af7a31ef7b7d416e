"""One status for a whole TCB: the words of its parts come back in it, whatever their order."""

import itertools

import pytest

from wardian.attestation.claims import TcbStatus
from wardian.attestation.verification.dcap import worst_status

ALL = tuple(TcbStatus)
UP_TO_DATE = TcbStatus.UP_TO_DATE


@pytest.mark.parametrize("status", ALL)
def test_alone_or_beside_what_is_up_to_date_a_status_stays(status):
    assert worst_status(status) is status
    assert worst_status(status, UP_TO_DATE, status) is status


@pytest.mark.parametrize("parts", list(itertools.combinations_with_replacement(ALL, 3)))
def test_the_order_of_the_parts_says_nothing(parts):
    merged = {worst_status(*order) for order in itertools.permutations(parts)}
    merged |= {worst_status(worst_status(a, b), c) for a, b, c in itertools.permutations(parts)}
    assert len(merged) == 1


@pytest.mark.parametrize("parts", list(itertools.combinations(ALL, 2)))
def test_what_is_wrong_with_a_part_is_wrong_with_the_whole(parts):
    whole = worst_status(*parts)
    if TcbStatus.REVOKED in parts:
        assert whole is TcbStatus.REVOKED
        return
    words = "".join(parts)
    assert ("OutOfDate" in whole) == ("OutOfDate" in words)
    assert ("Configuration" in whole) == ("Configuration" in words)
    if "OutOfDate" not in words:
        assert ("TDRelaunchAdvised" in whole) == ("TDRelaunchAdvised" in words)
        if "TDRelaunchAdvised" not in words:
            assert ("SWHardening" in whole) == ("SWHardening" in words)
