"""A machine with TDX under a root of its own: what its quoting enclave and its vendor would sign.

Everything that a test may want to be wrong is an argument or a dictionary that it may change before
it is signed, so that what is refused is the content and not a signature that does not fit.
"""

import datetime as dt
import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from wardian.attestation.quotes.sgx import SGX_BODY
from wardian.attestation.quotes.tdx import TD15_BODY, TD_BODY
from wardian.tee.launch.simulation_pki import (
    CPU_SVN,
    FMSPC,
    PCE_ID,
    PCE_SVN,
    SimulatedPki,
    build_collateral,
    build_pki,
    sign_raw,
)

SGX, TDX = 0x00, 0x81
TD10, TD15 = 2, 3
QE_SIGNER = hashlib.sha256(b"simulated TD quoting enclave").digest()
SEPT_VE_DISABLE = bytes([0, 0, 0, 0x10, 0, 0, 0, 0])
TCB_DATE, MODULE_DATE, QE_DATE = "2026-03-01", "2026-02-01", "2026-01-01"
DAY = 24 * 3600
_INTEL = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")
_QE_SVN = 4


def td_body(**changes: bytes) -> bytes:
    """Return a TD 1.0 report, or 1.5 if `tee_tcb_svn2` or `mr_service_td` is among the changes."""
    fields = {
        "tee_tcb_svn": bytes([5, 1, 2]) + bytes(13),
        "mr_seam": b"\x01" * 48,
        "mr_signer_seam": bytes(48),
        "seam_attributes": bytes(8),
        "td_attributes": SEPT_VE_DISABLE,
        "xfam": bytes([0xE7, 2, 6]) + bytes(5),
        "mr_td": b"\x02" * 48,
        "mr_config_id": b"\x03" * 48,
        "mr_owner": b"\x04" * 48,
        "mr_owner_config": b"\x05" * 48,
        "rtmr0": b"\x10" * 48,
        "rtmr1": b"\x11" * 48,
        "rtmr2": b"\x12" * 48,
        "rtmr3": b"\x13" * 48,
        "report_data": hashlib.sha512(b"what it vouches for").digest(),
    }
    newer = {"tee_tcb_svn2": bytes([5, 1, 2]) + bytes(13), "mr_service_td": bytes(48)}
    if not newer.keys() & changes.keys():
        return TD_BODY.pack(*(fields | changes).values())
    *base, svn2, service = (fields | newer | changes).values()
    return TD15_BODY.pack(TD_BODY.pack(*base), svn2, service)


