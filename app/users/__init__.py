"""Accounts: registration, profiles and the people behind them."""
