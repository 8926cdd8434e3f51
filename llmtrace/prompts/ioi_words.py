"""Sentences and words of the indirect-object prompts. They are those that `tiny-english` was trained on, and common
enough to be single tokens elsewhere; what a tokenizer cuts in pieces, the maker leaves out."""

from __future__ import annotations

# {A} and {B} are the two names, {S} the one that gives; the answer follows. The last one tiny-english never saw.
TEMPLATES = (
    "When {A} and {B} went to the {place}, {S} {verb} a {object} to",
    "Then {A} and {B} went to the {place}. {S} {verb} a {object} to",
    "After {A} and {B} left the {place}, {S} {verb} the {object} to",
    "While {A} and {B} were at the {place}, {S} {verb} a {object} to",
    "{A} and {B} were working at the {place}. Then {S} decided to give a {object} to",
    "Then, {A} and {B} had a long talk at the {place}. After that {S} {verb} the {object} to",
    "After {A} and {B} went to the {place}, {S} {verb} a {object} to",
)
NAMES = (
    "Mary", "John", "Tom", "Anna", "Alice", "Bob", "Kate", "Paul", "James", "Sarah", "David", "Laura", "Peter",
    "Emma", "Jack", "Lucy", "Mark", "Jane", "Simon", "Nina", "Adam", "Rose", "Carl", "Ruth", "Eric", "Lily", "Sam",
    "Amy", "Leo", "Max", "Dan", "Martin",
)  # fmt: skip
SLOTS = {
    "place": (
        "store", "park", "school", "beach", "office", "market", "garden", "library", "station", "museum",
    ),
    "object": (
        "drink", "book", "ball", "gift", "key", "ring", "map", "letter", "flower", "coin",
    ),
    "verb": ("gave", "handed", "passed", "offered"),
}  # fmt: skip
