"""`garrison keys`: make, issue, list, revoke and rotate what lets clients in."""

import argparse
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from garrison.cli.options import add_command, add_config, add_json, add_state, escape, find_config
from garrison.errors import EXIT_OK

if TYPE_CHECKING:
    from garrison.gateway.ledger import Issued, Revoked
    from garrison.gateway.rotation import SigningKey

NEXT = "a gateway beside `garrison serve` knows within seconds; elsewhere run `garrison gateway render` again"


def add_commands(commands: Any) -> None:
    """Add the commands of this part."""
    summary = "Make, issue, list, revoke and rotate client keys."
    keys = commands.add_parser("keys", help=summary, description=summary)
    actions = keys.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for add in (_add_init, _add_issue, _add_list, _add_revoke, _add_rotate):
        parser = add(actions)
        add_state(parser)
        add_json(parser)


def keys_init(options: argparse.Namespace) -> int:
    """Make the key pair that signs client keys."""
    from garrison.gateway.keys import init_keys

    directory = find_keys(options)
    key_id = init_keys(directory)
    if options.json:
        print(json.dumps({"directory": str(directory), "key_id": key_id}))
    else:
        print(f"made {directory} ({key_id})")
    return EXIT_OK


def keys_issue(options: argparse.Namespace) -> int:
    """Issue a key for one client."""
    from garrison.gateway.clients import choose_scopes
    from garrison.gateway.keys import issue_key, parse_duration

    clients = find_config(options) / "clients.yaml"
    scopes = choose_scopes(clients, options.client, _split(options.models), _split(options.verbs))
    key = issue_key(find_keys(options), options.client, scopes, parse_duration(options.expires))
    record = key.record
    if options.json:
        print(json.dumps({"key": key.token, **_describe(record)}))
        return EXIT_OK
    print(key.token)
    until = f"{record.expires_at:%Y-%m-%d %H:%M} UTC"
    print(f"key {record.key_id} for {record.client}: {' '.join(record.scopes)}, until {until}", file=sys.stderr)
    return EXIT_OK


def keys_list(options: argparse.Namespace) -> int:
    """Show which keys were issued, and whether they still work."""
    from garrison.gateway.keys import revoked_keys
    from garrison.gateway.ledger import read_issued
    from garrison.gateway.rotation import list_signing_keys

    directory, now = find_keys(options), datetime.now(UTC)
    signing = list_signing_keys(directory, now)
    revoked = {one.key_id: one for one in revoked_keys(directory)}
    issued = [one for one in read_issued(directory) if options.client in ("", one.client)]
    for one in issued:
        state = _find_state(one, revoked.get(one.key_id), signing, now)
        if state == "in force" or options.all:
            _show(one, state, revoked.get(one.key_id), as_json=options.json)
    if not options.json:
        if options.client and not issued:
            print(f"no key was issued here for {escape(options.client)!r}", file=sys.stderr)
        print(_tell_signing(signing), file=sys.stderr)
    return EXIT_OK


def keys_revoke(options: argparse.Namespace) -> int:
    """Take keys back."""
    from garrison.gateway.revocation import revoke_keys

    added = revoke_keys(find_keys(options), options.ids, options.client, options.reason, unlisted=options.unlisted)
    for one in added:
        if options.json:
            print(json.dumps({"revoked": one.key_id, "client": one.client, "expires_at": one.expires_at.isoformat()}))
        else:
            print(f"revoked {one.key_id}" + (f" of {one.client}" if one.client else ""))
    told = NEXT if added else "nothing to do: they were revoked before, or have expired"
    print(f"garrison: {told}", file=sys.stderr)
    return EXIT_OK


def keys_rotate(options: argparse.Namespace) -> int:
    """Make a new signing pair, or take an earlier one out."""
    from garrison.gateway.rotation import list_signing_keys, retire_key, rotate_keys

    directory = find_keys(options)
    if options.retire:
        gone = retire_key(directory, options.retire)
        signing = list_signing_keys(directory)
        lost = f"keys that it signed work no more ({gone.unexpired} unexpired)"
        told = f"{gone.key_id} is taken out; {lost}: issue them anew"
    else:
        signing = rotate_keys(directory)
        told = f"{signing[0].key_id} signs from now on; wait until the gateway knows it before you issue keys"
    if options.json:
        for one in signing:
            ends_at = one.ends_at.isoformat() if one.ends_at else None
            print(json.dumps({"signing_key": one.key_id, "ends_at": ends_at, "unexpired": one.unexpired}))
    else:
        print(_tell_signing(signing))
    print(f"garrison: {told}; {NEXT}", file=sys.stderr)
    return EXIT_OK


