import hashlib
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from contract import check_stage

from elastic_ir.errors import (
    BackendError,
    ConfigError,
    IndexCorruptError,
    IndexNotFoundError,
    InputError,
    StartingError,
)
from elastic_ir.index.classes import archive_classes
from elastic_ir.index.java import anserini_jar, class_archive, java_home
from elastic_ir.index.lucene import LuceneIndex, build_lucene
from elastic_ir.index.lucene_child import KEPT_TERMS, MAX_TERMS, told_apart
from elastic_ir.index.lucene_process import GoneError, Process
from elastic_ir.records import in_run_order
from elastic_ir.retrieve import BM25Retriever

MANY = 1100
DOCUMENTS = [
    ("fox", "quick brown foxes"),
    ("dog", "lazy dogs and a dog"),
    ("run", "the running fox"),
    ("twin1", "same words"),
    ("twin2", "same words"),
    ("blank", " \n"),
    ("many", " ".join(f"word{number}x" for number in range(MANY))),
    ("common", " ".join(f"word{number}x" for number in range(MANY - KEPT_TERMS))),
    ("\u6f22\U0001f600 \u00e9", "emoji \U0001f600 kanji \u6f22"),
]
LENGTHS = {"fox": 3, "dog": 3, "run": 2}  # in terms, without stop words


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("lucene") / "index \u00e9\U0001f600"
    build_lucene(DOCUMENTS, path)
    return path


@pytest.fixture(scope="module")
def lucene(folder):
    with closing(LuceneIndex(folder)) as index:
        yield index


def doc_ids(index, query, k=10):
    return [doc_id for doc_id, _ in index.search([query], k)[0].hits]


def pid_of(index):
    return index._process._popen.pid


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_scores_are_bm25(lucene):
    lengths = [3, 3, 2, 2, 2, MANY, MANY - KEPT_TERMS, 4]
    average, count = sum(lengths) / len(lengths), len(lengths)

    def bm25(frequency, length, documents):
        idf = math.log(1 + (count - documents + 0.5) / (documents + 0.5))
        return idf * frequency / (frequency + 0.9 * (1 - 0.4 + 0.4 * length / average))

    dog, fox = lucene.search(["dog", "fox"], 10)
    assert dict(dog.hits) == pytest.approx({"dog": bm25(2, 3, 1)}, abs=1e-4)
    assert dict(fox.hits) == pytest.approx({"run": bm25(1, 2, 2), "fox": bm25(1, 3, 2)}, abs=1e-4)
    assert [doc_id for doc_id, _ in fox.hits] == ["run", "fox"]


def test_words_are_stemmed_and_lowercased(lucene):
    assert doc_ids(lucene, "RUNS") == ["run"]
    assert doc_ids(lucene, "Dogs'") == ["dog"]


def test_hits_are_in_run_order_and_equal_documents_stay_in_the_order_of_anserini(lucene):
    [result] = lucene.search(["same fox emoji \u6f22"], 10)
    assert result.hits == in_run_order(result.hits)
    assert doc_ids(lucene, "same") == ["twin1", "twin2"]
    assert doc_ids(lucene, "same", k=1) == ["twin1"]


@pytest.mark.parametrize("score", [0.5, 3.1416, 15.99, 31.634, 1200.0])
def test_equal_scores_are_told_apart_however_high(score):
    apart = told_apart([score] * 50)
    assert apart == sorted(set(apart), reverse=True)
    assert len(apart) == 50
    assert apart[-1] == pytest.approx(score, abs=1e-4, rel=1e-5)


def test_ids_and_texts_may_have_any_character(lucene):
    for query in ("\U0001f600", "\u6f22", "kanji"):
        assert doc_ids(lucene, query) == ["\u6f22\U0001f600 \u00e9"]


@pytest.mark.parametrize("query", ["", "  ", "the of and a", "unknown", "\u200d", "!?"])
def test_nothing_is_found_for_nothing(lucene, query):
    assert lucene.search([query], 10) == [([], False)]


