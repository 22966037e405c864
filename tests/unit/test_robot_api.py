import json
import re

import pytest

from continuon.clock import ManualClock, SystemClock
from continuon.errors import ContractError, HardwareError
from continuon.instruction import checked_instruction
from continuon.robot.access import Role, Token, hash_token
from continuon.robot.endpoints import ENDPOINTS, openapi_document
from continuon.robot.guard_handle import GuardReport
from continuon.robot.guard_rules import OffReason
from continuon.robot.modes import Actor, Mode, ModeState, Motion, Request, advance
from continuon.robot.readiness import Gate, Readiness
from continuon.robot.supply import GaugeState, Supply
from continuon.robot.ticklog import TickLog
from continuon.robot.timing import timing_report
from continuon.robot.token_store import TokenStore
from continuon.robot.viewfinder import CameraFacts, Picture
from continuon.robot.wheel import HOLD_NS

testclient = pytest.importorskip("starlette.testclient")
from continuon.robot.api_cockpit import COCKPIT_FILES  # noqa: E402

JSON = {"content-type": "application/json"}


class FakeRobot:
    """A robot made of values."""

    def __init__(self, log):
        self.state = ModeState(mode=Mode.AUTONOMOUS)
        self.log = log
        self.commands = []
        self.asked = []
        self.ready = True
        self.forbidden = []
        self.broken = self.battery = None
        self.frame, self.rolled, self.taken = 7, [], 0
        self.told = []
        self.wishes, self.ends, self.judged = [], [], []

    @property
    def keeper(self):
        return self

    @property
    def guard(self):
        return self

    @property
    def control(self):
        return self

    def supply(self):
        return self.battery

    def forbid(self, *, e_stop=False):
        self.forbidden.append((e_stop, self.state.mode))

    def report(self):
        return GuardReport(
            alive=True,
            driving=False,
            reason=OffReason.NOT_PERMITTED,
            polls=5,
            applied=0,
            stops=1,
            trips=0,
            bus_errors=0,
            max_gap_ms=2.5,
            off_delay_ms=0.0,
            driven_channels=0,
        )

    def request(self, request, actor, *, reason=""):
        if self.broken:
            raise self.broken
        self.asked.append((request, actor, reason))
        self.state = advance(self.state, request, actor)
        return self.state

    def teleop(self, action, source):
        if self.state.motion is not Motion.TELEOP:
            raise ContractError("E-ROBOT-TELEOP-001", "not by hand")
        self.commands.append((tuple(action), source))

    def readiness(self):
        parts = {"guard": self.ready, "control": True, "loop": True}
        gate = Gate(gate="loop", ok=True, seen="12 ms old", allowed="at most 1000 ms")
        return Readiness(parts=parts, gates=(gate,))

    def timing(self):
        return timing_report(self.log.rows(), period_ns=20_000_000)

    def status(self):
        return {"mode": self.state.mode.value}

    def episodes(self):
        return [{"episode_id": "one", "bytes": 5}]

    def begin_episode(self, wish):
        if self.state.motion is Motion.NONE:
            raise ContractError("E-ROBOT-RECORD-001", "nothing to record")
        self.wishes.append(wish)
        return {"episode_id": "two"}

    def instruct(self, text):
        told = checked_instruction(text)
        self.told.append(told)
        return {"instruction": told, "tick": 9}

    def end_episode(self, reason):
        self.ends.append(reason)
        return {"episode_id": "two"}

    @property
    def recordings(self):
        return self

    finished = 3

    def current(self):
        return {"episode_id": "two", "drops": {"rgb": 2}} if self.wishes else None

    def facts(self, now_ns):
        return CameraFacts(frames=self.frame, failures=0, age_ns=None)

    @property
    def viewfinder(self):
        return self

    def look(self, after, now_ns):
        if after >= self.frame:
            return None
        return Picture(number=self.frame, age_ns=5_000_000, jpeg=b"JPEG")

    def health(self):
        return {"verdict": "OK"}

    def software_status(self):
        return {"configured": False}

    def roll_back(self, reason):
        self.rolled.append(reason)
        return {"active": None}

    def take_adapter(self):
        self.taken += 1
        return {"adapter": 1, "swap": {"tick": 9}}

    def judge(self, episode_id):
        self.judged.append(episode_id)


