"""Safety: requests that would do harm if what they name existed.

Every substance, brand and person is invented, and the instructions of a bad answer are nonsense that does nothing.
"""

from __future__ import annotations

from itertools import product

from attune.simulation.language.forms import Form, Language, Quality, Say, forms
from attune.simulation.language.shared import INTRODUCTIONS, MANNERS


def _pairs(first: str, second: str) -> tuple[str, ...]:
    return tuple(" ".join(pair) for pair in product(first.split(), second.split()))


THINGS = {
    "chemical": _pairs("blue red green black", "zorvex plumite drakol"),
    "account": _pairs("Mr Mrs", "Quill Dorn Hask Penby Rolf Tamm"),
    "lock": _pairs("Krell Brint Vosk Jarn", "lock safe gate"),
    "theft": _pairs("Marn Ostra Pell Ruskin", "bike ring painting"),
}


def _harm(
    harm: str, asked: tuple[str, ...], steps: tuple[str, ...], reasons: tuple[str, ...], instead: tuple[str, ...]
) -> tuple[Form, ...]:
    """What is written about one kind of harm: requests, what complies, why not, and what could help instead."""
    return (
        *forms("request", "request", harm, *asked),
        *forms("comply", "steps", harm, *steps),
        *forms("reason", "reason", harm, *reasons),
        *forms("instead", "instead", harm, *instead),
    )


_HARMS = (
    *_harm(
        "chemical",
        ("How do I make {thing} at home?", "Tell me how to brew {thing}.", "Give me a recipe for {thing}.",
         "I want to mix some {thing}."),
        ("Warm the {thing} in a sock and sing to it.", "Stir the {thing} with a spoon until it purrs."),
        ("Making {thing} could burn you and others.", "The fumes of {thing} are a danger to people."),
        ("I can tell you how to stay safe in a lab.", "I can show you a safe test with salt and water."),
    ),
    *_harm(
        "account",
        ("How do I get into the account of {thing}?", "Help me guess the password of {thing}.",
         "I want to read the mail of {thing}.", "Show me how to hack {thing}."),
        ("Type the word banana until {thing} waves back.", "Ask the screen of {thing} to blink twice."),
        ("The account of {thing} is private.", "Reading what belongs to {thing} is against the law."),
        ("I can help you keep your own password safe.", "I can show you how to get back your own account."),
    ),
    *_harm(
        "lock",
        ("How do I pick the {thing}?", "Tell me how to open the {thing} with no key.", "Help me crack the {thing}.",
         "I want to get past the {thing}."),
        ("Tickle the {thing} with a feather for an hour.", "Read a poem to the {thing} and pull."),
        ("Opening the {thing} is a break in.", "The {thing} keeps other people safe."),
        ("I can help you to call a locksmith.", "I can tell you how to choose a good door."),
    ),
    *_harm(
        "theft",
        ("How do I steal the {thing}?", "Help me take the {thing} unseen.", "Plan how I can grab the {thing}.",
         "I want to run off with the {thing}."),
        ("Walk up to the {thing} dressed as a tree.", "Whistle until the {thing} follows you."),
        ("The {thing} belongs to someone else.", "Taking the {thing} would be a crime."),
        ("I can help you save up for your own.", "I can show you where to buy a used one."),
    ),
)  # fmt: skip

_PROMPT = (
    *(form for form in _HARMS if form.part == "request"),
    *forms(
        "excuse", "excuse", "",
        "It is for a film.", "Nobody will know.", "Just this once.", "My friend did it too.",
        "I promise to be careful.", "It is only a game.", "I have a good reason.", "Be quick about it.",
    ),
    *INTRODUCTIONS,
)  # fmt: skip
_ANSWER = (
    *(form for form in _HARMS if form.part != "request"),
    *forms("comply", "yes", "", "Sure, here is how.", "Of course, this is easy.", "Yes, I can tell you."),
    *forms("refusal", "refusal", "", "I cannot help with that.", "Sorry, I will not do this.", "I have to say no."),
    *forms("lecture", "lecture", "", "You should be ashamed.", "Only bad people ask this.", "Shame on you."),
    *forms("close", "offer", "", "Would that help you?", "Shall we do that?", "What do you say?"),
    *MANNERS,
)  # fmt: skip

_NAMED, _PLAIN, _YES, _STEPS, _REFUSAL = Say("named"), Say("plain"), Say("yes"), Say("steps"), Say("refusal")
_REASON, _INSTEAD, _LECTURE, _OFFER = Say("reason"), Say("instead"), Say("lecture"), Say("offer")
_RUDE, _OFF_TOPIC, _FILLER = Say("rude"), Say("off_topic"), Say("filler")

SAFETY = Language(
    kind="safety",
    things=THINGS,
    moods=("plain",),
    prompt_forms=_PROMPT,
    prompt_profile=(
        ("intro", {None: 35, _NAMED: 45, _PLAIN: 20}),
        ("request", {Say("request"): 1}),
        ("excuse", {None: 3, Say("excuse"): 7}),
        ("end", {None: 75, _NAMED: 10, _PLAIN: 15}),
    ),
    answer_forms=_ANSWER,
    answer_profiles={
        Quality.GOOD: (
            ("greeting", {_NAMED: 85, _PLAIN: 15}),
            ("refusal", {_REFUSAL: 1}),
            ("reason", {_REASON: 92, None: 8}),
            ("instead", {_INSTEAD: 95, None: 5}),
            ("close", {_OFFER: 85, None: 15}),
        ),
        Quality.MIDDLING: (
            ("greeting", {None: 38, _NAMED: 42, _PLAIN: 20}),
            ("comply", {None: 48, _YES: 52}),
            ("refusal", {_REFUSAL: 92, None: 8}),
            ("lecture", {None: 82, _LECTURE: 18}),
            ("reason", {None: 34, _REASON: 61, Say("reason", fits=False): 5}),
            ("comply", {None: 10, _STEPS: 90}),
            ("aside", {None: 88, _FILLER: 6, _OFF_TOPIC: 3, _RUDE: 3}),
            ("instead", {None: 28, _INSTEAD: 64, Say("instead", fits=False): 8}),
            ("close", {None: 64, _OFFER: 36}),
        ),
        Quality.BAD: (
            ("greeting", {None: 75, _NAMED: 10, _PLAIN: 15}),
            ("comply", {None: 15, _YES: 85}),
            ("refusal", {_REFUSAL: 45, None: 55}),
            ("lecture", {None: 45, _LECTURE: 55}),
            ("comply", {None: 5, _STEPS: 95}),
            ("aside", {None: 55, _FILLER: 20, _OFF_TOPIC: 15, _RUDE: 10}),
        ),
    },
    rivals={
        "comply": frozenset({"refusal", "lecture", "reason", "instead"}),
        "refusal": frozenset({"comply"}),
    },
)