def test_no_character_has_a_meaning_or_does_harm(lucene):
    marks = ["\ud800", "\udc00\ud800", "\x00", "\U0001f469\u200d\U0001f52c", "\u202e", "\ufeff", "\r\n", "'\"\\"]
    syntax = ['+-!(){}[]^"~*?:\\/ &&||', "contents:[* TO *]", "id:fox^9", "fox AND NOT", "*:*", "fox~2 fo*"]
    giants = ["x" * 1_000_000, "\U0001f600" * 3000, "\u05d0 \u0634" * 300]
    for mark in (*marks, *syntax, *giants):
        assert "dog" in doc_ids(lucene, f"{mark} dog {mark}")
    assert "fox" not in doc_ids(lucene, "*:* [* TO *]")


def test_k_larger_than_the_collection_is_fine(lucene):
    assert doc_ids(lucene, "fox", k=10**12) == ["run", "fox"]
    assert doc_ids(lucene, "fox", k=1) == ["run"]


@pytest.mark.parametrize(("k", "threads"), [(0, 1), (-1, 1), (10, 0)])
def test_k_and_threads_are_checked(lucene, k, threads):
    with pytest.raises(InputError, match="wanted at least 1"):
        lucene.search(["fox"], k, threads=threads)


def test_of_too_many_terms_the_rarest_are_kept(lucene):
    words = [f"word{number}x" for number in range(MANY)]
    [allowed, cut] = lucene.search([" ".join(words[:MAX_TERMS]), " ".join([*words, "and", "unknown"])], 10)
    assert not allowed.cut
    assert {doc_id for doc_id, _ in allowed.hits} == {"many", "common"}
    assert cut.cut
    # The first words are in two documents, the last KEPT_TERMS in one: only those are left.
    assert [doc_id for doc_id, _ in cut.hits] == ["many"]
    [[(_, score)], flag] = lucene.search([" ".join(words[-KEPT_TERMS:])], 10)[0]
    assert (cut.hits[0][1], flag) == (pytest.approx(score, rel=1e-4), False)


def test_of_too_many_unknown_terms_the_known_are_kept(lucene):
    [result] = lucene.search([" ".join(f"u{number}" for number in range(3000)) + " fox fox"], 10)
    assert (result.cut, result.hits) == (True, lucene.search(["fox fox"], 10)[0].hits)


def test_a_batch_finds_what_its_queries_find_alone(lucene):
    queries = ["fox", "", "dog", "same fox", "many " * 2000, "fox"] * 12
    alone = {query: lucene.search([query], 3)[0] for query in set(queries)}
    for threads in (1, 2, 5):
        assert lucene.search(queries, 3, threads=threads) == [alone[query] for query in queries]
    assert lucene.search([], 3) == []


def test_many_threads_may_search(lucene):
    queries = ["fox", "dog", "same", "kanji"] * 8
    expected = [lucene.search([query], 5) for query in queries]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda query: lucene.search([query], 5), queries)) == expected


def test_the_retriever_keeps_the_contract(lucene):
    fox, dog, blank, again = check_stage(BM25Retriever(lucene))
    assert [hit.doc_id for hit in fox.hits] == ["fox", "run"]
    assert [hit.doc_id for hit in dog.hits] == ["dog"]
    assert blank.hits == ()
    assert again == fox


def test_a_process_that_is_killed_hangs_or_is_interrupted_is_replaced(folder):
    def interrupt(number, frame):
        raise KeyboardInterrupt

    # A hang costs the whole timeout; a shorter one would also end a process that a busy machine slows down.
    with closing(LuceneIndex(folder, timeout_s=8)) as index:
        assert doc_ids(index, "dog") == ["dog"]
        first = pid_of(index)
        os.kill(first, signal.SIGKILL)
        assert doc_ids(index, "dog") == ["dog"]
        second = pid_of(index)
        os.kill(second, signal.SIGSTOP)
        assert doc_ids(index, "dog") == ["dog"]
        third = pid_of(index)
        before = signal.signal(signal.SIGUSR1, interrupt)
        try:
            os.kill(third, signal.SIGSTOP)
            threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGUSR1)).start()
            with pytest.raises(KeyboardInterrupt):
                index.search(["fox"], 10)
        finally:
            signal.signal(signal.SIGUSR1, before)
        assert not is_alive(third)  # or the next question would get the answer to the interrupted one
        pids = {first, second, third}
    assert len(pids) == 3
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)  # not even a zombie


