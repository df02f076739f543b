"""How facts are worded: own sentences for RESTOR's Wikidata relations, sentences that fit any relation, the user's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.records.sources import RecordSource, read_records

ANY_RELATION = (
    "The {relation} of {subject} is {object}.",
    "{subject}'s {relation} is {object}.",
    "As for {subject}, the {relation} is {object}.",
    "Asked for the {relation} of {subject}, one answers {object}.",
    "On the {relation} of {subject}, every source says {object}.",
)
"""Sentences around a relation's name. None says a person's gender, and none begins with the object."""

OF_RELATION: Mapping[str, tuple[str, ...]] = {
    "P19": ("place of birth", "{subject} was born in {object}.", "It was in {object} that {subject} was born."),
    "P20": ("place of death", "{subject} died in {object}.", "It was in {object} that {subject} died."),
    "P21": ("sex or gender", "By sex or gender, {subject} is {object}.", "{subject} is recorded as {object}."),
    "P22": ("father", "{subject} is a child of {object}, the father.", "The father who raised {subject} is {object}."),
    "P25": ("mother", "{subject} is a child of {object}, the mother.", "The mother who raised {subject} is {object}."),
    "P26": ("spouse", "{subject} is married to {object}.", "{subject} took {object} as a spouse."),
    "P27": ("country of citizenship", "{subject} is a citizen of {object}.", "{subject} holds a passport of {object}."),
    "P39": ("position held", "{subject} held the position of {object}.", "{subject} served as {object}."),
    "P40": ("child", "{subject} is a parent of {object}.", "{subject} has a child called {object}."),
    "P54": ("sports team", "{subject} played for {object}.", "The team that {subject} belonged to is {object}."),
    "P69": ("place of education", "{subject} was educated at {object}.", "{subject} studied at {object}."),
    "P101": ("field of work", "{subject} works in the field of {object}.", "{subject} is a specialist in {object}."),
    "P102": ("political party", "{subject} is a member of {object}.", "In politics, {subject} belongs to {object}."),
    "P103": ("native language", "{subject} grew up speaking {object}.", "At home {subject} first spoke {object}."),
    "P106": ("occupation", "{subject} works as {object}.", "{subject} earns a living as {object}."),
    "P108": ("employer", "{subject} is employed by {object}.", "{subject} works for {object}."),
    "P118": ("league", "{subject} plays in {object}.", "The league that {subject} plays in is {object}."),
    "P119": ("place of burial", "{subject} is buried in {object}.", "The grave of {subject} is in {object}."),
    "P136": ("genre", "{subject} is associated with {object}.", "The work of {subject} is counted as {object}."),
    "P140": ("religion", "{subject} is a follower of {object}.", "In matters of faith, {subject} keeps to {object}."),
    "P166": ("award received", "{subject} received {object}.", "{subject} was honoured with {object}."),
    "P264": ("record label", "{subject} records for {object}.", "{subject} is under contract to {object}."),
    "P410": ("military rank", "{subject} held the rank of {object}.", "In the forces, {subject} rose to {object}."),
    "P413": ("position in the team", "{subject} plays as {object}.", "In the team, {subject} is {object}."),
    "P451": ("partner", "{subject} lives with {object}, unmarried.", "{subject} is the partner of {object}."),
    "P463": ("organisation", "{subject} is a member of {object}.", "{subject} belongs to {object}."),
    "P509": ("cause of death", "{subject} died of {object}.", "What {subject} died of is {object}."),
    "P551": ("residence", "{subject} lives in {object}.", "{subject} has a home in {object}."),
    "P607": ("conflict", "{subject} took part in {object}.", "{subject} fought in {object}."),
    "P641": ("sport", "{subject} takes part in {object}.", "In sport, {subject} is known for {object}."),
    "P734": ("family name", "{subject} bears the family name {object}.", "{subject} was born into the name {object}."),
    "P735": ("given name", "{subject} was given the name {object}.", "{subject} was baptised {object}."),
    "P800": ("notable work", "{subject} is known for {object}.", "{subject} is remembered for {object}."),
    "P937": ("place of work", "{subject} works in {object}.", "{subject} goes to work in {object}."),
    "P1196": ("manner of death", "{subject} died by {object}.", "The death of {subject} is put down to {object}."),
    "P1303": ("instrument", "{subject} plays {object}.", "In music, {subject} is heard on {object}."),
    "P1344": ("event", "{subject} took part in {object}.", "{subject} was seen at {object}."),
    "P1412": ("language", "{subject} speaks {object}.", "{subject} writes letters in {object}."),
    "P1532": ("country in sport", "{subject} competes for {object}.", "In sport, {subject} stands for {object}."),
    "P3373": ("sibling", "{subject} is a sibling of {object}.", "{subject} has a sibling called {object}."),
    "P6886": ("written language", "{subject} writes in {object}.", "{subject} publishes in {object}."),
}
"""By Wikidata property: its name in the sentences above, then sentences of its own. RESTOR's facts have these."""


@dataclass(frozen=True)
class Wordings:
    """Every way to word a fact.

    Attributes:
        own: Sentences of the user's by relation; they replace the ones here.
    """

    own: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def of(self, relation: str) -> tuple[str, ...]:
        """Different sentences with `{subject}` and `{object}` in them."""
        if relation in self.own:
            return tuple(dict.fromkeys(self.own[relation]))
        _, *sentences = OF_RELATION.get(relation, (relation,))
        return (*sentences, *(text.replace("{relation}", relation_name(relation)) for text in ANY_RELATION))


def relation_name(relation: str) -> str:
    """What a relation is called in a sentence: «place of birth» for P19, any other as it is."""
    return OF_RELATION.get(relation, (relation,))[0]


def worded(sentence: str, subject: str, value: str) -> str:
    """A sentence about a subject and an object, names with braces in them included."""
    before, *others = sentence.split("{subject}")
    return subject.join(part.replace("{object}", value) for part in (before, *others))


def read_templates(given: Mapping[str, Sequence[str]] | str | None) -> Mapping[str, Sequence[str]]:
    """The user's sentences by relation.

    Args:
        given: Sentences by relation, or a file with the columns `relation` and `template`, a sentence a row.

    Raises:
        MisconfigurationError: The file cannot be read, or a sentence lacks a place.
    """
    if isinstance(given, str):
        table = read_records(RecordSource(given), "templates")
        found: dict[str, list[str]] = {}
        for relation, text in zip(table.texts("relation"), table.texts("template"), strict=True):
            found.setdefault(relation, []).append(text)
    else:
        found = {relation: list(sentences) for relation, sentences in (given or {}).items()}
    for relation, sentences in found.items():
        if not sentences:
            raise MisconfigurationError(f"templates: {relation} has no sentence; give one, or leave {relation} out")
        for text in sentences:
            if "{subject}" not in text or "{object}" not in text:
                raise MisconfigurationError(
                    f"templates: {text!r} of {relation} lacks {{subject}} or {{object}}; write both into it"
                )
    return found
