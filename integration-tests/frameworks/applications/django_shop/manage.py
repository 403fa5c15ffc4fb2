# SPDX-License-Identifier: MIT
# mypy: disable-error-code="import-not-found,import-untyped"
"""Prepares the folder SHOP_FOLDER as a deployment does: tables, an administrator, static files."""

from __future__ import annotations

import os

import django
from django.core.management import call_command

USER, PASSWORD = "ada", "correct horse"


def main() -> None:
    """Prepare the folder."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "django_shop.settings"
    os.environ["DJANGO_SUPERUSER_PASSWORD"] = PASSWORD
    django.setup()
    call_command("migrate", verbosity=0)
    call_command("createsuperuser", interactive=False, username=USER, email="ada@shop.example", verbosity=0)
    call_command("collectstatic", interactive=False, verbosity=0)


if __name__ == "__main__":
    main()
