"""Who answers at the address of a Ray cluster, and whether it asks for a token: told at once, which Ray does not."""

from __future__ import annotations

import os
import re
from contextlib import closing
from enum import Enum

import grpc
from ray._common.tls_utils import load_certs_from_env
from ray._private import services
from ray._raylet import AuthenticationTokenLoader  # type: ignore[attr-defined]  # compiled

from fedrevive.runtime.private_session import LOCATION, MODE, VALUE, require_token_mode
from fedrevive.settings.errors import UserError, shown

AUTO = "auto"
VARIABLE = "RAY_ADDRESS"
ANSWER_SECONDS = 10.0
_HOST_AND_PORT = re.compile(r"[\w.-]+:\d{1,5}|\[[0-9a-fA-F:]+\]:\d{1,5}")
_QUESTION = "/ray.rpc.NodeInfoGcsService/GetAllNodeInfo"


class Answer(Enum):
    """What a call gets."""

    SERVED = "served"
    REFUSED = "refused"
    """For want of a token."""
    NONE = "none"


def require_cluster(asked: str) -> str:
    """`host:port` of the cluster that `--address` names, once it has let us in.

    Raises:
        UserError: exit code 2, the address is none, nothing answers there, or the token is missing, wrong or not
            asked for.
    """
    require_token_mode()
    address = _resolved(asked)
    token = AuthenticationTokenLoader.instance().get_raw_token(ignore_auth_mode=True)
    found = answer(address, token)
    if found is Answer.NONE:
        raise UserError(
            f"--address: nothing answers at {address}; is the cluster up, and its port within reach?"
        )
    if found is Answer.REFUSED:
        what = "does not take your token" if token else "asks for a token, and you have none"
        raise UserError(
            f"--address: the cluster at {address} {what}; put the cluster's into a file, {LOCATION}=FILE"
        )
    if answer(address, None) is Answer.SERVED:
        raise UserError(
            f"--address: the cluster at {address} asks nobody for a token, so whoever reaches it runs code there; "
            f"start its nodes with {MODE}=token and {VALUE} or {LOCATION}"
        )
    return address


def answer(address: str, token: str | None) -> Answer:
    """What the cluster's head says to somebody with this token."""
    metadata = [("authorization", f"Bearer {token}")] if token else []
    with closing(_channel(address)) as channel:
        try:
            channel.unary_unary(_QUESTION)(b"", timeout=ANSWER_SECONDS, metadata=metadata)
        except grpc.RpcError as error:
            return Answer.REFUSED if error.code() is grpc.StatusCode.UNAUTHENTICATED else Answer.NONE
    return Answer.SERVED


def _channel(address: str) -> grpc.Channel:
    options = [("grpc.enable_http_proxy", 0)]
    if os.environ.get("RAY_USE_TLS", "0").lower() not in ("1", "true"):
        return grpc.insecure_channel(address, options)
    certificate, key, authority = load_certs_from_env()  # type: ignore[no-untyped-call]
    credentials = grpc.ssl_channel_credentials(authority, key, certificate)
    return grpc.secure_channel(address, credentials, options)


def _resolved(asked: str) -> str:
    address = asked
    if asked == AUTO:
        try:
            address = services.get_ray_address_from_environment(AUTO, None)
        except ConnectionError:
            raise UserError(
                f"--address: auto finds no Ray on this machine; give the head's host:port, or set {VARIABLE}"
            ) from None
    if not _HOST_AND_PORT.fullmatch(address):
        hint = "Ray Client is not supported; " if address.startswith("ray://") else ""
        raise UserError(
            f"--address: {shown(address)} is no host:port such as 10.0.0.1:6379; {hint}run the command in the cluster, "
            "or use --submit"
        )
    canonical = services.canonicalize_bootstrap_address(
        address
    )  # this machine's name for itself, as Ray sees it
    assert canonical is not None
    return canonical
