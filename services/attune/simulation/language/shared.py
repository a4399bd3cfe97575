"""What all kinds of conversation share: the people's names, introductions, greetings, and bad manners."""

from __future__ import annotations

from attune.simulation.language.forms import forms, words

NAMES = words("Mia Tom Anna Ben Clara David Emma Felix Henry Noah Olga Rosa")

INTRODUCTIONS = (
    *forms("intro", "named", "", "Hi, I am {name}.", "Hello, this is {name}.", "My name is {name}.", "{name} here."),
    *forms("intro", "plain", "", "Hello.", "Hi there.", "Good morning."),
    *forms("end", "named", "", "Thanks, {name}.", "Best wishes, {name}."),
    *forms("end", "plain", "", "Thank you.", "Thanks."),
)

MANNERS = (
    *forms("greeting", "named", "", "Hi {name}!", "Hello {name}.", "Dear {name}."),
    *forms("greeting", "plain", "", "Hi there!", "Hello.", "Hi."),
    *forms(
        "aside", "rude", "",
        "That is your own fault.", "I do not care.", "Stop asking me.", "You are wasting my time.",
    ),
    *forms(
        "aside", "off_topic", "",
        "The moon is far away.", "Our hats are on sale now.", "I like green socks.", "Turtles live a long time.",
    ),
    *forms(
        "aside", "filler", "",
        "It is what it is.", "As I said, it is so.", "Well, there we are.", "Many people write many things.",
    ),
)  # fmt: skip
