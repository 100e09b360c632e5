import numpy as np
import pytest
from contract import QUERIES, check_stage

from elastic_ir.errors import InputError
from elastic_ir.index.lucene import LuceneResult
from elastic_ir.level import Level
from elastic_ir.records import Degradation, Query, Ranking
from elastic_ir.retrieve import BM25Retriever, DenseRetriever
from elastic_ir.stage import ABANDONED, SearchContext
from elastic_ir.subnet import Subnet

COLLECTION = {"fox": "quick brown fox", "dog": "lazy dog", "run": "quick run", "cat": "cat"}
WORDS = sorted({word for text in COLLECTION.values() for word in text.split()})


class CountingLucene:
    """Scores a document by the query's words in it; queries of more than three words are cut."""

    def __init__(self):
        self.asked, self.closed = [], False

    def search(self, queries, k, *, threads=1, wait=True, timeout_s=None):
        self.asked.append((list(queries), k, threads))
        return [LuceneResult(self._hits(query)[:k], len(query.split()) > 3) for query in queries]

    def _hits(self, query):
        counts = {doc_id: len(set(query.split()) & set(text.split())) for doc_id, text in COLLECTION.items()}
        return sorted(((doc_id, float(n)) for doc_id, n in counts.items() if n), key=lambda hit: (-hit[1], hit[0]))

    def close(self):
        self.closed = True


class Encoder:
    """Counts words; a subnet scales the vector, so that scores tell which one ran."""

    def __init__(self):
        self.asked = []

    def __call__(self, texts, subnet):
        self.asked.append((list(texts), subnet))
        counts = [[text.split().count(word) for word in WORDS] for text in texts]
        return np.array(counts, dtype=np.float32) * (subnet.width if subnet else 1.0)


class Flat:
    """Inner products with the documents' word counts."""

    def search(self, vectors, k):
        rows = np.array([[text.split().count(word) for word in WORDS] for text in COLLECTION.values()])
        products = vectors @ rows.T
        return [
            sorted(zip(COLLECTION, map(float, scores), strict=True), key=lambda hit: -hit[1])[:k] for scores in products
        ]


def make_bm25(candidates=100):
    return BM25Retriever(CountingLucene(), candidates)


def make_dense(candidates=100, subnet=None):
    return DenseRetriever(Encoder(), Flat(), candidates, subnet)


MAKERS = {"bm25": make_bm25, "dense": make_dense}


@pytest.mark.parametrize("name", MAKERS)
def test_contract(name):
    results = check_stage(MAKERS[name]())
    assert results[0].hits[0].doc_id == "fox"
    assert results[1].hits[0].doc_id == "dog"
    assert results[2].hits == ()


@pytest.mark.parametrize("name", MAKERS)
def test_more_hits_than_candidates_when_more_are_wanted(name):
    [ranking] = MAKERS[name](candidates=1)(QUERIES[:1], SearchContext(k=1))
    assert len(ranking.hits) == 1
    [ranking] = MAKERS[name](candidates=1)(QUERIES[:1], SearchContext(k=2))
    assert len(ranking.hits) == 2
    [ranking] = MAKERS[name](candidates=2)(QUERIES[:1], SearchContext(k=1))
    assert len(ranking.hits) == 2


@pytest.mark.parametrize("name", MAKERS)
def test_candidates_are_checked(name):
    with pytest.raises(InputError, match="candidates is 0"):
        MAKERS[name](candidates=0)


@pytest.mark.parametrize("name", MAKERS)
def test_notes_so_far_are_kept(name):
    note = Degradation("load", "pipeline")
    [ranking] = MAKERS[name]()([Ranking(Query("q", "fox"), degraded=(note,))], SearchContext())
    assert ranking.degraded == (note,)


def test_a_cut_query_is_noted():
    rankings = [Ranking(Query("", "quick brown fox run")), Ranking(Query("", "fox"))]
    cut, whole = make_bm25()(rankings, SearchContext())
    assert [(note.reason, note.stage) for note in cut.degraded] == [("query_cut", "bm25")]
    assert whole.degraded == ()


def test_blank_queries_are_not_searched_for():
    lucene, encoder = CountingLucene(), Encoder()
    blank = [Ranking(Query("", "")), Ranking(Query("", " \n"))]
    for stage in (BM25Retriever(lucene), DenseRetriever(encoder, Flat())):
        assert stage(blank, SearchContext()) == blank
    assert lucene.asked == encoder.asked == []


def test_all_queries_go_in_one_batch():
    lucene = CountingLucene()
    BM25Retriever(lucene, 7, threads=2)(QUERIES, SearchContext())
    assert lucene.asked == [(["quick fox", "lazy dog", "quick fox"], 10, 2)]


def test_who_leaves_while_queries_are_encoded_is_not_searched_for():
    gone, searched = set(), []

    class Seen(Flat):
        def search(self, vectors, k):
            searched.append(len(vectors))
            return super().search(vectors, k)

    def encode(texts, subnet):
        gone.add("q1")
        return Encoder()(texts, subnet)

    stage, context = DenseRetriever(encode, Seen()), SearchContext(abandoned=lambda query: query.query_id in gone)
    left, stays = stage(QUERIES[:2], context)
    assert (left.hits, left.degraded) == ((), (ABANDONED,))
    assert stays.hits[0].doc_id == "dog"
    assert stage(QUERIES[:1], context)[0].degraded == (ABANDONED,)
    assert searched == [1]


@pytest.mark.parametrize(
    ("level", "ran"),
    [
        (None, Subnet(0.5, 6)),
        (Level("dense", Subnet(0.25, 2)), Subnet(0.25, 2)),
        (Level("dense"), Subnet(0.5, 6)),
    ],
)
def test_the_level_says_which_subnet_encodes(level, ran):
    stage = make_dense(subnet=Subnet(0.5, 6))
    [ranking] = stage(QUERIES[:1], SearchContext(level=level))
    assert stage.encode_query.asked == [(["quick fox"], ran)]
    assert ranking.hits[0].score == 2 * ran.width


def test_errors_of_encoder_and_index_propagate():
    def broken(texts, subnet):
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        DenseRetriever(broken, Flat())(QUERIES, SearchContext())


def test_closing_bm25_closes_its_index():
    stage = make_bm25()
    stage.close()
    assert stage.lucene.closed
