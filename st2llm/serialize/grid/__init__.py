"""Grids as text: variables of the templates, coarse tables, answers by region."""