@dataclass(kw_only=True)
class TdxPlatform:
    """A machine whose clock stands still at `now`, Unix time."""

    now: int
    pki: SimulatedPki = field(init=False)

    def __post_init__(self) -> None:
        self.pki = build_pki(ppid=bytes(range(16)), now=dt.datetime.fromtimestamp(self.now, dt.UTC))
        self._attestation_key = ec.generate_private_key(ec.SECP256R1())

    @property
    def root_der(self) -> bytes:
        return self.pki.root.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def root_sha256(self) -> bytes:
        return hashlib.sha256(self.root_der).digest()

    # --- the quote -------------------------------------------------------------------------------

    def quote(
        self,
        body: bytes | None = None,
        *,
        version: int = 4,
        tee_type: int = TDX,
        body_type: int | None = None,
        qe: Mapping[str, int] | None = None,
    ) -> bytes:
        """Return a quote over `body`, signed as its version wants it.

        Args:
            body: a report body; by default a trust domain's.
            version: 3, 4 or 5.
            tee_type: what the header says.
            body_type: what a quote of version 5 says; by default what fits the body.
            qe: `svn`, `product_id` or `flags` of the quoting enclave, where they should differ.
        """
        body = td_body() if body is None else body
        header = struct.pack("<HHIHH16s20s", version, 2, tee_type, 0, 0, _INTEL, bytes(20))
        if version == 5:
            kinds = {SGX_BODY.size: 1, TD_BODY.size: TD10, TD15_BODY.size: TD15}
            kind = kinds[len(body)] if body_type is None else body_type
            header += struct.pack("<HI", kind, len(body))
        material = self._qe_material(qe or {})
        if version > 3:
            material = struct.pack("<HI", 6, len(material)) + material
        data = sign_raw(self._attestation_key, header + body) + self._public + material
        return header + body + struct.pack("<I", len(data)) + data

    @property
    def _public(self) -> bytes:
        numbers = self._attestation_key.public_key().public_numbers()
        return numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")

    def _qe_material(self, changes: Mapping[str, int]) -> bytes:
        qe = {"svn": _QE_SVN, "product_id": 2, "flags": 0x15} | changes
        auth_data = bytes(range(32))
        report = SGX_BODY.pack(
            CPU_SVN,
            0,
            bytes(16),
            struct.pack("<QQ", qe["flags"], 0xE7),
            hashlib.sha256(b"simulated TD quoting enclave code").digest(),
            QE_SIGNER,
            bytes(64),
            qe["product_id"],
            qe["svn"],
            0,
            bytes(16),
            hashlib.sha256(self._public + auth_data).digest() + bytes(32),
        )
        chain = self.pki.pck_chain_pem.encode() + b"\0"
        return (
            report
            + sign_raw(self.pki.pck.key, report)
            + struct.pack("<H", len(auth_data))
            + auth_data
            + struct.pack("<HI", 5, len(chain))
            + chain
        )

    # --- what the vendor says --------------------------------------------------------------------

    def tcb_info(self, status: str = "UpToDate", module_status: str = "UpToDate") -> dict[str, Any]:
        """Return TCB info, version 3, about this platform and TDX modules of version 1."""
        module = {"mrsigner": "00" * 48, "attributes": "00" * 8, "attributesMask": "FF" * 8}
        return {
            "id": "TDX",
            "version": 3,
            "issueDate": stamp(self.now - 3600),
            "nextUpdate": stamp(self.now + 30 * DAY),
            "fmspc": FMSPC.hex().upper(),
            "pceId": PCE_ID.hex(),
            "tcbType": 0,
            "tcbEvaluationDataNumber": 17,
            "tdxModule": module,
            "tdxModuleIdentities": [
                {
                    "id": "TDX_01",
                    **module,
                    "tcbLevels": [level({"isvsvn": 4}, module_status, MODULE_DATE, "INTEL-SA-2")],
                }
            ],
            "tcbLevels": [
                level(
                    {
                        "sgxtcbcomponents": [{"svn": svn} for svn in CPU_SVN],
                        "pcesvn": PCE_SVN,
                        "tdxtcbcomponents": [{"svn": svn} for svn in (5, 0, 2, *bytes(13))],
                    },
                    status,
                    TCB_DATE,
                    "INTEL-SA-1",
                )
            ],
        }

    def qe_identity(self, status: str = "UpToDate") -> dict[str, Any]:
        """Return the identity, version 2, of the quoting enclave for trust domains."""
        return {
            "id": "TD_QE",
            "version": 2,
            "issueDate": stamp(self.now - 7200),
            "nextUpdate": stamp(self.now + 29 * DAY),
            "tcbEvaluationDataNumber": 16,
            "miscselect": "00000000",
            "miscselectMask": "FFFFFFFF",
            "attributes": "11000000000000000000000000000000",
            "attributesMask": "FBFFFFFFFFFFFFFF0000000000000000",
            "mrsigner": QE_SIGNER.hex().upper(),
            "isvprodid": 2,
            "tcbLevels": [level({"isvsvn": _QE_SVN}, status, QE_DATE, "INTEL-SA-3")],
        }

    def collateral(
        self,
        tcb_info: dict[str, Any] | None = None,
        qe_identity: dict[str, Any] | None = None,
        **fields: str,
    ) -> bytes:
        """Return signed collateral; `fields` of its JSON are replaced after it was signed."""
        signed = json.loads(
            build_collateral(
                self.pki, issued=self.now - 3600, expires=self.now + 30 * DAY, qe_signer=QE_SIGNER
            )
        )
        for name, said in (
            ("tcb_info", tcb_info or self.tcb_info()),
            ("qe_identity", qe_identity or self.qe_identity()),
        ):
            text = json.dumps(said)
            signed[name] = text
            signed[f"{name}_signature"] = sign_raw(self.pki.tcb_signing.key, text.encode()).hex()
        return json.dumps(signed | fields).encode()


def level(tcb: dict[str, Any], status: str, date: str, advisory: str) -> dict[str, Any]:
    """Return one TCB level; `advisory` applies to it unless it is up to date."""
    return {
        "tcb": tcb,
        "tcbDate": f"{date}T00:00:00Z",
        "tcbStatus": status,
        "advisoryIDs": [] if status == "UpToDate" else [advisory],
    }


def stamp(unix: int) -> str:
    return dt.datetime.fromtimestamp(unix, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
