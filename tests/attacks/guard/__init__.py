"""Attacks on the guard: small requests that cost the server much, and messages that ask for what nobody may."""
