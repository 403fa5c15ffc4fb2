# SPDX-License-Identifier: MIT
"""What the admin shows."""

from __future__ import annotations

from django.contrib import admin

from shop.models import Item, Maker, Order


@admin.register(Item)
class ItemAdmin(admin.ModelAdmin):
    """Items, to be searched and filtered."""

    list_display = ("name", "maker", "price", "added")
    list_filter = ("maker",)
    search_fields = ("name",)


admin.site.register([Maker, Order])
