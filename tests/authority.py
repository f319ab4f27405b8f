"""Certificates for tests, as the files that servers and clients name."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme


class Authority:
    """One that issues certificates.

    Attributes:
        ca: the file of its own.
    """

    def __init__(self, folder: Path, name: str | None = None) -> None:
        self._folder = folder
        self._ca = trustme.CA(organization_unit_name=name)
        self._issued = 0
        folder.mkdir(exist_ok=True)
        self.ca = folder / "ca.pem"
        self._ca.cert_pem.write_to_path(self.ca)

    def issue(
        self, *names: str, common_name: str | None = None, valid: tuple[float, float] = (-1, 90)
    ) -> dict[str, Path]:
        """The files of a new certificate, which is valid from so many days from now until so many."""
        begins, ends = (datetime.now(UTC) + timedelta(days=days) for days in valid)
        issued = self._ca.issue_cert(*names, common_name=common_name, not_before=begins, not_after=ends)
        self._issued += 1
        certificate, key = (self._folder / f"{self._issued}.{ending}" for ending in ("pem", "key"))
        certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(key)
        return {"certificate": certificate, "key": key}
