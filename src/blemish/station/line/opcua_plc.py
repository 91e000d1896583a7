"""The other end of the OPC UA line: a PLC."""

import asyncio
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from blemish.station.line.driver import LineOutputs
from blemish.station.line.machine import PlcSignals
from blemish.station.line.opcua_nodes import LINE, MACHINE_VISION, OK


class OpcUaPlcWire:
    """A PLC's access to a station by OPC UA, with the signals of the other wires; connects again by itself."""

    def __init__(self, url: str, user: str, password: str, keys: Path, timeout_s: float = 0.5) -> None:
        self._url, self._user, self._password, self._keys = url, user, password, keys
        self._timeout_s = timeout_s
        self._loop = asyncio.new_event_loop()
        self._client: Any = None
        self._nodes: dict[str, Any] = {}
        self._asked: str | None = None  # the job id of the request that stands
        self._number = (0, 0)  # the PLC's own number, and the station's
        self._before = PlcSignals()

    def exchange(self, signals: PlcSignals) -> LineOutputs:
        try:
            return self._loop.run_until_complete(self._exchange(signals))
        except Exception as error:
            with suppress(Exception):
                self._loop.run_until_complete(asyncio.wait_for(self._drop(), 1))
            raise ConnectionError(str(error)) from error

    async def _exchange(self, signals: PlcSignals) -> LineOutputs:
        from asyncua import ua

        if self._client is None:
            await self._connect()
        nodes = self._nodes
        await nodes["PlcHeartbeat"].write_value(ua.Variant(signals.heartbeat, ua.VariantType.UInt16))
        if signals.request and not self._before.request:
            values = ("", signals.part_id, f"{signals.recipe or ''}", "", "")
            job, error = await nodes["automatic"].call_method(nodes["StartSingleJob"], *values)
            if error == OK:
                self._asked, self._number = job, (signals.number, int(job))
        elif self._before.request and not signals.request and self._asked is not None:
            await nodes["line"].call_method(nodes["Acknowledge"], self._asked)
            self._asked = None
        if signals.reset:
            await nodes["machine"].call_method(nodes["Reset"], "")
        self._before = signals
        own = LineOutputs(*await nodes["Outputs"].read_value())
        number = self._number[0] if own.number == self._number[1] else 0
        return replace(own, number=number)

    async def _connect(self) -> None:
        from asyncua import Client
        from asyncua.crypto.cert_gen import setup_self_signed_certificate
        from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256
        from cryptography.x509.oid import ExtendedKeyUsageOID

        client = Client(self._url, timeout=self._timeout_s if self._nodes else 10)
        client.application_uri = "urn:blemish:plc"
        key, certificate = self._keys / "plc-key.pem", self._keys / "plc-certificate.der"
        await setup_self_signed_certificate(
            key, certificate, client.application_uri, "localhost", [ExtendedKeyUsageOID.CLIENT_AUTH],
            {"commonName": "PLC"},
        )  # fmt: skip
        await client.set_security(SecurityPolicyBasic256Sha256, certificate, key)
        client.set_user(self._user)
        client.set_password(self._password)
        await client.connect()
        self._client = client
        own, vision = [await client.get_namespace_index(uri) for uri in (LINE, MACHINE_VISION)]
        path = {
            "line": [f"{own}:Line"],
            "Outputs": [f"{own}:Line", f"{own}:Outputs"],
            "PlcHeartbeat": [f"{own}:Line", f"{own}:PlcHeartbeat"],
            "Acknowledge": [f"{own}:Line", f"{own}:Acknowledge"],
            "machine": [f"{vision}:VisionStateMachine"],
            "Reset": [f"{vision}:VisionStateMachine", f"{vision}:Reset"],
            "automatic": [f"{vision}:VisionStateMachine", f"{vision}:AutomaticModeStateMachine"],
        }
        path["StartSingleJob"] = [*path["automatic"], f"{vision}:StartSingleJob"]
        system = await client.nodes.objects.get_child(f"{own}:VisionSystem")
        self._nodes = {name: await system.get_child(steps) for name, steps in path.items()}

    async def _drop(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.disconnect()

    def close(self) -> None:
        with suppress(Exception):
            self._loop.run_until_complete(asyncio.wait_for(self._drop(), 5))
        self._loop.close()
