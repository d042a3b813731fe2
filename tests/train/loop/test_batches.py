"""Batches come in an order that the seed decides, are the same when skipped to, and leave no row out unsaid."""

import pytest

from st2llm.errors import DataError
from st2llm.train.loop.batches import StreamedBatches

pytestmark = pytest.mark.slow


def streamed(usable=lambda row: True, rows=7, batch=3):
    return StreamedBatches(
        lambda epoch: iter([(epoch, i) for i in range(rows)]),
        read=lambda row: row if usable(row) else None,
        make=list,
        batch=batch,
    )


def test_batches_go_on_from_epoch_to_epoch():
    source = streamed()
    found = [source.next() for _ in range(5)]
    assert found[0] == [(0, 0), (0, 1), (0, 2)]
    assert found[2] == [(0, 6), (1, 0), (1, 1)]
    assert [row for batch in found for row in batch][:14] == [(e, i) for e in range(2) for i in range(7)]


def test_a_skipped_batch_is_passed_as_a_made_one_is():
    one, other = streamed(), streamed()
    for _ in range(4):
        one.next()
        other.skip()
    assert one.next() == other.next()


def test_rows_that_cannot_be_used_are_counted_once():
    source = streamed(usable=lambda row: row[1] % 2 == 0)
    batches = [source.next() for _ in range(6)]
    assert all(i % 2 == 0 for batch in batches for _, i in batch)
    assert source.left_out == 3


def test_a_stream_without_a_usable_row_says_so_and_ends():
    with pytest.raises(DataError, match="No row of the training set can be used"):
        streamed(usable=lambda row: False).next()


def test_a_late_batch_does_not_mistake_the_end_of_an_epoch_for_an_empty_one():
    source = streamed(rows=3, batch=3)
    assert [len(source.next()) for _ in range(4)] == [3, 3, 3, 3]
