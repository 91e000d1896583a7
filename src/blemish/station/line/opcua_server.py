"""The OPC UA server of a line: signed, encrypted, and open to the station's users alone, as long as they are such."""

import logging
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from blemish.errors import BlemishError
from blemish.station.line.transport import LineContext, PresentRole, SignIn

log = logging.getLogger("blemish.station")
SIGN_IN_S = 1.5  # the server stands still meanwhile, and the watchdog of a PLC must not notice
_MAY_START = ("line", "engineer", "admin")


async def make_server(address: tuple[str, int], context: LineContext) -> Any:
    from asyncua import Server, ua
    from asyncua.crypto.cert_gen import setup_self_signed_certificate
    from cryptography.x509.oid import ExtendedKeyUsageOID

    server = Server(_internal_server(_Users(context.sign_in)))
    await server.init()
    server.set_endpoint(f"opc.tcp://{address[0]}:{address[1]}/blemish")
    server.set_server_name("blemish")
    uri = "urn:blemish:station"
    await server.set_application_uri(uri)
    key, certificate = context.folder / "opcua-key.pem", context.folder / "opcua-certificate.der"
    usage = [ExtendedKeyUsageOID.SERVER_AUTH]
    await setup_self_signed_certificate(key, certificate, uri, address[0], usage, {"commonName": "blemish station"})
    key.chmod(0o600)
    await server.load_certificate(certificate)
    await server.load_private_key(key)
    policies = [
        ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt,
        ua.SecurityPolicyType.Aes256Sha256RsaPss_SignAndEncrypt,
    ]
    server.set_security_policy(policies, permission_ruleset=_rules())
    server.set_identity_tokens([ua.UserNameIdentityToken])
    return server


def _internal_server(users: "_Users") -> Any:
    """A server that knows from where a user signs in, which asyncua does not tell the users.

    It decrypts a password, and asks for the user in the next line, without giving way to another client.
    """
    from asyncua.server.internal_server import InternalServer

    class PeerServer(InternalServer):  # type: ignore[misc]
        peer = ""

        def decrypt_user_token(self, isession: Any, token: Any) -> Any:
            self.peer = str(isession.name[0]) if isinstance(isession.name, tuple) else ""
            return super().decrypt_user_token(isession, token)

    return PeerServer(user_manager=users)


class _Users:
    """The station's users, for asyncua, which asks on its event loop, where no query may run: a thread answers."""

    def __init__(self, sign_in: SignIn) -> None:
        self._sign_in = sign_in
        self._pool = ThreadPoolExecutor(1, "blemish-opcua-sign-in")
        self._running: Future[PresentRole] | None = None

    def get_user(self, iserver: Any, username: str | None = None, password: Any = None, certificate: Any = None) -> Any:
        """None where the sign-in is wrong, or too early after others. Raises ServiceError where nobody can tell now."""
        from asyncua import ua
        from asyncua.common.utils import ServiceError
        from asyncua.crypto.permission_rules import User, UserRole

        if self._running is not None and not self._running.done():
            raise ServiceError(ua.StatusCodes.BadTooManyOperations)
        text = password.decode("utf-8", "replace") if isinstance(password, bytes) else password or ""
        self._running = self._pool.submit(self._sign_in, username or "", text, iserver.peer)
        try:
            present_role = self._running.result(SIGN_IN_S)
        except TimeoutError:
            raise ServiceError(ua.StatusCodes.BadTimeout) from None
        except BlemishError as error:
            log.warning("OPC UA: %s", error)
            return None
        except Exception as error:
            log.exception("OPC UA: a user could not be looked up")
            raise ServiceError(ua.StatusCodes.BadResourceUnavailable) from error
        user = User(role=UserRole.User, name=username)
        user.present_role = present_role
        return user


def _rules() -> Any:
    from asyncua import ua
    from asyncua.crypto.permission_rules import SimpleRoleRuleset

    changes = (
        ua.ObjectIds.CallRequest_Encoding_DefaultBinary,
        ua.ObjectIds.WriteRequest_Encoding_DefaultBinary,
    )
    starting = {ua.NodeId(number) for number in changes}

    class Rules(SimpleRoleRuleset):  # type: ignore[misc]
        """By the role that the user has in the station now; nobody may change the address space."""

        def check_validity(self, user: Any, action_type_id: Any, body: Any) -> bool:
            role = user.present_role() if hasattr(user, "present_role") else None  # None: not signed in, or revoked
            if role is None or (action_type_id in starting and role not in _MAY_START):
                return False
            return bool(super().check_validity(user, action_type_id, body))

    return Rules()
