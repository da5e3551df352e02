"""Who may do what: the API server's own verdicts, and requests in somebody else's name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from support.kubectl import SYSTEM_NAMESPACE

if TYPE_CHECKING:
    import httpx2

    from support.kubectl import Object

REVIEWS = "/apis/authorization.k8s.io/v1"
EVERYBODY = "system:authenticated"


@dataclass(frozen=True, slots=True)
class Identity:
    """Somebody whom the API server knows."""

    user: str
    groups: tuple[str, ...]

    @classmethod
    def of_person(cls, name: str) -> Self:
        """A person without any rights but those that are bound to the name."""
        return cls(name, (EVERYBODY,))

    @classmethod
    def of_account(cls, name: str, namespace: str = SYSTEM_NAMESPACE) -> Self:
        """A service account."""
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", EVERYBODY)
        return cls(f"system:serviceaccount:{namespace}:{name}", groups)

    @property
    def headers(self) -> list[tuple[str, str]]:
        """What an administrator sends to act as this identity."""
        return [("Impersonate-User", self.user), *(("Impersonate-Group", group) for group in self.groups)]


@dataclass(frozen=True, slots=True)
class Action:
    """Something that could be done to a kind of object."""

    verb: str
    group: str
    resource: str
    subresource: str
    namespace: str
    name: str

    @classmethod
    def parse(cls, text: str) -> list[Self]:
        """Read `VERB,VERB RESOURCE.GROUP/SUBRESOURCE [in NAMESPACE] [named NAME]`: one action for each verb."""
        verbs, kind, *rest = text.split()
        places = dict(zip(rest[::2], rest[1::2], strict=True))
        assert places.keys() <= {"in", "named"}, text
        whole, _, subresource = kind.partition("/")
        resource, _, group = whole.partition(".")
        place, name = places.get("in", ""), places.get("named", "")
        return [cls(verb, group, resource, subresource, place, name) for verb in verbs.split(",")]

    def is_allowed(self, identity: Identity, client: httpx2.Client) -> bool:
        """The API server's verdict."""
        attributes = {
            "verb": self.verb,
            "group": self.group,
            "resource": self.resource,
            "subresource": self.subresource,
            "namespace": self.namespace,
            "name": self.name,
        }
        spec = {"user": identity.user, "groups": identity.groups, "resourceAttributes": attributes}
        review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
        response = client.post(f"{REVIEWS}/subjectaccessreviews", json=review)
        response.raise_for_status()
        return bool(response.json()["status"]["allowed"])


def rules_of(identity: Identity, namespace: str, client: httpx2.Client) -> set[str]:
    """All that it may do in a namespace, as `VERB RESOURCE.GROUP`, without what everybody may ask of itself."""
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": namespace},
    }
    response = client.post(f"{REVIEWS}/selfsubjectrulesreviews", json=review, headers=identity.headers)
    response.raise_for_status()
    rules: list[Object] = response.json()["status"]["resourceRules"]
    found = {
        f"{verb} {resource}{'.' if group else ''}{group}" + (f" named {','.join(names)}" if names else "")
        for rule in rules
        for names in [sorted(rule.get("resourceNames", []))]
        for verb in rule["verbs"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }
    return {rule for rule in found if not rule.startswith("create selfsubject")}


def try_as(identity: Identity, client: httpx2.Client, method: str, path: str, body: object = None) -> str:
    """Do something in an identity's name without its taking effect; the refusal's text, empty if there is none."""
    content_type = "application/merge-patch+json" if method == "PATCH" else "application/json"
    headers = [*identity.headers, ("Content-Type", content_type)]
    response = client.request(method, path, params={"dryRun": "All"}, json=body, headers=headers)
    if response.is_success:
        return ""
    refusal = response.json()
    return f"{refusal['reason']}: {refusal['message']}"
