import pytest

from ephaptic_grpc.names import check_function_name, check_service_name, proto_file, rpc_name, rpc_path, suggestion


@pytest.mark.parametrize(
    ("function", "rpc"),
    [
        ("ai_response", "AiResponse"),
        ("get_user2", "GetUser2"),
        ("v2_list", "V2List"),
        ("getHTTP", "GetHTTP"),
        ("Already", "Already"),
        ("a__b_", "AB"),
        ("top_10_x", "Top10X"),
    ],
)
def test_a_function_becomes_an_rpc_by_one_rule(function, rpc):
    assert rpc_name(function) == rpc
    assert rpc_path("chat.v1.ChatService", function) == f"/chat.v1.ChatService/{rpc}"


@pytest.mark.parametrize("name", ["f", "ai_response", "self", "json", "Model", "match", "timeout"])
def test_good_function_names(name):
    check_function_name(name)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("<lambda>", "a lambda has no name"),
        ("_private", "private"),
        ("__init__", "private"),
        ("größe", "ASCII"),
        ("", "ASCII"),
        ("2nd", "ASCII"),
        ("a-b", "ASCII"),
        ("a\n", "ASCII"),
        ("async", "keyword"),
        ("bind", "'bind' of its own"),
        ("call", "'call' of its own"),
        ("close", "'close' of its own"),
        ("with_options", "'with_options' of its own"),
    ],
)
def test_bad_function_names_and_what_to_do(name, why):
    with pytest.raises(ValueError, match=why) as caught:
        check_function_name(name)
    assert "expose(name=...)" in str(caught.value)


@pytest.mark.parametrize("name", ["chat.v1.ChatService", "a.B", "my_app.v2.x.HTTPService2"])
def test_good_service_names(name):
    check_service_name(name)


@pytest.mark.parametrize(
    "name", ["ChatService", "", "chat.v1.chat", "chat..Chat", ".chat.Chat", "chat.Chat\n", "chat.Größe", "a.B_C"]
)
def test_bad_service_names_and_what_would_be_right(name):
    with pytest.raises(ValueError, match=r"such as 'chat\.v1\.ChatService'"):
        check_service_name(name)


@pytest.mark.parametrize(
    ("service", "file"),
    [
        ("chat.v1.ChatService", "chat/v1/chat.proto"),
        ("chat.v1.Service", "chat/v1/service.proto"),
        ("a.UserAccounts", "a/user_accounts.proto"),
        ("a.HTTPServerService", "a/http_server.proto"),
        ("a.V2Api", "a/v2_api.proto"),
    ],
)
def test_a_service_is_described_in_a_file_of_its_name(service, file):
    assert proto_file(service) == file


def test_a_name_that_is_nearly_right_is_suggested():
    assert suggestion("ai_respnse", ["ai_response", "add"]) == " (did you mean 'ai_response'?)"
    assert suggestion("x", ["ai_response", "add"]) == ""


@pytest.mark.parametrize("name", ["acme.ephaptic_grpc.ChatService", "class.v1.ChatService", "message.v1.None"])
def test_what_generated_stubs_could_not_hold_is_refused(name):
    with pytest.raises(ValueError, match="a part that stubs can't have"):
        check_service_name(name)


@pytest.mark.parametrize("name", ["none", "true", "false"])
def test_a_function_whose_rpc_would_be_a_keyword_is_refused(name):
    with pytest.raises(ValueError, match="a keyword of Python"):
        check_function_name(name)