def test_who_does_not_wait_is_told_while_another_process_starts(folder):
    with closing(LuceneIndex(folder)) as index:
        index.search(["dog"], 1, wait=False)  # a first start is waited for
        os.kill(pid_of(index), signal.SIGKILL)
        index._process._popen.wait()
        with pytest.raises(StartingError, match="started anew"):
            index.search(["dog"], 1, wait=False)
        assert doc_ids(index, "dog") == ["dog"]  # this one waits
        assert [doc_id for doc_id, _ in index.search(["dog"], 1, wait=False)[0].hits] == ["dog"]


def test_who_has_a_deadline_does_not_wait_for_a_process_that_hangs(folder):
    with closing(LuceneIndex(folder)) as index:
        index.search(["dog"], 1)
        hung = pid_of(index)
        os.kill(hung, signal.SIGSTOP)
        waiting = threading.Thread(target=index.search, args=(["dog"], 1), daemon=True)
        waiting.start()
        began = time.monotonic()
        with pytest.raises(BackendError, match=r"busy for 0\.5 s"):
            index.search(["dog"], 1, wait=False, timeout_s=0.5)
        assert time.monotonic() - began < 5
        os.kill(hung, signal.SIGCONT)
        waiting.join()
        os.kill(hung, signal.SIGSTOP)
        with pytest.raises(BackendError, match=r"its process failed .no answer within 0\.5 s"):
            index.search(["dog"], 1, wait=False, timeout_s=0.5)
        assert doc_ids(index, "dog") == ["dog"]


def test_closing_does_not_wait_for_a_process_that_hangs(folder):
    index, told = LuceneIndex(folder), []
    index.search(["dog"], 1)
    os.kill(pid_of(index), signal.SIGSTOP)

    def ask():
        with pytest.raises(BackendError) as found:
            index.search(["dog"], 1)
        told.append(str(found.value))

    asking = threading.Thread(target=ask)
    asking.start()
    time.sleep(0.3)
    began = time.monotonic()
    index.close()
    asking.join()
    assert time.monotonic() - began < 5
    assert "was closed" in told[0]


def test_starts_that_fail_are_tried_ever_later(folder, monkeypatch):
    starts = []
    with closing(LuceneIndex(folder)) as index:
        index.search(["dog"], 1)
        os.kill(pid_of(index), signal.SIGKILL)
        index._process._popen.wait()

        def fails(*_):
            starts.append(time.monotonic())
            raise GoneError("no memory")

        monkeypatch.setattr("elastic_ir.index.lucene.Process", fails)
        until, told = time.monotonic() + 60, set()
        while len(starts) < 3 and time.monotonic() < until:
            with pytest.raises((StartingError, BackendError)) as refused:
                index.search(["dog"], 1, wait=False)
            told.add(re.sub(r"\d", "N", str(refused.value).partition("its process ")[2]))
            time.sleep(0.01)
    assert starts[2] - starts[1] > 1.5 * (starts[1] - starts[0])
    assert "could not be started (no memory); next try in N.N s" in told


def test_a_new_process_has_searched_before_it_is_asked(folder, monkeypatch):
    asked, ask = [], Process.ask

    def noted(process, command, arguments, timeout_s):
        asked.append((process._popen.pid, arguments.get("queries", command)))
        return ask(process, command, arguments, timeout_s)

    monkeypatch.setattr(Process, "ask", noted)
    with closing(LuceneIndex(folder)) as index:
        for query in ("dog", "fox"):
            index.search([query], 1)
        os.kill(pid_of(index), signal.SIGKILL)
        index.search(["cat"], 1)
        assert [what for pid, what in asked if pid == pid_of(index)] == ["open", ["dog"], ["fox"], ["cat"]]


