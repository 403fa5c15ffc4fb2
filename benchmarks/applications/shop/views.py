# SPDX-License-Identifier: MIT
"""Pages of the shop: a list, one item, a search, figures, a form."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from django import forms
from django.contrib.auth.models import User
from django.core.paginator import Paginator
from django.db.models import Avg, Count, Q
from django.http import HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, render

from shop.models import Item, Maker, Order

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest


def known(answer: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """Return middleware: whoever asks in the admin is logged in, and each answer names its process."""

    def named(request: HttpRequest) -> HttpResponse:
        if request.path.startswith("/admin/") and not request.path.startswith("/admin/login/"):
            request.user = User.objects.get(username="clerk")
        response = answer(request)
        response["X-Process"] = str(os.getpid())
        return response

    return named


class Question(forms.Form):
    """A search."""

    q = forms.CharField(max_length=50, required=False)
    most = forms.DecimalField(required=False, min_value=0)


def count(_request: HttpRequest) -> HttpResponse:
    """Answer one number as JSON."""
    return JsonResponse({"items": Item.objects.count()})


def index(request: HttpRequest) -> HttpResponse:
    """Show a page of the catalogue."""
    items = Item.objects.select_related("maker").order_by("name")
    return render(request, "index.html", {"page": Paginator(items, 20).get_page(request.GET.get("page"))})


def item(request: HttpRequest, number: int) -> HttpResponse:
    """Show an item, and others of its maker."""
    found = get_object_or_404(Item.objects.select_related("maker"), pk=number)
    others = found.maker.items.exclude(pk=number)[:5]
    return render(request, "item.html", {"item": found, "others": others})


def search(request: HttpRequest) -> HttpResponse:
    """Show a form, and what is found with it."""
    form = Question(request.GET or None)
    found = Item.objects.none()
    if form.is_valid():
        found = Item.objects.filter(Q(name__icontains=form.cleaned_data["q"]) | Q(about=""))
        if form.cleaned_data["most"] is not None:
            found = found.filter(price__lte=form.cleaned_data["most"])
    return render(request, "search.html", {"form": form, "found": found.select_related("maker")[:20]})


def figures(_request: HttpRequest) -> HttpResponse:
    """Answer sums as JSON."""
    makers = Maker.objects.annotate(count=Count("items"), price=Avg("items__price")).order_by("-count")
    return JsonResponse(
        {
            "makers": [{"name": m.name, "items": m.count, "price": m.price} for m in makers],
            "open": Order.objects.filter(paid=False).prefetch_related("items").count(),
        }
    )
