"""Sign-in codes and sessions in the store, hashed, so that every worker takes them and none can be read back."""

import hashlib
import secrets
import time

from sqlalchemy import delete, insert, select

from asgi_llmobs.auth import Role, role_of
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.tables import SignInRow

__all__ = ["LINK_SECONDS", "SESSION_SECONDS", "SignIns"]

LINK_SECONDS = 600
SESSION_SECONDS = 12 * 3600
SECOND = 1_000_000_000
LONGEST = 200  # characters of a code or cookie that are looked at at all

rows = SignInRow.__table__  # type: ignore[attr-defined]


def kept(kind: str, text: str, credential: bytes) -> str:
    """What of a code or a cookie is stored. It hangs on the credential that it was made with."""
    return hashlib.sha256(b"\0".join((kind.encode(), credential, text.encode("utf-8", "surrogatepass")))).hexdigest()


class SignIns:
    """Codes that work once and sessions that last twelve hours. Blocking: call it from a thread."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def issue(self, credential: bytes) -> str:
        """A new code, valid for ten minutes."""
        code = secrets.token_urlsafe(24)
        self._add(kept("code", code, credential), Role.OWNER, LINK_SECONDS)
        return code

    def redeem(self, code: str, credential: bytes) -> bool:
        """Whether *code* is valid; from then on it is not. Of two that try at once one succeeds."""
        return len(code) <= LONGEST and self._remove(kept("code", code, credential))

    def start(self, role: Role, credential: bytes) -> str:
        """A new session: the value for its cookie."""
        value = secrets.token_urlsafe(32)
        self._add(kept("session", value, credential), role, SESSION_SECONDS)
        return value

    def role(self, value: str, credential: bytes) -> Role | None:
        """The role of the session, ``None`` where there is none or it has ended."""
        if len(value) > LONGEST:
            return None
        with self.database.read(fresh=True) as connection:
            found = connection.execute(
                select(rows.c.role).where(
                    rows.c.hash == kept("session", value, credential), rows.c.expires_ns > time.time_ns()
                )
            ).scalar_one_or_none()
        return role_of(found)

    def end(self, value: str, credential: bytes) -> None:
        """End the session."""
        if len(value) <= LONGEST:
            self._remove(kept("session", value, credential))

    def _add(self, hash: str, role: Role, seconds: int) -> None:
        now = time.time_ns()
        with self.database.write() as connection:
            connection.execute(delete(rows).where(rows.c.expires_ns <= now))
            connection.execute(insert(rows).values(hash=hash, role=role.value, expires_ns=now + seconds * SECOND))

    def _remove(self, hash: str) -> bool:
        with self.database.write() as connection:
            gone = connection.execute(delete(rows).where(rows.c.hash == hash, rows.c.expires_ns > time.time_ns()))
        return gone.rowcount == 1
