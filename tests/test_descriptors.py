import pytest
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor_pool import DescriptorPool

from ephaptic_grpc import Service
from ephaptic_grpc.contract import Contract
from ephaptic_grpc.declared import declarations_of
from ephaptic_grpc.descriptors import (
    DEFINITIONS_OPTION,
    FUNCTION_OPTION,
    descriptor_set,
    file_of,
    read_descriptor_set,
    read_file,
)


def test_a_contract_is_the_same_after_the_way_there_and_back(shapes):
    contract = Contract.of(shapes)
    assert read_descriptor_set(descriptor_set([contract]).SerializeToString()) == [contract]


def test_a_descriptor_set_is_complete(shapes):
    pool = DescriptorPool()
    for file in descriptor_set([Contract.of(shapes)]).file:
        pool.Add(file)
    service = pool.FindServiceByName("shapes.v1.ShapesService")
    assert service.methods_by_name["Trees"].server_streaming
    assert service.methods_by_name["Find"].input_type.full_name == "ephaptic_grpc.v1.Payload"


def test_a_descriptor_set_has_several_services_in_their_order():
    contracts = [Contract.of(Service(f"test.v1.{name}Service")) for name in "BA"]
    assert read_descriptor_set(descriptor_set(contracts).SerializeToString()) == contracts


def test_services_of_others_have_no_contract():
    file = descriptor_pb2.FileDescriptorProto(name="x.proto", package="x")
    file.service.add(name="Y").method.add(name="Z")
    assert read_file(file) == []


def test_what_is_no_descriptor_set_is_said():
    with pytest.raises(ValueError, match="not a descriptor set"):
        read_descriptor_set(b"\xff\xff\xff")


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("name", "close", "every client has a 'close' of its own"),
        ("name", "__class__", "private"),
        ("name", "other", "can't be the RPC of 'other'"),
        ("value", "{", r"shapes\.v1\.ShapesService/Find, its value: bad JSON"),
        ("value", "[]", "it is not a JSON Schema"),
        ("value", '{"type":"array","items":{"type":3}}', "it is not a JSON Schema: its 'type' makes no sense"),
        ("value", '{"$ref":"#/$defs/Nobody"}', r"ShapesService/Find: it refers to 'Nobody', which is not defined"),
        ("value", '{"oneOf":[],"discriminator":{"propertyName":"a","mapping":{"b":"c"}}}', "it refers to 'c'"),
    ],
)
def test_a_function_that_makes_no_sense_is_refused(shapes, field, value, said):
    file = file_of(Contract.of(shapes))
    (method,) = (method for method in file.service[0].method if method.name == "Find")
    setattr(method.options.Extensions[FUNCTION_OPTION], field, value)
    with pytest.raises(ValueError, match=said):
        read_file(file)


def test_a_function_that_can_be_called_in_no_way_is_refused(shapes):
    for name, parameter, kind, said in (
        ("Find", 1, 3, "two parameters take the same rest"),
        ("Trees", 0, 1, "the arguments of a call are either a JSON array or an object"),
    ):
        file = file_of(Contract.of(shapes))
        (method,) = (method for method in file.service[0].method if method.name == name)
        method.options.Extensions[FUNCTION_OPTION].parameters[parameter].kind = kind
        with pytest.raises(ValueError, match=rf"^shapes\.v1\.ShapesService/{name}: .*{said}"):
            read_file(file)


def test_two_functions_of_one_name_are_refused(shapes):
    file = file_of(Contract.of(shapes))
    file.service[0].method.append(file.service[0].method[0])
    with pytest.raises(ValueError, match="two functions of the same name"):
        read_file(file)


@pytest.mark.parametrize("schema", ['{"$ref":"#/$defs/Node"}', '{"anyOf":[{"type":"null"},{"$ref":"#/$defs/Node"}]}'])
def test_a_type_that_is_made_of_nothing_but_itself_is_refused(shapes, schema):
    file = file_of(Contract.of(shapes))
    (node,) = (one for one in file.service[0].options.Extensions[DEFINITIONS_OPTION] if one.name == "Node")
    node.schema = schema
    with pytest.raises(ValueError, match=r"^shapes\.v1\.ShapesService: the type 'Node' is made of nothing but itself"):
        read_file(file)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("name", "x) -> None: pass #", "an identifier of Python"),
        ("name", "class", "an identifier of Python"),
        ("name", "near", "duplicate parameter name"),
        ("kind", 0, "none that this release knows"),
        ("kind", 5, "wrong parameter order"),
        ("default", "NaN", "its default: bad JSON"),
        ("schema", "\x00", "bad JSON"),
    ],
)
def test_a_parameter_that_makes_no_sense_is_refused(shapes, field, value, said):
    file = file_of(Contract.of(shapes))
    (method,) = (method for method in file.service[0].method if method.name == "Find")
    setattr(method.options.Extensions[FUNCTION_OPTION].parameters[0], field, value)
    with pytest.raises(ValueError, match=said):
        read_file(file)


def test_what_is_idempotent_is_said_as_protobuf_says_it(shapes, shapes_client):
    (service,) = file_of(Contract.of(shapes)).service
    levels = {method.name: method.options.idempotency_level for method in service.method}
    assert levels.pop("Echo") == descriptor_pb2.MethodOptions.IDEMPOTENT
    assert {*levels.values()} == {descriptor_pb2.MethodOptions.IDEMPOTENCY_UNKNOWN}
    assert (
        shapes.idempotent_paths
        == declarations_of(shapes_client.ShapesService).idempotent_paths
        == ["/shapes.v1.ShapesService/Echo"]
    )
