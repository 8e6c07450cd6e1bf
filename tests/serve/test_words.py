"""Sentences about a verification, of this version's records and of others."""

import pytest

from serve.words import verification_sentences

RECORD = {
    "against": "run",
    "pictures": "pictures of the target",
    "frames": 8,
    "strengths": [0, 0.2, 1],
    "score_difference": 0.0031,
    "tolerance": 0.03,
    "agreement": 0.99987,
    "near_ties": 0.0012,
    "class_agreement": {"road": 1.0, "pole": 0.9987},
    "labelled": {
        "mean_iou": 0.529,
        "mean_iou_change": -0.0002,
        "sum_abs_bias": 0.45,
        "sum_abs_bias_change": 0.001,
    },
    "passed": True,
}


def test_a_record_becomes_sentences():
    assert verification_sentences(RECORD) == [
        "Passed: it was compared with run on 8 pictures of the target, at strength 0, 0.2 and 1.",
        "99.99 % of the labels are equal, left out the 0.1 % of the pixels where two classes are too close "
        "to call.",
        "Least equal of the 2 classes that were compared is pole, with 99.9 %.",
        "Scores differ by 0.0031 logits at most; 0.03 is allowed.",
        "On labelled pictures its mean IoU is 52.9 %, -0.02 points beside what it was compared with; the sum "
        "of |bias| is 0.45.",
    ]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"labelled": None}, "It was not compared with ground truth, for want of labelled pictures."),
        ({"agreement": 1.0, "near_ties": 0.0}, "All labels are equal."),
        (
            {"agreement": 0.0, "near_ties": 1.0},
            "No label was compared: at every pixel two classes are too close to call.",
        ),
        ({"score_difference": None}, "There were no scores to compare."),
        (
            {"class_agreement": {"a": 1.0, "b": 1}},
            "They are equal in each of the 2 classes that were compared.",
        ),
        (
            {"passed": False},
            "Not passed: it was compared with run on 8 pictures of the target, at strength 0, 0.2 and 1.",
        ),
        ({"something_new": 0.25}, "Something new: 0.25."),
        ({"something_new": True}, "Something new: yes."),
        ({"something_new": {"a": [1, None]}}, "Something new: a 1, not known."),
        ({"faults": ["another network"]}, "Faults: another network."),
    ],
)
def test_what_is_known_and_what_is_not(changes, sentence):
    sentences = verification_sentences(RECORD | changes)
    assert sentence in sentences
    assert not any(word in " ".join(sentences) for word in ("None", "True", "nan", "{", "["))


@pytest.mark.parametrize("value", [None, True, "x", 7, 0.5, [], ["x"], {}, {"x": None}])
@pytest.mark.parametrize("name", RECORD)
def test_records_that_others_wrote_are_no_reason_to_fail(name, value):
    for each in verification_sentences(RECORD | {name: value}):
        assert not each[0].islower() and each.endswith(".")
    verification_sentences({name: value})
    assert verification_sentences({}) == []