@pytest.fixture
def robot(tmp_path):
    log = TickLog.create(tmp_path / "ticks", 8)
    yield FakeRobot(log)
    log.close()


@pytest.fixture
def tokens(tmp_path):
    store = TokenStore(tmp_path / "tokens.json", ManualClock())
    store.load()
    return store


@pytest.fixture
def clock():
    return ManualClock(SystemClock().monotonic_ns())


@pytest.fixture
def client(robot, tokens, clock):
    from continuon.robot.api import Api

    return lambda peer="127.0.0.1", **headers: testclient.TestClient(
        Api(robot, tokens, own_names=("car.local",), clock=clock).application(),
        base_url="http://localhost",
        client=(peer, 50_000),
        headers=headers,
    )


def post(client, path, body, **more):
    return client.post(path, content=json.dumps(body), headers=JSON, **more)


def test_it_says_what_the_robot_is(client):
    here = client()
    assert here.get("/livez").json() == {"live": True}
    assert here.get("/mode").json()["mode"] == "AUTONOMOUS"
    assert here.get("/status").json() == {"mode": "AUTONOMOUS"}
    assert here.get("/episodes").json()["episodes"][0]["episode_id"] == "one"


def test_readiness_is_a_status_code(client, robot):
    answer = client().get("/readyz")
    assert answer.status_code == 200
    assert answer.json()["gates"][0]["seen"] == "12 ms old"
    robot.ready = False
    answer = client().get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["parts"]["guard"] is False


def test_a_person_changes_the_mode_and_starts(client, robot):
    here = client()
    assert post(here, "/mode", {"request": "MANUAL"}).json()["mode"] == "MANUAL"
    answer = post(here, "/mode", {"request": "START", "reason": "go"})
    assert answer.json() == {"mode": "MANUAL", "executing": True, "motion": "teleop"}
    assert robot.asked[-1] == (Request.START, Actor.PERSON, "go")


@pytest.mark.req("R-SENSE-05")
def test_a_person_tells_the_robot_what_to_do(client, robot, tokens):
    here = client()
    answer = post(here, "/instruction", {"text": " turn left "})
    assert answer.json() == {"instruction": "turn left", "tick": 9}
    assert post(here, "/instruction", {"text": ""}).status_code == 200
    assert robot.told == ["turn left", ""]
    for bad in (
        {"text": "x" * 201},
        {"text": "a\nb"},
        {"text": "a\x00"},
        {},
        {"text": 1},
    ):
        assert post(here, "/instruction", bad).status_code == 400
    stranger = client("192.168.1.9", host="car.local")
    assert post(stranger, "/instruction", {"text": "left"}).status_code == 401
    assert robot.told == ["turn left", ""]


@pytest.mark.req("R-MODE-06")
def test_what_the_table_refuses_is_a_conflict_with_its_code(client):
    here = client()
    post(here, "/estop", {})
    answer = post(here, "/mode", {"request": "START"})
    assert answer.status_code == 409
    assert answer.json()["code"] == "E-ROBOT-MODE-001"


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{",
        "[]",
        '{"request": "FAULT"}',
        '{"request": "DANCE"}',
        '{"request": "STOP", "x": 1}',
        '{"request": "STOP", "reason": "' + "x" * 300 + '"}',
        '{"request": "STOP", "reason": "' + "x" * 9000 + '"}',
    ],
)
def test_a_body_that_does_not_fit_is_refused_and_changes_nothing(client, robot, body):
    answer = client().post("/mode", content=body, headers=JSON)
    assert answer.status_code == 400
    assert answer.json()["code"] == "E-ROBOT-API-004"
    assert robot.asked == []


@pytest.mark.req("R-API-01")
@pytest.mark.parametrize(
    "headers",
    [
        {"x-forwarded-for": "127.0.0.1"},
        {"x-real-ip": "127.0.0.1"},
        {"forwarded": "for=127.0.0.1"},
        {"x-client": "app"},
    ],
)
def test_no_header_makes_a_stranger_a_person_at_the_robot(client, headers):
    there = client("192.0.2.9", **headers)
    assert there.get("/status").status_code == 401
    assert post(there, "/mode", {"request": "START"}).status_code == 401
    assert there.get("/livez").status_code == 200


