# SPDX-License-Identifier: MIT
# mypy: allow-untyped-decorators, disable-error-code="import-not-found,import-untyped"
"""A Flask application as people write it: one route for each thing that a server can get wrong.

What the application saw is said in its responses, or logged with `app.logger`, which writes to `wsgi.errors`.
"""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flask import (
    Flask,
    Response,
    abort,
    current_app,
    jsonify,
    make_response,
    redirect,
    request,
    send_file,
    session,
    stream_with_context,
    url_for,
)
from werkzeug.exceptions import ClientDisconnected
from werkzeug.middleware.proxy_fix import ProxyFix
from whitenoise import WhiteNoise

if TYPE_CHECKING:
    from collections.abc import Iterator

PIECE = b"0123456789abcdef" * 1024


def create_app(name: str = "shop", *, debug: bool = False) -> Flask:
    """Return the application; its folder of files is the variable SHOP_FILES."""
    app = Flask(name)
    app.config.update(SECRET_KEY="for tests only", SHOP_DEBUG=debug)
    for blueprint in (forms, streams, bodies, files, errors):
        blueprint(app)
    return app


def forms(app: Flask) -> None:
    """Register what browsers do all day: forms, cookies, sessions, redirects."""

    @app.get("/")
    def home() -> Any:
        return jsonify(pid=os.getpid(), name=current_app.name, debug=current_app.config["SHOP_DEBUG"])

    @app.post("/form")
    def form() -> Any:
        return jsonify(request.form.to_dict(flat=False))

    @app.post("/json")
    def json() -> Any:
        return jsonify(request.get_json())

    @app.get("/cookie")
    def cookie() -> Any:
        response = make_response(request.cookies.get("basket", "none"))
        response.set_cookie("basket", "tea & cake", httponly=True, samesite="Lax")
        response.set_cookie("seen", "1")
        return response

    @app.post("/login")
    def login() -> Any:
        session["user"] = request.form["user"]
        return redirect(url_for("whoami"))

    @app.get("/whoami")
    def whoami() -> Any:
        return session.get("user", "nobody")

    @app.get("/where")
    @app.get("/where/<path:rest>")
    def where(rest: str = "") -> Any:
        return jsonify(
            scheme=request.scheme,
            host=request.host,
            root=request.script_root,
            path=request.path,
            rest=rest,
            query=request.query_string.decode(),
            peer=request.remote_addr,
            url=url_for("whoami", _external=True),
        )


def streams(app: Flask) -> None:
    """Register responses whose length nobody knows before their end."""

    @app.get("/stream")
    def stream() -> Any:
        def rows() -> Iterator[str]:
            for number in range(request.args.get("rows", 3, type=int)):
                yield f"{request.args['word']} {number}\n"

        return Response(stream_with_context(rows()), mimetype="text/plain")

    @app.get("/dialogue")
    def dialogue() -> Any:
        answered = Path(os.environ["SHOP_FILES"], request.args["client"])

        def rows() -> Iterator[str]:
            yield f"{os.getpid()}\n"
            deadline = time.monotonic() + 20
            while not answered.exists() and time.monotonic() < deadline:
                time.sleep(0.01)
            yield "answered\n" if answered.exists() else "nobody answered\n"

        return Response(rows(), mimetype="text/plain")

    @app.get("/breaks")
    def breaks() -> Any:
        def rows() -> Iterator[str]:
            yield "one\n"
            if request.args["by"] == "abort":
                abort(503)
            raise RuntimeError("the shelf fell down")

        return Response(stream_with_context(rows()), mimetype="text/plain")

    @app.get("/endless")
    def endless() -> Any:
        def pieces() -> Iterator[bytes]:
            try:
                while True:
                    yield PIECE
            finally:
                app.logger.error("endless: closed for %s", request.args["client"])

        return Response(stream_with_context(pieces()), mimetype="application/octet-stream")


def bodies(app: Flask) -> None:
    """Register readers of request bodies."""

    @app.post("/upload")
    def upload() -> Any:
        found = request.files["file"]
        content = found.stream.read()
        return jsonify(
            name=found.filename,
            type=found.content_type,
            size=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
            note=request.form["note"],
        )

    @app.post("/raw")
    def raw() -> Any:
        digest, size = hashlib.sha256(), 0
        while piece := request.stream.read(10_000):
            digest.update(piece)
            size += len(piece)
        return jsonify(size=size, sha256=digest.hexdigest(), length=request.content_length)

    @app.post("/patient")
    def patient() -> Any:
        if "limit" in request.args:
            # With a limit Werkzeug wraps the server's stream, and turns its errors into its own.
            request.max_content_length = request.args.get("limit", type=int)
        try:
            request.get_data()
        except (ClientDisconnected, OSError) as error:
            seen = "ClientDisconnected" if isinstance(error, ClientDisconnected) else "OSError"
            app.logger.error("patient: %s for %s", seen, request.args["client"])  # noqa: TRY400
            raise
        return "all there"

    @app.post("/impatient")
    def impatient() -> Any:
        return "no, thanks", 413


def files(app: Flask) -> None:
    """Register downloads."""

    @app.get("/file/<name>")
    def file(name: str) -> Any:
        return send_file(Path(os.environ["SHOP_FILES"], name), conditional=True, max_age=60)

    @app.get("/attachment/<name>")
    def attachment(name: str) -> Any:
        path = Path(os.environ["SHOP_FILES"], name)
        return send_file(path, as_attachment=True, download_name="Käse.bin")


def errors(app: Flask) -> None:
    """Register error handlers, and what they are for."""

    @app.errorhandler(404)
    def missing(_error: Exception) -> Any:
        return jsonify(error="no such shelf"), 404

    @app.errorhandler(ZeroDivisionError)
    def divided(_error: Exception) -> Any:
        return "handled", 500

    @app.get("/divide")
    def divide() -> Any:
        return str(1 // 0)

    @app.get("/boom")
    def boom() -> Any:
        raise RuntimeError("boom for the log")

    @app.get("/teapot")
    def teapot() -> Any:
        abort(418)

    @app.delete("/nothing")
    def nothing() -> Any:
        return "", 204


app = create_app()

proxied: Any = create_app("proxied")
proxied.wsgi_app = ProxyFix(proxied.wsgi_app, x_for=1, x_proto=1, x_host=1, x_prefix=1)

with_static: Any = create_app("with_static")
with_static.wsgi_app = WhiteNoise(with_static.wsgi_app, root=os.environ.get("SHOP_FILES"), prefix="static/")