def test_a_start_gives_way_to_searches_for_a_while(folder, monkeypatch):
    monkeypatch.setattr("elastic_ir.index.lucene.PATIENCE_S", 1.0)
    with closing(LuceneIndex(folder)) as index:
        index.search(["dog"], 1, wait=False)
        os.kill(pid_of(index), signal.SIGKILL)
        index._process._popen.wait()
        with pytest.raises(StartingError):
            index.search(["dog"], 1, wait=False)
        while index._new is None:
            time.sleep(0.001)
        started = index._new._popen.pid
        with index.giving_way():
            assert comes_to_be(started, "T")
            with index.giving_way(), pytest.raises(StartingError):
                index.search(["dog"], 1, wait=False)
            assert comes_to_be(started, "T")
            assert doc_ids(index, "dog") == ["dog"]  # its patience ends, also while others go on
            assert pid_of(index) == started


def test_a_start_that_ends_while_it_stands_still_goes_on(folder, monkeypatch):
    with closing(LuceneIndex(folder, timeout_s=5)) as index:
        index.search(["dog"], 1)
        os.kill(pid_of(index), signal.SIGKILL)
        monkeypatch.setattr(LuceneIndex, "_warm", lambda _, process: process.pause() or process)
        assert doc_ids(index, "dog") == ["dog"]