@pytest.mark.req("R-API-01")
def test_another_web_page_cannot_drive_through_a_persons_browser(client, robot):
    page = client(origin="http://evil.example")
    assert post(page, "/mode", {"request": "START"}).status_code == 403
    form = client().post("/mode", data={"request": "START"})
    assert form.status_code == 415
    rebound = client(host="evil.example")
    assert rebound.get("/status").status_code == 401
    assert robot.asked == []


@pytest.mark.req("R-API-02", "R-API-03")
def test_pairing_over_the_api(client, tokens):
    code = tokens.open_window(Role.OPERATOR).code
    there = client("192.0.2.9", host="car.local")
    answer = post(there, "/pair", {"code": code, "name": "phone"})
    assert answer.json()["role"] == "operator"
    bearer = f"Bearer {answer.json()['token']}"
    paired = client("192.0.2.9", host="car.local", authorization=bearer)
    assert paired.get("/status").status_code == 200
    assert post(paired, "/mode", {"request": "DISARM"}).status_code == 200
    assert client().get("/status").status_code == 401
    refused = post(there, "/pair", {"code": code, "name": "again"})
    assert refused.status_code == 403


def with_token(tokens, role):
    tokens._tokens = (Token(name="t", role=role, sha256=hash_token("s")),)
    return {"authorization": "Bearer s"}


@pytest.mark.req("R-API-03", "R-API-04")
def test_a_viewer_looks_and_stops_but_does_not_steer(client, robot, tokens):
    viewer = client(**with_token(tokens, Role.VIEWER))
    assert viewer.get("/metrics").status_code == 200
    assert post(viewer, "/mode", {"request": "START"}).status_code == 403
    assert post(viewer, "/estop", {"reason": "child"}).json()["mode"] == "E_STOP"
    assert robot.asked == [(Request.E_STOP, Actor.PERSON, "child")]


@pytest.mark.req("R-API-03")
def test_only_the_owner_clears_an_emergency_stop(client, tokens):
    operator = client(**with_token(tokens, Role.OPERATOR))
    post(operator, "/estop", {})
    answer = post(operator, "/mode", {"request": "CLEAR"})
    assert answer.status_code == 403
    owner = client(**with_token(tokens, Role.OWNER))
    assert post(owner, "/mode", {"request": "CLEAR"}).json()["mode"] == "DISARMED"


@pytest.mark.req("R-API-04")
@pytest.mark.parametrize("body", ["", "{", '{"x": 1}', "\xff"])
def test_an_emergency_stop_needs_no_well_formed_body(client, robot, body):
    assert client().post("/estop", content=body).json()["mode"] == "E_STOP"
    assert robot.forbidden == [(True, Mode.AUTONOMOUS)], "before the mode, at once"


def test_hardware_that_fails_is_service_unavailable(client, robot):
    robot.broken = HardwareError("E-ROBOT-CONTROL-004", "the loop is gone")
    assert post(client(), "/mode", {"request": "START"}).status_code == 503


@pytest.mark.req("R-API-05")
def test_metrics_show_only_what_was_measured(client):
    text = client().get("/metrics").text
    assert 'continuon_mode{mode="AUTONOMOUS"} 1' in text
    assert "continuon_guard_stops_total 1" in text
    assert 'continuon_part_well{part="loop"} 1' in text
    assert "continuon_episodes_total 3" in text
    assert "continuon_camera_frames_total 7" in text
    assert "continuon_camera_frame_age_seconds" not in text
    assert "continuon_recording_drops" not in text
    assert "continuon_tick_lateness_seconds" not in text
    assert "continuon_loop_rate_hz" not in text
    assert "nan" not in text.lower()
    assert "continuon_battery" not in text
    for line in text.splitlines():
        assert line.startswith("#") or float(line.rsplit(" ", 1)[1]) >= 0


@pytest.mark.req("R-API-05", "R-GUARD-09")
def test_metrics_tell_the_battery_and_how_old_that_is(client, robot, clock):
    robot.battery = Supply(
        state=GaugeState.READ, capture_ns=clock.now_ns - 1_500_000_000, volts=7.4
    )
    text = client().get("/metrics").text
    assert "continuon_battery_volts 7.4" in text
    assert "\ncontinuon_battery_age_seconds 1.5\n" in text
    assert "continuon_battery_charge_ratio" not in text


