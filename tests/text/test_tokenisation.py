"""Token ids of a fixed length."""

from __future__ import annotations

import numpy as np
import pytest

from fedrevive.settings.errors import UserError
from fedrevive.tasks.tokenisation import file_tokenizer, most_frequent, padded, word_tokenizer, words


def test_words_are_lower_case_and_have_two_letters_at_least():
    assert list(words("The cat, a CAT & 42 I'll x.")) == ["the", "cat", "cat", "42", "ll"]


def test_frequent_words_come_first_and_ties_are_alphabetical():
    assert most_frequent(["bb", "aa", "cc", "cc", "dd"], 5) == {"cc": 2, "aa": 3, "bb": 4}


def test_the_order_of_the_texts_does_not_matter():
    texts = ["one two two", "three three two", "four one"]
    first, second = word_tokenizer(texts, 5), word_tokenizer(reversed(texts), 5)
    assert first("two one three four", 9) == second("two one three four", 9) == [2, 3, 4, 1]


def test_a_text_is_cut_and_padded():
    tokenizer = word_tokenizer(["aa bb cc"], 10)
    rows = padded([tokenizer("aa bb cc", 2), tokenizer("cc", 2), tokenizer("", 2)], 2)
    assert rows.dtype == np.int32
    assert rows.tolist() == [[2, 3], [4, 0], [0, 0]]
    assert padded([[5], [], [6, 7]], 2, in_front=True).tolist() == [[0, 5], [0, 0], [6, 7]]


@pytest.fixture
def tokenizer_file(tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    model = tokenizers.models.WordLevel({"<pad>": 0, "<unk>": 1, "hello": 2, "world": 3}, unk_token="<unk>")
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.enable_padding(length=7)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return tmp_path / "tokenizer.json"


def test_a_tokenizer_from_a_file(tokenizer_file):
    tokens = file_tokenizer(str(tokenizer_file), 4)
    assert tokens("hello there world", 8) == [2, 1, 3]
    assert tokens("hello there world", 2) == [2, 1]


def test_a_file_whose_ids_do_not_fit_is_refused(tokenizer_file):
    with pytest.raises(
        UserError, match=r"task.vocabulary: 3 is less than the 4 token ids.*task.vocabulary=4"
    ):
        file_tokenizer(str(tokenizer_file), 3)


@pytest.mark.parametrize(("content", "code"), [(None, 2), ("{", 3), ('{"model": 1}', 3)])
def test_a_missing_or_damaged_file_is_one_line(tmp_path, content, code):
    pytest.importorskip("tokenizers")
    path = tmp_path / "tokenizer.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=r"task.tokenizer_file: ") as raised:
        file_tokenizer(str(path), 10)
    assert raised.value.exit_code == code
