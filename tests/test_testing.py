from ephaptic_grpc import Service


def test_a_served_service_can_be_called(serve):
    service = Service("chat.v1.ChatService")

    @service.expose
    def add(a: int, b: int) -> int:
        return a + b

    served = serve(service)
    assert served.client.add(1, 2) == 3


def test_two_servers_run_side_by_side(serve):
    one, two = Service("one.v1.OneService"), Service("two.v1.TwoService")
    one.expose(lambda: 1, name="number")
    two.expose(lambda: 2, name="number")
    assert serve(one).client.number() == 1
    assert serve(two).client.number() == 2
