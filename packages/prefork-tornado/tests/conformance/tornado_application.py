# SPDX-License-Identifier: MIT
"""The application under test, by handlers of Tornado."""

from __future__ import annotations

import asyncio
import sys

import tornado.web

from prefork.trial import answers


class Answers(tornado.web.RequestHandler):
    """Answers as `prefork.trial.answers` says."""

    async def get(self, path: str) -> None:
        self.set_header("Content-Type", "text/plain")
        does, argument = answers.part(path)
        if does == "stream":
            self.write(b"first\n")
            await self.flush()
            await hold(argument)
            self.write(b"last\n")
        elif does == "empty":
            self.set_status(204)
        else:
            self.write(await self._body(path, does, argument))

    head = post = put = get

    async def _body(self, path: str, does: str, argument: str) -> bytes:
        if does == "raise":
            raise answers.RaisedOnPurpose(path)
        if does == "exit":
            sys.exit(3)
        if does == "echo":
            return self.request.body
        if does == "big":
            return b"x" * int(argument)
        if does == "block":
            answers.block(argument)
        if does == "hold":
            await hold(argument)
        return answers.line(path)


async def hold(name: str) -> None:
    """Wait until the test lets go."""
    answers.begin(name)
    while not answers.is_released(name):  # noqa: ASYNC110 (a file is made by another process)
        await asyncio.sleep(answers.PAUSE)


app = tornado.web.Application([("(.*)", Answers)])
