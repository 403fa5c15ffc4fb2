# SPDX-License-Identifier: MIT
"""Makes the database, with some of everything: `python -m shop.prepare`."""

from __future__ import annotations

import os
from decimal import Decimal

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
django.setup()

from django.contrib.auth.models import User  # noqa: E402 - not before setup()
from django.core.management import call_command  # noqa: E402

from shop.models import Item, Maker, Order  # noqa: E402

call_command("migrate", run_syncdb=True, verbosity=0)
User.objects.create_superuser("clerk")
makers = [Maker.objects.create(name=f"Maker {n}", country="NO") for n in range(5)]
Item.objects.bulk_create(
    Item(maker=makers[n % 5], name=f"Item <{n}>", about="of wood", price=Decimal(n)) for n in range(100)
)
for n in range(20):
    Order.objects.create(customer=f"{n}@example.org").items.set(Item.objects.all()[n : n + 3])
