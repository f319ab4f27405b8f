import pytest

from ephaptic_grpc import Service
from ephaptic_grpc.contract import Contract
from ephaptic_grpc.descriptors import descriptor_set
from ephaptic_grpc.sources import SourceError, contract_of, is_address


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("localhost:50051", True),
        ("[::1]:50051", True),
        ("unix:/run/chat.sock", True),
        ("dns:///chat", True),
        ("dns:records", False),
        ("http://localhost", True),
        ("chat", False),
        ("app.rpc:chat", False),
        ("chat.binpb", False),
    ],
)
def test_an_address_is_told_from_a_module(source, expected):
    assert is_address(source) == expected


def test_every_source_has_the_same_contract(serve, shapes, tmp_path):
    served = serve(shapes, reflection=True)
    (tmp_path / "shapes.binpb").write_bytes(descriptor_set([Contract.of(shapes)]).SerializeToString())
    for source in (served.address, str(tmp_path / "shapes.binpb"), "shapes:shapes", "shapes"):
        assert contract_of(source, None) == Contract.of(shapes)


def test_one_of_several_is_chosen(tmp_path):
    contracts = [Contract.of(Service(f"test.v1.{name}Service")) for name in ("One", "Two")]
    path = tmp_path / "two.binpb"
    path.write_bytes(descriptor_set(contracts).SerializeToString())
    assert contract_of(str(path), "test.v1.TwoService") == contracts[1]
    with pytest.raises(SourceError, match=r"choose one with --service \(test\.v1\.OneService, test\.v1\.TwoService\)"):
        contract_of(str(path), None)
    with pytest.raises(SourceError, match=r"no service 'test\.v1\.Two' \(did you mean 'test\.v1\.TwoService'\?\)"):
        contract_of(str(path), "test.v1.Two")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("nothing.binpb", "can't read nothing.binpb: No such file or directory"),
        ("nothing", "there is no module 'nothing' here"),
        ("localhost:1", "localhost:1: UNAVAILABLE"),
        ("http://localhost", "a target is host:port, such as localhost:50051, not 'http://localhost': write"),
        (":50051", "a target is host:port"),
        ("../gen/shop.json", "../gen/shop.json can't be read as a contract: name a descriptor set (written by compile"),
        ("shop.proto", "shop.proto can't be read as a contract: name a descriptor set (written by compile MODULE -o"),
    ],
)
def test_what_is_no_source_is_said(source, said):
    with pytest.raises(SourceError) as caught:
        contract_of(source, None)
    assert str(caught.value).startswith(said)


def test_a_host_without_a_port_is_told_what_a_server_is():
    with pytest.raises(SourceError, match=r"no module 'localhost' here .*; a server that runs is host:port, such as"):
        contract_of("localhost", None)


def test_a_server_that_tells_nothing_is_said(serve, shapes):
    with pytest.raises(SourceError, match=r"serve with --reflection, or Server\(reflection=True\)$"):
        contract_of(serve(shapes).address, None)


def test_a_file_that_is_no_descriptor_set_is_said(tmp_path):
    path = tmp_path / "bad.binpb"
    path.write_bytes(b"\xff\xff")
    with pytest.raises(SourceError, match=r"bad\.binpb: it is not a descriptor set"):
        contract_of(str(path), None)
