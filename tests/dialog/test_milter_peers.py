"""`milter "NAME"` and what users of other milters reported of MTAs: odd lists of macros, words behind the end of a message, words said twice."""
import pytest

from mta import connect, macros, packet
from test_milter import PLAIN, House

SEES = "function on.headers(s, m) m.headers:add('X-Seen', 'yes') end\n"


def send(m):
    return [kind for kind, _ in m.message(PLAIN)]


@pytest.mark.parametrize("pairs", [b"\0\0", b"\0x\0i\0Q1\0", b"{auth_type}\0\0{auth_authen}\0\0{auth_author}\0\0", b"",
                                   b"{mail_addr}\0" + b"a" * 70000 + b"\0"],
                         ids=["no name", "a value without a name", "empty values", "nothing", "long"])
def test_a_list_of_macros_with_empty_names_or_values_or_with_none_costs_no_message(pairs):
    with House(SEES) as h:
        m = h.mta().begin()
        for _ in range(2):
            m.say(packet("D", data=b"M" + pairs))
            assert send(m)[-1] == "c"
        m.close()


def test_abort_behind_the_answer_to_the_end_harms_neither_this_message_nor_the_next():
    with House(SEES) as h:
        m = h.mta().begin()
        for _ in range(3):
            assert send(m)[-1] == "c"
            m.say(packet("A"), packet("A"))
        m.say(packet("Q"), packet("Q"))
        assert m.is_closed()
        assert [l.count("verdict=forwarded") for l in h.lines("msg")] == [1, 1, 1]


def test_another_client_said_twice_and_a_quit_amid_a_message_leave_nothing():
    with House(SEES) as h:
        m = h.mta().begin()
        assert m.event("M", packet("M", "<a@example.org>"), macros("M", i="Q1"))[0] == "c"
        m.say(packet("K"), packet("K"))
        m.event("C", connect(ip="192.0.2.9"), macros("C", j="mta.example.net"))
        m.event("H", packet("H", "other.example.com"))
        assert send(m)[-1] == "c"
        m.event("M", packet("M", "<a@example.org>"), macros("M", i="Q2"))
        m.say(packet("Q"))
        assert m.is_closed()
        assert [l.split("client=")[1].split()[0] for l in h.lines("msg") if "verdict=forwarded" in l] == ["192.0.2.9"]
