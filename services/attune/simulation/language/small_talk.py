"""Small talk: everyday topics, each with things to talk about, in a cheerful, low or plain mood."""

from __future__ import annotations

from attune.simulation.language.forms import Form, Language, Quality, Say, forms, words
from attune.simulation.language.shared import INTRODUCTIONS, MANNERS

THINGS = {
    "hobby": words("chess knitting pottery fishing sewing yoga sailing drawing dancing baking"),
    "food": words("soup pizza curry noodles salad rice pasta stew bread pie"),
    "music": words("piano violin guitar flute drum harp cello trumpet banjo organ"),
    "pet": words("cat dog parrot rabbit pony hamster goat duck turtle hen"),
    "travel": words("Norvik Talin Marla Estero Gosk Lomand Varna Brisk Ondal Pirano"),
}
MOODS = ("cheerful", "low", "plain")


def _topic(
    topic: str, told: tuple[str, ...], comments: tuple[str, ...], questions: tuple[str, ...]
) -> tuple[Form, ...]:
    """What is written about one topic: openings, then comments and questions back."""
    return (
        *forms("request", "request", topic, *told),
        *forms("comment", "comment", topic, *comments),
        *forms("question", "question", topic, *questions),
    )


_TOPICS = (
    *_topic(
        "hobby",
        ("I started {thing} last week.", "Do you like {thing}?", "My new hobby is {thing}.",
         "I spent the day on {thing}."),
        ("I think {thing} is a great way to relax.", "Learning {thing} takes time and is worth it."),
        ("How often do you find time for {thing}?", "Who taught you {thing}?"),
    ),
    *_topic(
        "food",
        ("I had {thing} for lunch.", "What goes well with {thing}?", "I made {thing} for my family.",
         "My favourite food is {thing}."),
        ("A plate of {thing} sounds tasty.", "Nothing smells as good as fresh {thing}."),
        ("Do you cook {thing} at home?", "What do you like to eat with {thing}?"),
    ),
    *_topic(
        "music",
        ("I am learning to play the {thing}.", "Can you play the {thing}?", "My neighbour plays the {thing} at night.",
         "I love the sound of the {thing}."),
        ("The {thing} has such a warm sound.", "A song on the {thing} can make my day."),
        ("What song do you like on the {thing}?", "When did you first hear the {thing}?"),
    ),
    *_topic(
        "pet",
        ("My {thing} slept all day.", "Should I get a {thing}?", "We have a new {thing} at home.",
         "My {thing} ate my shoe."),
        ("A {thing} is a lovely friend to have.", "Every {thing} has a mind of its own."),
        ("What is the name of the {thing}?", "What does the {thing} like to play with?"),
    ),
    *_topic(
        "travel",
        ("I am off to {thing} on Friday.", "Have you been to {thing}?", "I just came back from {thing}.",
         "My sister moved to {thing}."),
        ("The old town of {thing} is worth a walk.", "I hear that {thing} is lovely in spring."),
        ("What do you want to see in {thing}?", "How long is the way to {thing}?"),
    ),
)  # fmt: skip

_MOODS = (
    *forms("mood", "mood", "cheerful", "I feel great.", "It made me happy.", "What a day.", "I could sing."),
    *forms("mood", "mood", "low", "I feel low today.", "I am a bit lonely.", "It was a hard week.", "I am so tired."),
    *forms("warmth", "warmth", "cheerful", "I am happy for you.", "That is wonderful.", "Your joy is catching."),
    *forms("warmth", "warmth", "low", "I am sorry that you feel low.", "Be kind to yourself.",
           "I hope that tomorrow is better."),
    *forms("warmth", "warmth", "plain", "It is nice to chat with you.", "I am glad that you told me.",
           "Good to hear from you."),
)  # fmt: skip

_PROMPT = (
    *(form for form in _TOPICS if form.part == "request"),
    *(form for form in _MOODS if form.part == "mood"),
    *INTRODUCTIONS,
)
_ANSWER = (
    *(form for form in _TOPICS if form.part != "request"),
    *(form for form in _MOODS if form.part != "mood"),
    *forms("comment", "dull", "", "That sounds nice.", "I see.", "Good."),
    *forms("question", "dull", "", "And what else?", "How are you?", "Is that so?"),
    *MANNERS,
)

_NAMED, _PLAIN, _COMMENT, _QUESTION = Say("named"), Say("plain"), Say("comment"), Say("question")
_WARMTH, _DULL = Say("warmth"), Say("dull")
_RUDE, _OFF_TOPIC, _FILLER = Say("rude"), Say("off_topic"), Say("filler")
_WRONG = Say("named", is_true=False)

SMALL_TALK = Language(
    kind="small_talk",
    things=THINGS,
    moods=MOODS,
    prompt_forms=_PROMPT,
    prompt_profile=(
        ("intro", {None: 20, _NAMED: 60, _PLAIN: 20}),
        ("request", {Say("request"): 1}),
        ("mood", {None: 35, Say("mood"): 65}),
        ("end", {None: 85, _NAMED: 15}),
    ),
    answer_forms=_ANSWER,
    answer_profiles={
        Quality.GOOD: (
            ("greeting", {_NAMED: 92, _PLAIN: 8}),
            ("warmth", {_WARMTH: 92, None: 8}),
            ("comment", {_COMMENT: 97, _DULL: 3}),
            ("question", {_QUESTION: 97, _DULL: 3}),
        ),
        Quality.MIDDLING: (
            ("greeting", {None: 38, _NAMED: 38, _PLAIN: 21, _WRONG: 3}),
            ("warmth", {None: 45, _WARMTH: 47, Say("warmth", fits=False): 8}),
            ("aside", {None: 86, _FILLER: 8, _OFF_TOPIC: 3, _RUDE: 3}),
            ("comment", {None: 15, _COMMENT: 45, _DULL: 32, Say("comment", fits=False): 5,
                         Say("comment", is_true=False): 3}),
            ("aside", {None: 88, _FILLER: 6, _OFF_TOPIC: 3, _RUDE: 3}),
            ("question", {None: 40, _QUESTION: 42, _DULL: 13, Say("question", fits=False): 5}),
        ),
        Quality.BAD: (
            ("greeting", {None: 70, _NAMED: 15, _PLAIN: 12, _WRONG: 3}),
            ("warmth", {None: 72, _WARMTH: 20, Say("warmth", fits=False): 8}),
            ("aside", {None: 30, _FILLER: 20, _OFF_TOPIC: 25, _RUDE: 25}),
            ("comment", {None: 40, _COMMENT: 20, _DULL: 30, Say("comment", fits=False): 7,
                         Say("comment", is_true=False): 3}),
            ("question", {None: 80, _QUESTION: 4, _DULL: 8, Say("question", fits=False): 8}),
            ("aside", {None: 45, _FILLER: 20, _OFF_TOPIC: 20, _RUDE: 15}),
        ),
    },
)  # fmt: skip
