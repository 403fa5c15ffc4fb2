# SPDX-License-Identifier: MIT
"""Where everything is."""

from __future__ import annotations

from django.contrib import admin
from django.urls import path

from shop import views

urlpatterns = [
    path("", views.index),
    path("items/<int:number>", views.item),
    path("search", views.search),
    path("figures", views.figures),
    path("count", views.count),
    path("admin/", admin.site.urls),
]
