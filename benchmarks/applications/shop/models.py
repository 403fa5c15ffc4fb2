# SPDX-License-Identifier: MIT
"""Makers, what they make, and who bought it."""

from __future__ import annotations

from django.db import models


class Maker(models.Model):
    """Who makes items."""

    name = models.CharField(max_length=100)
    country = models.CharField(max_length=2)

    def __str__(self) -> str:
        return self.name


class Item(models.Model):
    """What is sold."""

    maker = models.ForeignKey(Maker, models.CASCADE, related_name="items")
    name = models.CharField(max_length=100)
    about = models.TextField(blank=True)
    price = models.DecimalField(max_digits=8, decimal_places=2)
    added = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.name


class Order(models.Model):
    """What was bought."""

    items = models.ManyToManyField(Item, related_name="orders")
    customer = models.EmailField()
    paid = models.BooleanField(default=False)
    placed = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.customer