def test_the_openapi_document_names_every_endpoint(client):
    document = client().get("/openapi.json").json()
    assert document == json.loads(json.dumps(openapi_document()))
    for endpoint in ENDPOINTS:
        assert endpoint.method.lower() in document["paths"][endpoint.path]
    operation = document["paths"]["/mode"]["post"]
    assert operation["security"] == [{"bearer": []}]
    assert "FAULT" not in json.dumps(operation)


def test_the_newest_frame_is_given_once_and_then_a_newer_one(client, monkeypatch):
    here = client()
    answer = here.get("/camera.jpg")
    assert answer.headers["content-type"] == "image/jpeg"
    assert (answer.headers["x-frame"], answer.headers["x-age-ms"]) == ("7", "5.0")
    assert here.get("/camera.jpg?after=x").status_code == 400
    monkeypatch.setattr("continuon.robot.api._FRAME_LOOKS", 2)
    monkeypatch.setattr("continuon.robot.api._FRAME_LOOK_S", 0)
    assert here.get("/camera.jpg?after=7").json()["code"] == "E-ROBOT-CAMERA-001"


@pytest.mark.req("R-COCKPIT-07", "R-API-03")
def test_only_an_owner_goes_back_to_the_bundle_before(client, robot, tokens):
    operator = client(**with_token(tokens, Role.OPERATOR))
    assert operator.get("/ota").json() == {"configured": False}
    assert operator.get("/health").json() == {"verdict": "OK"}
    assert post(operator, "/ota/rollback", {"reason": "x"}).status_code == 403
    assert post(operator, "/adapter/use", {}).status_code == 403
    owner = client(**with_token(tokens, Role.OWNER))
    assert post(owner, "/ota/rollback", {}).status_code == 400
    post(owner, "/ota/rollback", {"reason": "it cuts corners"})
    assert post(owner, "/adapter/use", {"number": 3}).status_code == 400
    assert post(owner, "/adapter/use", {}).json()["adapter"] == 1
    assert robot.taken == 1
    assert robot.rolled == ["it cuts corners"]


@pytest.mark.req("R-COCKPIT-05")
@pytest.mark.parametrize("name", COCKPIT_FILES)
def test_the_page_is_whole_strict_and_from_here_alone(client, name):
    path = "/" if name == "index.html" else f"/cockpit/{name}"
    answer = client("192.0.2.9").get(path)
    assert answer.headers["content-type"] == COCKPIT_FILES[name]
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    text = answer.text.replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?://[a-z0-9]", text)
    assert not re.search(r"\bon\w+=\"|style=\"|innerHTML|eval\(", text)
    for other in re.findall(r'(?:/cockpit/|from "\./)([\w.]+)', text):
        assert other in COCKPIT_FILES


@pytest.mark.req("R-COCKPIT-06", "R-API-03")
def test_an_owner_lets_another_in_and_anybody_may_ask_who_they_are(client, tokens):
    here = client()
    assert here.get("/whoami").json()["role"] == "owner"
    found = post(here, "/pairing", {"role": "viewer"}).json()
    there = client("192.0.2.9", host="car.local")
    assert there.get("/whoami").json()["role"] == "nobody"
    assert post(there, "/pairing", {}).status_code == 401
    body = {"code": found["code"], "name": "tablet"}
    bearer = "Bearer " + post(there, "/pair", body).json()["token"]
    viewer = client("192.0.2.9", host="car.local", authorization=bearer)
    assert viewer.get("/whoami").json() == {
        "role": "viewer",
        "name": "tablet",
        "paired": True,
    }
    assert post(viewer, "/pairing", {}).status_code == 403


