# SPDX-License-Identifier: MIT
# mypy: disable-error-code="import-not-found,import-untyped"
"""Where everything is."""

from __future__ import annotations

from django.contrib import admin
from django.urls import path

from django_shop import views

urlpatterns = [
    path("admin/", admin.site.urls),
    path("where/", views.where),
    path("upload/", views.upload),
    path("body/", views.body),
    path("download/<str:name>", views.download),
    path("rows/", views.rows),
    path("nothing/", views.nothing),
    path("unchanged/", views.unchanged),
    path("cached/", views.cached),
    path("database/", views.database),
    path("boom/", views.boom),
]
