# SPDX-License-Identifier: MIT
# mypy: allow-untyped-decorators, disable-error-code="import-not-found,import-untyped"
"""Flask applications that talk over WebSockets: with Flask-Sock, and with Socket.IO in threading mode."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from flask import Flask, request
from flask_sock import Sock
from flask_socketio import SocketIO, emit

if TYPE_CHECKING:
    from simple_websocket import Server

sock_app = Flask("sock")
sock_app.config["SOCK_SERVER_OPTIONS"] = {"ping_interval": float(os.environ.get("PING", "0")) or None}
sock = Sock(sock_app)


@sock.route("/echo")
def echo(ws: Server) -> None:
    """Send back what is received, until somebody goes, or is told to."""
    while (message := ws.receive()) != "that is all":
        ws.send(message)


@sock.route("/fail")
def fail(ws: Server) -> None:
    """Fail after one message."""
    raise ValueError(ws.receive())


@sock_app.get("/ready")
@sock_app.get("/plain")
def plain() -> str:
    """Answer as ever, with the worker's pid."""
    return str(os.getpid())


socketio_app = Flask("socketio")
socketio = SocketIO(socketio_app, async_mode="threading")


@socketio.on("shout")
def shout(words: str) -> str:
    """Answer the one, and tell all; return which transport it was."""
    emit("shouted", words.upper(), broadcast=True)
    transport: Any = socketio.server.transport(request.sid)
    return str(transport)


socketio_app.get("/ready")(plain)