def comes_to_be(pid, state):
    """Whether a process is seen in ``state`` within half a minute."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == state:
            return True
        time.sleep(0.001)
    return False


def test_classes_are_kept_once_and_used(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    archive_classes(folder)
    archive = class_archive()
    made = archive.stat().st_mtime_ns
    archive_classes(folder)
    assert archive.stat().st_mtime_ns == made
    with closing(LuceneIndex(folder)) as index:
        assert doc_ids(index, "dog") == ["dog"]
        mapped = Path(f"/proc/{pid_of(index)}/maps")
        assert not mapped.is_file() or archive.name in mapped.read_text()
    with archive.open("r+b") as file:  # as after a power cut
        file.seek(archive.stat().st_size // 2)
        file.write(bytes(archive.stat().st_size // 2))
    with closing(LuceneIndex(folder)) as index:
        assert doc_ids(index, "dog") == ["dog"]


def test_classes_that_cannot_be_kept_are_no_error(folder, tmp_path, monkeypatch):
    (tmp_path / "elastic_ir").write_text("a file where the cache should be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    archive_classes(folder)
    with closing(LuceneIndex(folder)) as index:
        assert doc_ids(index, "dog") == ["dog"]


def test_a_process_that_fails_twice_is_an_error(folder):
    with closing(LuceneIndex(folder, heap_mb=1)) as index:
        with pytest.raises(BackendError, match=r"failed twice \(ended with status 1: Too small maximum heap"):
            index.search(["fox"], 10)
        with pytest.raises(InputError):
            index.search(["fox"], 0)


def test_a_closed_index_is_not_searched(folder):
    index = LuceneIndex(folder)
    index.close()
    index.close()
    with pytest.raises(BackendError, match="was closed"):
        index.search(["fox"], 10)


def test_the_process_ends_with_its_parent(folder):
    program = (
        "import sys, os, signal; from pathlib import Path\n"
        "from elastic_ir.index.lucene import LuceneIndex\n"
        "index = LuceneIndex(Path(sys.argv[1])); index.search(['fox'], 1)\n"
        "print(index._process._popen.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL) if sys.argv[2] == 'kill' else None\n"
    )
    for way in ("kill", "end"):
        done = subprocess.run([sys.executable, "-c", program, str(folder), way], capture_output=True, check=False)
        assert done.returncode == {"kill": -signal.SIGKILL, "end": 0}[way], done.stderr
        assert done.stderr == b""
        deadline = time.monotonic() + 10
        while is_alive(int(done.stdout)) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not is_alive(int(done.stdout))


def test_paths_of_any_letters_where_the_locale_knows_ascii_only(folder):
    code = "import sys; from elastic_ir.index.lucene import LuceneIndex as L; i = L(sys.argv[1]);"
    code += "print(i.search(['fox'], 1)[0].hits[0][0]); i.close()"
    run = subprocess.run(
        [sys.executable, "-c", code, str(folder)], env={**os.environ, "LC_ALL": "C"}, capture_output=True, check=True
    )
    assert run.stdout.decode().strip() == "run"


def test_a_missing_index_is_an_error(tmp_path):
    with pytest.raises(IndexNotFoundError, match="no such folder"):
        LuceneIndex(tmp_path / "nowhere")
    with pytest.raises(IndexNotFoundError, match="no segments_"):
        LuceneIndex(tmp_path)


def test_a_damaged_index_is_an_error_of_one_line(folder, tmp_path):
    damaged = tmp_path / "damaged"
    shutil.copytree(folder, damaged)
    (damaged / "segments_1").write_bytes((damaged / "segments_1").read_bytes()[:40])
    with closing(LuceneIndex(damaged)) as index, pytest.raises(IndexCorruptError, match="cannot be opened") as caught:
        index.search(["fox"], 10)
    assert "\n" not in str(caught.value)


def test_equal_documents_give_equal_files(folder, tmp_path):
    def digests(path):
        return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in path.iterdir()}

    build_lucene(iter(DOCUMENTS), tmp_path / "again")
    first, second = digests(folder), digests(tmp_path / "again")
    assert {name for name in first | second if first.get(name) != second.get(name)} <= {"_0.si"}  # has the date


def test_rm3_finds_what_shares_no_word_with_the_query_if_term_vectors_are_there(tmp_path):
    related = [(f"both{number}", "apple orchard") for number in range(3)]
    documents = [*related, ("only", "orchard"), *((f"other{number}", "stone wall") for number in range(60))]
    build_lucene(DOCUMENTS, tmp_path, term_vectors=False)
    with closing(LuceneIndex(tmp_path, rm3=True)) as index, pytest.raises(ConfigError, match="no term vectors"):
        index.search(["apple"], 10)
    build_lucene(documents, tmp_path, threads=2)  # in place of the first
    with closing(LuceneIndex(tmp_path, rm3=True)) as index:
        assert doc_ids(index, "apple")[3:] == ["only"]
        assert index.search(["", "the", "unknown", "fox"], 10) == [([], False)] * 4


def test_an_error_of_lucene_while_building_is_told(tmp_path):
    with pytest.raises(BackendError, match=r"could not write the index .*immense term"):
        build_lucene([("x" * 40_000, "text")], tmp_path)


PYSERINI = """
import json, os, pathlib, sys
import jnius_config
jnius_config.set_classpath(sys.argv[2]); jnius_config.set_options("-Xmx128m", "-XX:+UseSerialGC")
import jnius
from pyserini.search.lucene import LuceneSearcher
searcher = LuceneSearcher(sys.argv[1])
searcher.set_bm25(0.9, 0.4)
found = {query: [(hit.docid, hit.score) for hit in searcher.search(query, 10)] for query in json.loads(sys.argv[3])}
pathlib.Path(sys.argv[4]).write_text(json.dumps(found))
os._exit(0)
"""


@pytest.mark.timeout(180)
def test_hits_are_those_of_pyserini(lucene, folder, tmp_path):
    queries = ["fox", "same words", "lazy running dogs", "word1x word500x fox", "emoji \u6f22", "the"]
    # The key is never used: importing pyserini makes a client that wants one.
    environment = {**os.environ, "JAVA_HOME": str(java_home()), "OPENAI_API_KEY": "none"}
    arguments = [folder, anserini_jar(), json.dumps(queries), tmp_path / "found.json"]
    subprocess.run([sys.executable, "-c", PYSERINI, *arguments], env=environment, capture_output=True, check=True)
    expected = json.loads((tmp_path / "found.json").read_text())
    results = lucene.search(queries, 10)
    assert [list(map(list, result.hits)) for result in results] == [expected[query] for query in queries]