def find_keys(options: argparse.Namespace) -> Path:
    """Return the directory of the keys."""
    directory: Path = options.state / "keys"
    return directory


def _split(text: str) -> tuple[str, ...]:
    """Return the names of a list with commas, each once."""
    names = (name.strip() for name in text.split(","))
    return tuple(dict.fromkeys(name for name in names if name))


def _describe(record: "Issued") -> dict[str, Any]:
    return {
        "key_id": record.key_id,
        "client": record.client,
        "scopes": record.scopes,
        "issued_at": record.issued_at.isoformat(),
        "expires_at": record.expires_at.isoformat(),
        "signed_by": record.signed_by,
    }


def _find_state(one: "Issued", revoked: "Revoked | None", signing: Sequence["SigningKey"], now: datetime) -> str:
    if one.expires_at <= now:
        return "expired"
    if revoked is not None:
        return "revoked"
    return "in force" if one.signed_by in {pair.key_id for pair in signing} else "signing key taken out"


def _show(one: "Issued", state: str, revoked: "Revoked | None", *, as_json: bool) -> None:
    if as_json:
        more = {"revoked_at": revoked.revoked_at.isoformat(), "reason": revoked.reason} if revoked else {}
        print(json.dumps({**_describe(one), "state": state, **more}))
        return
    reason = f" ({revoked.reason})" if revoked and revoked.reason else ""
    until = f"until {one.expires_at:%Y-%m-%d %H:%M} UTC"
    print(escape(f"{one.key_id}  {one.client}  {state}{reason}  {until}  {' '.join(one.scopes)}"))


def _tell_signing(signing: Sequence["SigningKey"]) -> str:
    lines = []
    for one in signing:
        what = "signs now" if one.ends_at is None else f"until {one.ends_at:%Y-%m-%d %H:%M} UTC"
        lines.append(f"signing key {one.key_id}: {what}; unexpired keys: {one.unexpired}")
    return "\n".join(lines)


def _add_init(actions: Any) -> argparse.ArgumentParser:
    return add_command(actions, "init", keys_init, "Make the key pair that signs client keys.", "garrison keys init")


def _add_issue(actions: Any) -> argparse.ArgumentParser:
    example = "garrison keys issue demo --models digits --verbs predict --expires 90d"
    issue = add_command(actions, "issue", keys_issue, "Issue a key: for one client, some models, some time.", example)
    issue.add_argument("client", help="a client that config/clients.yaml lists")
    issue.add_argument("--models", required=True, metavar="NAME,NAME", help="the models that the key opens")
    verbs_help = "what for: predict, explain, describe (default: all that clients.yaml allows the client)"
    issue.add_argument("--verbs", default="", metavar="VERB,VERB", help=verbs_help)
    issue.add_argument("--expires", required=True, metavar="TIME", help="how long it is valid: 30m, 12h, 90d")
    add_config(issue)
    return issue


def _add_list(actions: Any) -> argparse.ArgumentParser:
    summary = "Show which keys were issued, and whether they still work; never the keys themselves."
    listing = add_command(actions, "list", keys_list, summary, "garrison keys list --client demo")
    listing.add_argument("--client", default="", metavar="NAME", help="only keys of this client")
    listing.add_argument("--all", action="store_true", help="also those that are revoked or have expired")
    return listing


def _add_revoke(actions: Any) -> argparse.ArgumentParser:
    summary = "Take keys back: from the gateway's next rendering on they are no keys."
    example = 'garrison keys revoke 4bf92f3577b34da6a3ce929d0e0e4736 --reason "found in a log, ticket 1234"'
    revoke = add_command(actions, "revoke", keys_revoke, summary, example)
    revoke.add_argument("ids", nargs="*", metavar="ID", help="a key's id, from `garrison keys list` or the access log")
    revoke.add_argument("--client", default="", metavar="NAME", help="every key of this client that is in force")
    revoke.add_argument("--reason", default="", metavar="TEXT", help="why, for whoever reads the list later")
    unlisted_help = "take ids that were not issued here, too"
    revoke.add_argument("--unlisted", action="store_true", help=unlisted_help)
    return revoke


def _add_rotate(actions: Any) -> argparse.ArgumentParser:
    summary = (
        "Make a new signing pair. Keys that the earlier one signed go on working until they expire; with --retire they "
        "stop at once."
    )
    rotate = add_command(actions, "rotate", keys_rotate, summary, "garrison keys rotate")
    retire_help = "make no pair; take this earlier one out, because it was stolen, say"
    rotate.add_argument("--retire", default="", metavar="ID", help=retire_help)
    return rotate
