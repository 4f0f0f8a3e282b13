"""Whether a refusal says what would have been right: with a word that asks for something, or by showing the two things that do not go together."""

from __future__ import annotations

import re

ASKS = re.compile(
    r"\b(must|expect(ed|s)?|needs?|has to|have to|at least|at most|allowed|one of|instead|takes|such as|there are (?!no )|missing (\d+|a) required"
    r"|its arguments are|is a name like|is a tuple|make (it|them)|makes? one|becomes one|choose|convert to|(go|goes|counted) from|holds modules"
    r"|(call|write|give) \S*\()"
    r"|[;:,] (or )?(build|call|choose|give|make|move|pad more|pass|run|see|swap|use|write|leave it out)\b",
    re.IGNORECASE,
)

# Texts without such a word that were read, each with how it says it all the same.
OTHERWISE = {
    r"(index|shape|window) .* does not fit (into )?(shape|images)": "both shapes, one of which is to be changed",
    r"is out of bounds for dimension \d+ of size \d+": "the size is the bound",
    r"lies outside of (the axis, which has \d+ elements|\[)": "the bound",
    r"reaches beyond x of shape": "both shapes",
    r"positions go from .* the data set has \d+ samples": "the bound",
    r"do(es)? not exist in shape \(": "the shape says which do",
    r"has no column .*; it has ": "those that there are",
    r"there is no '.*' to watch \(monitor\), only ": "those that there are",
    r"requires no gradient; it has no history": "in brackets, where one comes from: what it was made under and of",
    r"gradient \d has (dtype|shape) .*; its input has ": "the input's is the right one",
    r"has shape .*; (its parameter|the parameters have) ": "the parameter's is the right one",
    r"has shape .*, which does not repeat to the input's": "both shapes",
    r"the inner sizes \d+ and \d+ differ": "both sizes and both shapes",
    r"shapes .* do not broadcast": "all shapes",
    r"has \d+ elements, \(.*\) has -?\d+": "both counts",
    r"\d+ elements of shape .* do not fill": "both, in the words of docs/errors.md",
    r"minus correction .* leave none to divide by": "both numbers, of which the first has to be larger",
    r"-?\d+ groups do not divide the \d+ channels": "both numbers",
    r"are not a permutation of the \d+ dimensions": "a permutation is what is asked for",
    r"has \d+ (values|channels), the (images|data set) \d+": "both counts",
    r"is further than stride .* from .*, which input .* gives": "both sizes and the distance",
    r"leaves nothing of the output of input": "padding, input and what is left",
    r"have \d+ features, (rows of b .* have|those of fit) \d+": "both counts",
    r"kernel_size .*, stride .* and padding .* give a map of": "all that the size is made of",
    r"they may differ in dimension \d+ alone": "both shapes",
    r"is missing|: missing .*\.|missing \w+, \w+;": "the names that are to be there",
    r"appears twice": "once is what is left",
    r"no parameters given": "parameters are what is asked for",
    r"holds a model, not a checkpoint of a training": "a checkpoint is",
    r"is no file of a bad step; Diverged names such files": "where one comes from",
    r"is not the number of one sample; take\(positions\) gives a set of several": "the number of one, or take",
    r"a mask of booleans is no index: ops.where": "what does it with a mask",
    r"is not one number; .* decides over all of them": "what decides",
    r"does not share this array .*; fastnn.tensor\(a\) copies": "what copies it",
    r"does not hold .*; fastnn.tensor\(x, 'float32'\)": "what holds it",
    r"gives no batches; an iterator that was gone through once is empty": "batches are; and why there are none",
    r"there is nothing to report before \d+ steps of a fit are done": "the steps are what is asked for",
    r"has no forward method": "a forward method is",
}  # fmt: skip


def says_what_would_do(text: str) -> bool:
    return bool(ASKS.search(text)) or any(re.search(pattern, text) for pattern in OTHERWISE)
