"""Customer support: an invented shop, its products, what goes wrong, and in what mood people write about it."""

from __future__ import annotations

from attune.simulation.language.forms import Form, Language, Quality, Say, forms, words
from attune.simulation.language.shared import INTRODUCTIONS, MANNERS

PRODUCTS = words("Velora Zentop Lumix Korbi Tranex Mopla Quibo Ferno Halvo Rondo Brimo Delphi")
MOODS = ("angry", "worried", "hurried", "plain")


def _intent(intent: str, asked: tuple[str, ...], named: tuple[str, ...], steps: tuple[str, ...]) -> tuple[Form, ...]:
    """What is written about one intent: the requests, then what an answer says of the product, then what it does."""
    return (
        *forms("request", "request", intent, *asked),
        *forms("product", "named", intent, *named),
        *forms("action", "step", intent, *steps),
    )


_INTENTS = (
    *_intent(
        "late",
        ("My {thing} has not come yet.", "Where is my {thing}?", "The {thing} is a week late.",
         "Order {order} with my {thing} is late."),
        ("Your {thing} should be with you by now.", "I see that the {thing} is late."),
        ("I will trace order {order} today.", "I have asked the driver about order {order}.",
         "I will trace the parcel today."),
    ),
    *_intent(
        "broken",
        ("My {thing} is broken.", "The {thing} does not turn on.", "The {thing} from order {order} is broken.",
         "My new {thing} came with a crack."),
        ("Your {thing} should not break like that.", "I see that the {thing} is broken."),
        ("I will send a new one for order {order}.", "I have booked a repair for order {order}.",
         "I will send a new one today."),
    ),
    *_intent(
        "refund",
        ("I want my money back for the {thing}.", "Please refund my {thing}.", "I sent the {thing} back last week.",
         "Please refund order {order} for the {thing}."),
        ("I see that you sent back the {thing}.", "The price of your {thing} will be paid back."),
        ("I will refund order {order} today.", "The money for order {order} is on its way.",
         "I will refund you today."),
    ),
    *_intent(
        "login",
        ("I cannot log in to my {thing}.", "The {thing} does not take my password.", "My {thing} has locked me out.",
         "I forgot the password of my {thing}."),
        ("The login of your {thing} can be opened again.", "I see that the {thing} has locked you out."),
        ("I have sent a reset link for order {order}.", "I will unlock the login of order {order} now.",
         "I have sent you a reset link."),
    ),
    *_intent(
        "cancel",
        ("I want to cancel my {thing}.", "Please stop the order for the {thing}.",
         "I do not need the {thing} any more.", "Please cancel order {order} with the {thing}."),
        ("Your {thing} can still be stopped.", "I see that the {thing} is no longer wanted."),
        ("I have cancelled order {order} for you.", "I will stop order {order} right now.",
         "I will cancel it right now."),
    ),
)  # fmt: skip

_MOODS = (
    *forms("mood", "mood", "angry", "I am very angry.", "This is a bad joke.", "I am so upset."),
    *forms("mood", "mood", "worried", "I am worried.", "I fear it is lost.", "I am afraid I did it wrong."),
    *forms("mood", "mood", "hurried", "I need it today.", "I am in a hurry.", "It must be quick."),
    *forms("empathy", "empathy", "angry", "I am very sorry about this.", "You are right to be upset.",
           "I am sorry for the trouble."),
    *forms("empathy", "empathy", "worried", "Please do not worry.", "Be sure that we will find a way.",
           "You did nothing wrong."),
    *forms("empathy", "empathy", "hurried", "I know that you need it soon.", "I will be as fast as I can.",
           "I understand the hurry."),
    *forms("empathy", "empathy", "plain", "Thank you for writing to us.", "Thanks for telling us.",
           "It is good that you ask."),
)  # fmt: skip

_PROMPT = (
    *(form for form in _INTENTS if form.part == "request"),
    *(form for form in _MOODS if form.part == "mood"),
    *forms("order", "order", "", "The order is {order}.", "My order number is {order}.", "It is order {order}."),
    *INTRODUCTIONS,
)
_ANSWER = (
    *(form for form in _INTENTS if form.part != "request"),
    *(form for form in _MOODS if form.part != "mood"),
    *forms("action", "vague", "", "We will look into it.", "Someone will call you.", "It may take some time."),
    *forms("close", "offer", "", "Can I help with anything else?", "Is there more that I can do for you?",
           "Please write again if you need me."),
    *MANNERS,
)  # fmt: skip

_NAMED, _PLAIN, _EMPATHY, _STEP, _VAGUE = Say("named"), Say("plain"), Say("empathy"), Say("step"), Say("vague")
_RUDE, _OFF_TOPIC, _FILLER, _OFFER = Say("rude"), Say("off_topic"), Say("filler"), Say("offer")
_WRONG = Say("named", is_true=False)

SUPPORT = Language(
    kind="support",
    things={form.topic: PRODUCTS for form in _INTENTS},
    moods=MOODS,
    prompt_forms=_PROMPT,
    prompt_profile=(
        ("intro", {None: 15, _NAMED: 65, _PLAIN: 20}),
        ("request", {Say("request"): 1}),
        ("order", {None: 2, Say("order"): 8}),
        ("mood", {None: 2, Say("mood"): 8}),
        ("end", {None: 70, _NAMED: 15, _PLAIN: 15}),
    ),
    answer_forms=_ANSWER,
    answer_profiles={
        Quality.GOOD: (
            ("greeting", {_NAMED: 95, _PLAIN: 5}),
            ("empathy", {_EMPATHY: 92, None: 8}),
            ("product", {_NAMED: 92, None: 8}),
            ("action", {_STEP: 97, _VAGUE: 3}),
            ("close", {_OFFER: 92, None: 8}),
        ),
        Quality.MIDDLING: (
            ("greeting", {None: 35, _NAMED: 40, _PLAIN: 22, _WRONG: 3}),
            ("empathy", {None: 40, _EMPATHY: 52, Say("empathy", fits=False): 8}),
            ("aside", {None: 86, _FILLER: 8, _OFF_TOPIC: 3, _RUDE: 3}),
            ("product", {None: 52, _NAMED: 45, _WRONG: 3}),
            ("action", {None: 8, _STEP: 52, _VAGUE: 35, Say("step", fits=False): 5}),
            ("aside", {None: 88, _FILLER: 6, _OFF_TOPIC: 3, _RUDE: 3}),
            ("close", {None: 60, _OFFER: 40}),
        ),
        Quality.BAD: (
            ("greeting", {None: 70, _NAMED: 15, _PLAIN: 12, _WRONG: 3}),
            ("empathy", {None: 75, _EMPATHY: 17, Say("empathy", fits=False): 8}),
            ("aside", {None: 30, _FILLER: 20, _OFF_TOPIC: 20, _RUDE: 30}),
            ("product", {None: 68, _NAMED: 28, _WRONG: 4}),
            ("action", {None: 30, _STEP: 20, _VAGUE: 38, Say("step", fits=False): 12}),
            ("aside", {None: 40, _FILLER: 20, _OFF_TOPIC: 15, _RUDE: 25}),
            ("close", {None: 94, _OFFER: 6}),
        ),
    },
)