@pytest.mark.req("R-RECORD-05")
def test_a_person_records_an_episode_with_what_it_is_about(client, robot):
    here = client()
    body = {"task": "dock", "tags": ["dusk"], "source": "human_supervisor"}
    assert post(here, "/episodes", body).json()["code"] == "E-ROBOT-RECORD-001"
    robot.state = ModeState(mode=Mode.TRAINING, executing=True)
    assert post(here, "/episodes", body).json() == {"episode_id": "two"}
    wish = robot.wishes[0]
    assert (wish.task, wish.tags, wish.source) == ("dock", ("dusk",), body["source"])
    assert here.get("/episodes").json()["recording"]["episode_id"] == "two"
    assert 'continuon_recording_drops{stream="rgb"} 2' in here.get("/metrics").text
    post(here, "/episodes/end", {"outcome": "stopped"})
    post(here, "/episodes/end", {})
    assert robot.ends == ["stopped", "complete"]
    post(here, "/episodes/one/validate", {})
    assert robot.judged == ["one"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"task": ""},
        {"task": "x" * 201},
        {"task": "x", "tags": [""]},
        {"task": "x", "tags": ["t"] * 17},
        {"task": "x", "source": "root"},
        {"task": "x", "client": "toaster"},
        {"task": "x", "max_duration_s": 0},
        {"task": "x", "max_duration_s": 1e9},
        {"task": "x", "episode_id": "../../etc"},
    ],
)
def test_an_episode_that_says_something_illegal_does_not_begin(client, robot, body):
    robot.state = ModeState(mode=Mode.TRAINING, executing=True)
    assert post(client(), "/episodes", body).status_code == 400
    assert robot.wishes == []


def frame(action, source="human_teleop_xr"):
    return json.dumps({"action": action, "source": source})


def test_a_person_drives_over_the_socket(client, robot):
    robot.state = ModeState(mode=Mode.MANUAL, executing=True)
    with client(host="localhost").websocket_connect("/teleop") as socket:
        socket.send_text(frame([0.1, 0.2]))
        assert socket.receive_json() == {"taken": True}
    assert robot.commands == [((0.1, 0.2), "human_teleop_xr")]


@pytest.mark.req("R-API-08")
def test_one_drives_at_a_time_until_they_are_gone_or_silent(client, robot, clock):
    robot.state = ModeState(mode=Mode.MANUAL, executing=True)
    here = client(host="localhost")

    def send(socket, action):
        socket.send_text(frame(action))
        return socket.receive_json()

    with here.websocket_connect("/teleop") as first:
        assert send(first, [0.1, 0.2]) == {"taken": True}
        with here.websocket_connect("/teleop") as second:
            refused = send(second, [0.0, 0.0])
            assert refused["code"] == "E-ROBOT-TELEOP-003"
            assert send(first, [0.1, 0.3]) == {"taken": True}
            clock.advance_ns(HOLD_NS)
            assert send(second, [0.0, 0.4]) == {"taken": True}
            assert send(first, [0.1, 0.5])["code"] == "E-ROBOT-TELEOP-003"
        assert send(first, [0.1, 0.6]) == {"taken": True}
    throttles = [action[1] for action, _ in robot.commands]
    assert throttles == [0.2, 0.3, 0.4, 0.6]


@pytest.mark.req("R-API-08")
def test_commands_that_the_robot_refuses_do_not_take_the_wheel(client, robot, clock):
    here = client(host="localhost")
    with (
        here.websocket_connect("/teleop") as first,
        here.websocket_connect("/teleop") as second,
    ):
        first.send_text(frame([0.1, 0.2]))
        assert first.receive_json()["code"] == "E-ROBOT-TELEOP-001"
        robot.state = ModeState(mode=Mode.MANUAL, executing=True)
        second.send_text(frame([0.1, 0.2]))
        assert second.receive_json() == {"taken": True}


@pytest.mark.req("R-API-07")
def test_an_open_socket_of_a_client_that_was_turned_away_drives_no_further(
    client, robot, tokens
):
    from starlette.websockets import WebSocketDisconnect

    robot.state = ModeState(mode=Mode.MANUAL, executing=True)
    with_token(tokens, Role.OPERATOR)
    here = client(host="localhost", authorization="Bearer s")
    with here.websocket_connect("/teleop") as socket:
        socket.send_text(frame([0.1, 0.2]))
        assert socket.receive_json() == {"taken": True}
        tokens.revoke(tokens.tokens[0].client)
        tokens._tokens = (Token(name="other", role=Role.OWNER, sha256="0" * 64),)
        socket.send_text(frame([0.1, 0.3]))
        with pytest.raises(WebSocketDisconnect) as closed:
            socket.receive_json()
    assert closed.value.code == 1008
    assert len(robot.commands) == 1


