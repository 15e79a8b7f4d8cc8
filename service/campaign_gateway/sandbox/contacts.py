"""The contact lists of one application and the contacts in them."""

import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from campaign_gateway.sandbox import ids
from campaign_gateway.sandbox.marks import mark, moved

_MAPPED = ("firstName", "lastName", "phoneNumber", "timeZone", "uniqueId", "contactPriority")
_UPLOADED_COLUMNS = ["firstName", "lastName", "phoneNumber", "timezone"]
_SEEDED_CONTACTS = 12


@dataclass(frozen=True, slots=True)
class Contact:
    """One contact; `phone_number` has digits only, as lists show it."""

    id: str
    phone_number: str
    added: str


@dataclass(slots=True)
class ContactList:
    """One list of contacts.

    Attributes:
        id: `cl-...`.
        fields: What every view of it shows, by name in the API.
        contacts: The contacts, oldest first.
        queued: Contacts accepted but not yet in the list, each with the moment (seconds) it gets in.
    """

    id: str
    fields: dict[str, Any]
    contacts: list[Contact] = field(default_factory=list)
    queued: list[tuple[float, str]] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The name, by which campaigns and new contacts find the list."""
        return str(self.fields["name"])


class ContactListStore:
    """Every contact list of one application."""

    def __init__(
        self, *, now: Callable[[], float], rng: random.Random, user_id: str, queue_seconds: float = 1.0
    ) -> None:
        """An empty store.

        Args:
            now: Seconds since the epoch.
            rng: Draws ids.
            user_id: Who makes and updates lists.
            queue_seconds: How long added contacts take to appear.
        """
        self._now = now
        self._rng = rng
        self._user_id = user_id
        self._queue_seconds = queue_seconds
        self._lists: dict[str, ContactList] = {}

    def all(self) -> list[ContactList]:
        """Every list in the order of creation."""
        for contact_list in self._lists.values():
            self._settle(contact_list)
        return list(self._lists.values())

    def get(self, list_id: str) -> ContactList | None:
        """One list, None if there is none with this id."""
        contact_list = self._lists.get(list_id)
        if contact_list is not None:
            self._settle(contact_list)
        return contact_list

    def by_name(self, name: str) -> ContactList | None:
        """One list by name, None if there is none."""
        return next((contact_list for contact_list in self.all() if contact_list.name == name), None)

    def seed(self, names: Iterable[str], dnc_name: str) -> str:
        """Makes lists of these names, the last of them uploaded as a file, and an opt-out list.

        Returns:
            The id of the opt-out list.
        """
        *pushed, uploaded = names
        for name in pushed:
            self._seed_contacts(self.create(name, f"Simulated list {name}."))
        self._seed_contacts(self.create(uploaded, f"Simulated list {uploaded}.", is_uploaded=True))
        return self.create(dnc_name, "Never called.", is_dnc=True).id

    def create(
        self,
        name: str,
        description: str,
        *,
        allow_duplicates: bool = False,
        is_uploaded: bool = False,
        is_dnc: bool = False,
    ) -> ContactList:
        """A new list without contacts. Lists that come from a file have columns and no API configuration."""
        now = mark(self._now())
        source = {"source": "localDrive"} if is_uploaded else {"source": "passiveApi"}
        mode = "allowDuplicates" if allow_duplicates else "skipDuplicates"
        configured = {} if is_uploaded else {"apiConfigurations": {"dataSyncMode": mode}}
        made = {"fileId": ids.object_id(self._rng), "fileName": f"{name.lower()}.csv"}
        contact_list = ContactList(
            id=ids.voice_id(self._rng, "cl"),
            fields={
                "isActive": True,
                "name": name,
                "description": description,
                "totalRecordCount": 0,
                "status": "Validated" if is_uploaded else "Ready",
                "createdBy": self._user_id,
                "updatedBy": self._user_id,
                "mapping": {key: key for key in _MAPPED},
                "listType": "call",
                "isGlobalDNC": is_dnc,
                "isDefault": False,
                **source,
                **configured,
                "columns": list(_UPLOADED_COLUMNS) if is_uploaded else [],
                "files": [made] if is_uploaded else [],
                "createdAt": now,
                "updatedAt": now,
                "allowDuplicates": allow_duplicates,
            },
        )
        self._lists[contact_list.id] = contact_list
        return contact_list

    def edit(self, contact_list: ContactList, changes: Mapping[str, Any]) -> None:
        """Replaces fields and moves the list's mark."""
        contact_list.fields |= {**changes, "updatedAt": moved(contact_list.fields["updatedAt"], self._now())}

    def delete(self, list_id: str) -> None:
        """Takes a list away; campaigns that name it go on naming it."""
        self._lists.pop(list_id, None)

    def queue(self, contact_list: ContactList, phone_numbers: Iterable[str]) -> None:
        """Accepts contacts; they appear in the list a little later, by themselves."""
        due = self._now() + self._queue_seconds
        contact_list.queued += [(due, number.removeprefix("+")) for number in phone_numbers]

    def _seed_contacts(self, contact_list: ContactList) -> None:
        numbers = (f"120255501{self._rng.randint(50, 99)}" for _ in range(_SEEDED_CONTACTS))
        self._add(contact_list, numbers, self._now())

    def _settle(self, contact_list: ContactList) -> None:
        now = self._now()
        arrived = [number for due, number in contact_list.queued if due <= now]
        if arrived:
            contact_list.queued = [(due, number) for due, number in contact_list.queued if due > now]
            self._add(contact_list, arrived, now)

    def _add(self, contact_list: ContactList, numbers: Iterable[str], at: float) -> None:
        present = {contact.phone_number for contact in contact_list.contacts}
        for number in numbers:
            if contact_list.fields["allowDuplicates"] or number not in present:
                contact_list.contacts.append(Contact(ids.sms_id(self._rng, "cc"), number, mark(at)))
                present.add(number)
        self.edit(contact_list, {"totalRecordCount": len(contact_list.contacts)})
