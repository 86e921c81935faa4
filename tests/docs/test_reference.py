"""What the reference must name: every setting, error, event, state and telemetry event, with its true default."""

from pathlib import Path

import msgspec

from aob import errors, telemetry
from aob.errors import AobError
from aob.kernel.events import EVENTS, Gap
from aob.kernel.states import STATES
from aob.settings import HELP, Settings

REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "reference"


def every_error(of: type[AobError]) -> set[type[AobError]]:
    found = set(of.__subclasses__())
    return found.union(*(every_error(c) for c in found)) if found else found


def test_every_setting_is_documented_with_its_default() -> None:
    page = (REFERENCE / "settings.md").read_text()
    for field in msgspec.structs.fields(Settings):
        assert f"| `{field.name}` | `AOB_{field.name.upper()}` | `{field.default}` | {HELP[field.name]} |" in page


def test_every_telemetry_event_is_documented() -> None:
    page = (REFERENCE / "settings.md").read_text()
    for name, meaning in telemetry.EVENTS.items():
        assert f"| `{name}` | {meaning} |" in page


def test_every_error_code_is_documented_once() -> None:
    page = (REFERENCE / "errors.md").read_text()
    groups = (errors.CallerError, errors.AuthorError, errors.OperatorError)
    own = {e for e in every_error(AobError) if e.__module__ in ("aob.errors", "aob.settings") and e not in groups}
    for error in own:
        assert page.count(f"| `{error.code}` | `{error.__name__}` |") == 1, error
    assert len({e.code for e in own}) == len(own), "two errors have one code"


def test_every_kind_of_event_is_documented_with_its_fields() -> None:
    page = (REFERENCE / "events.md").read_text()
    for event in EVENTS:
        line = next((x for x in page.splitlines() if x.startswith(f"| `{event.KIND}` |")), "")
        for field in msgspec.structs.fields(event):
            shown = field.encode_name
            own = ("at", "step", *(("chain", "check") if event is Gap else ()))
            assert shown in own or f"`{shown}`" in line, (event.KIND, shown)


def test_every_state_is_documented() -> None:
    page = (REFERENCE / "events.md").read_text()
    for state in STATES:
        assert f"| `{state}` |" in page