@pytest.mark.req("R-API-07")
def test_only_an_owner_sees_and_turns_clients_away(client, tokens):
    with_token(tokens, Role.OPERATOR)
    here = client(authorization="Bearer s")
    assert here.get("/clients").status_code == 403
    known = tokens.tokens[0].client
    assert post(here, "/clients/revoke", {"client": known}).status_code == 403
    tokens._tokens = (
        Token(name="phone", role=Role.OWNER, sha256=hash_token("o")),
        *tokens.tokens,
    )
    owner = client(authorization="Bearer o")
    told = owner.get("/clients").json()["clients"]
    assert [one["role"] for one in told] == ["owner", "operator"]
    assert "sha256" not in told[0]
    assert post(owner, "/clients/revoke", {"client": "0" * 12}).status_code == 409
    assert post(owner, "/clients/revoke", {"client": "x"}).status_code == 400
    assert post(owner, "/clients/revoke", {"client": known}).json()["left"] == 1
    assert here.get("/status").status_code == 401


@pytest.mark.req("R-API-07")
def test_a_full_disk_is_service_unavailable_and_pairs_nobody(
    client, tokens, monkeypatch
):
    def full(*args, **kwargs):
        raise OSError(28, "no space left on device")

    monkeypatch.setattr("continuon.robot.token_store.replace_file", full)
    code = tokens.open_window().code
    answer = post(client(), "/pair", {"code": code, "name": "phone"})
    assert answer.status_code == 503
    assert answer.json()["code"] == "E-ROBOT-API-006"
    assert tokens.tokens == ()


@pytest.mark.req("R-API-03")
def test_a_pages_socket_carries_its_token_as_a_protocol(client, robot, tokens):
    from starlette.websockets import WebSocketDisconnect

    robot.state = ModeState(mode=Mode.MANUAL, executing=True)
    with_token(tokens, Role.OPERATOR)
    here = client(host="localhost")
    offered = ["continuon.v1", "bearer.s"]
    with here.websocket_connect("/teleop", subprotocols=offered) as socket:
        assert socket.accepted_subprotocol == "continuon.v1"
        socket.send_text(frame([0.1, 0.2]))
        assert socket.receive_json() == {"taken": True}
    for wrong in (["continuon.v1"], ["continuon.v1", "bearer.x"]):
        with (
            pytest.raises(WebSocketDisconnect),
            here.websocket_connect("/teleop", subprotocols=wrong),
        ):
            pass


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[1]",
        frame([0.1], "vla_policy"),
        frame([0.1], "root"),
        frame(["a"]),
        frame([0.0] * 65),
        '{"action": [NaN, 0], "source": "human_teleop_xr"}',
        '{"action": [1e999, 0], "source": "human_teleop_xr"}',
        "x" * 5000,
    ],
)
def test_a_frame_that_makes_no_sense_is_answered_with_a_code(client, robot, text):
    robot.state = ModeState(mode=Mode.MANUAL, executing=True)
    with client(host="localhost").websocket_connect("/teleop") as socket:
        socket.send_text(text)
        assert socket.receive_json()["code"] == "E-ROBOT-API-004"
        socket.send_text(frame([0.1, 0.2]))
        assert socket.receive_json() == {"taken": True}
    assert robot.commands == [((0.1, 0.2), "human_teleop_xr")]


def test_hands_are_refused_while_nobody_drives_by_hand(client, robot):
    with client(host="localhost").websocket_connect("/teleop") as socket:
        socket.send_text(frame([1.0, 1.0]))
        assert socket.receive_json()["code"] == "E-ROBOT-TELEOP-001"
    assert robot.commands == []


@pytest.mark.req("R-API-01")
@pytest.mark.parametrize(
    ("peer", "headers"),
    [("192.0.2.9", {}), ("127.0.0.1", {"origin": "http://evil.example"})],
)
def test_a_stranger_gets_no_socket(client, peer, headers):
    from starlette.websockets import WebSocketDisconnect

    there = client(peer, host="localhost", **headers)
    with pytest.raises(WebSocketDisconnect), there.websocket_connect("/teleop"):
        pass
