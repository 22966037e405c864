"""What a person does at the cockpit, in headless Chromium, one story after the other."""

from __future__ import annotations

import importlib.util
import json
import time
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def load_browser():
    spec = importlib.util.spec_from_file_location("browser", HERE / "browser.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


driver = load_browser()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        driver.find_chromium() is None,
        reason="no Chromium on this machine: apt-get install chromium",
    ),
]


@pytest.fixture
def page(robot, request):
    if robot.ask("/mode")["mode"] == "E_STOP":
        robot.ask("/mode", {"request": "CLEAR"})
    robot.ask("/mode", {"request": "AUTONOMOUS"})
    browser = driver.Browser(driver.find_chromium())
    try:
        browser.open(f"http://127.0.0.1:{robot.port}/")
        yield browser
    finally:
        browser.close()
    assert browser.problems == []


def is_hidden(name):
    return f"(document.getElementById('{name}')?.hidden ?? true)"


def enter(page):
    page.wait(f"!{is_hidden('cockpit')}")
    page.wait(is_hidden("veil"))
    page.wait("document.querySelector('#mode').textContent.length > 1")


def choose(page, mode):
    page.click(f"[data-mode={mode}]")
    page.wait(f"document.querySelector('[data-mode={mode}]').ariaPressed === 'true'")


def start(page):
    """Press Start; on a busy machine the robot may stop before the first command."""
    for _ in range(5):
        page.click("#start")
        try:
            page.wait("document.body.dataset.motion === 'teleop'", 2.0)
        except AssertionError:
            continue
        return
    pytest.fail(f"it does not start: {page.text('#toast')!r}")


def invite(page):
    """Ask for a code; what comes in meanwhile may push the button from under one."""
    for _ in range(5):
        page.click("#invite")
        try:
            page.wait(f"!{is_hidden('invite-code')}", 3.0)
        except AssertionError:
            continue
        return
    pytest.fail(f"there is no code: {page.text('#toast')!r}")


def driven(page, robot, gesture, fits, seconds=30.0):
    """Make a gesture and wait for a command that fits it.

    On a busy machine the robot may stop meanwhile: it is started, and the gesture made,
    again.
    """
    gesture()
    until = time.monotonic() + seconds
    while not fits(command := robot.ask("/status")["control"]["command"]):
        assert time.monotonic() < until, f"never driven so: {command}"
        if page.js("document.body.dataset.motion") == "none":
            start(page)
            gesture()
        time.sleep(0.1)
    return command


def record(page):
    """Press Record; on a busy machine the robot may have stopped just before."""
    for _ in range(5):
        if page.js("document.getElementById('record-go').disabled"):
            start(page)
        page.click("#record-go")
        try:
            page.wait(f"!{is_hidden('rec')}", 3.0)
        except AssertionError:
            continue
        return
    pytest.fail(f"it does not record: {page.text('#toast')!r}")


@pytest.mark.req("R-COCKPIT-01")
def test_it_shows_the_live_camera_and_what_was_measured(page, robot):
    enter(page)
    assert page.text("#mode") == "autonomous"
    page.wait("document.querySelector('#origin').innerText === 'simulated'")
    first = page.js("document.getElementById('camera').toDataURL()")
    page.wait(f"document.getElementById('camera').toDataURL() !== {first!r}")
    page.wait("document.querySelectorAll('#checks li').length >= 5")
    page.wait("document.querySelectorAll('#histogram i').length === 11")
    # The guard reads the gauge on its own bus; this process never does.
    page.wait(
        "/^battery [0-9]+ %$/.test(document.querySelector('#battery').textContent)"
    )
    assert "policy ms" not in page.text("#loop-figures")
    page.wait("document.querySelector('#software-state').innerText === 'no bundle yet'")
    page.js(
        "(async () => { for (const p of ['/', '/cockpit/main.js']) "
        "if (!(await fetch(p)).ok) throw p; })()"
    )


@pytest.mark.req("R-COCKPIT-02", "R-COCKPIT-03", "R-RECORD-04")
def test_a_person_drives_by_key_records_and_sees_the_episode_judged(page, robot):
    enter(page)
    assert page.js("document.getElementById('record-go').disabled")
    choose(page, "TRAINING")
    start(page)
    page.key("ArrowUp", down=True)
    page.js("document.getElementById('task').value = 'dock at the lamp'")
    page.js("document.getElementById('tags').value = 'dusk, wet'")
    record(page)

    def press():
        page.key("ArrowUp", down=True)
        page.key("ArrowRight", down=True)

    command = driven(page, robot, press, lambda c: c[0] > 0.5 and c[1] > 0.1)
    assert command[1] <= 0.3 + 1e-6
    page.key("ArrowRight", down=False)
    page.key("ArrowUp", down=False)
    page.click("#record-go")
    page.wait(is_hidden("rec"))
    page.wait("document.querySelector('#episode-list .tag')", 30)
    assert "dock at the lamp" in page.text("#episode-list")
    assert "#dusk" in page.text("#episode-list")
    (episode,) = robot.ask("/episodes")["episodes"]
    assert episode["end_reason"] == "complete"
    assert episode["action_source"] == "human_teleop_xr"
    # A step is a frame that was seen: on a busy machine there are few a second.
    assert episode["verdict"]["figures"]["steps"] > 3
    page.click("#start")
    page.wait("document.body.dataset.motion === 'none'")


@pytest.mark.req("R-SENSE-03")
def test_a_person_tells_the_robot_what_to_do(page, robot):
    enter(page)
    page.js("document.getElementById('instruction').value = ' turn left at the lamp '")
    page.click("#told-go")
    page.wait(
        "document.querySelector('#told-state').innerText === 'turn left at the lamp'"
    )
    assert robot.ask("/status")["instruction"] == "turn left at the lamp"
    page.js("document.getElementById('instruction').value = ''")
    page.click("#told-go")
    page.wait("document.querySelector('#told-state').innerText === 'none'")
    assert robot.ask("/status")["instruction"] == ""


@pytest.mark.req("R-COCKPIT-02")
def test_a_finger_on_the_pad_drives_and_off_it_stops(page, robot):
    enter(page)
    choose(page, "MANUAL")
    start(page)

    def touch():
        page.mouse("mouseReleased", "#pad")
        page.mouse("mousePressed", "#pad")
        page.mouse("mouseMoved", "#pad", dx=-70, dy=-30)

    driven(page, robot, touch, lambda command: command[0] < -0.5)
    assert "translate" in page.js("document.querySelector('#stick').style.transform")
    page.mouse("mouseReleased", "#pad")
    time.sleep(0.5)
    assert robot.ask("/status")["control"]["command"] == [0.0, 0.0]
    page.call("Page.navigate", url="about:blank")
    until = time.monotonic() + 5
    while robot.ask("/mode")["executing"]:
        assert time.monotonic() < until, "a page that went away still drives"
        time.sleep(0.05)


@pytest.mark.req("R-COCKPIT-02")
def test_a_gamepad_drives(page, robot):
    enter(page)
    choose(page, "MANUAL")
    page.js(
        "navigator.getGamepads = () => [{connected: true, id: 'Test Pad (STANDARD)',"
        "axes: [0.9, 0], buttons: Array.from({length: 12}, (_, i) =>"
        "({pressed: false, value: i === 7 ? 1 : 0}))}]"
    )
    start(page)
    page.wait("document.querySelector('#gamepad').textContent === 'Test Pad'")
    command = driven(page, robot, lambda: None, lambda c: c[0] > 0.5 and c[1] > 0.1)
    assert command[1] <= 0.3 + 1e-6
    page.click("#start")
    page.wait("document.body.dataset.motion === 'none'")


@pytest.mark.req("R-COCKPIT-04")
def test_the_space_bar_stops_latches_and_only_a_held_button_clears(page, robot):
    enter(page)
    choose(page, "MANUAL")
    start(page)
    page.key("Space", down=True)
    page.key("Space", down=False)
    page.wait(f"!{is_hidden('latch')}")
    assert robot.ask("/status")["guard"]["reason"] == "e_stop"
    # The mode is told first; the reason comes with the latch, once that is on disk.
    page.wait("document.querySelector('#latch-reason').innerText.includes('space bar')")
    assert page.js("document.getElementById('start').disabled")
    page.click("#clear")
    time.sleep(0.3)
    assert robot.ask("/mode")["mode"] == "E_STOP"
    page.mouse("mousePressed", "#clear")
    time.sleep(1.8)
    page.mouse("mouseReleased", "#clear")
    page.wait(is_hidden("latch"))
    assert robot.ask("/mode") == {
        "mode": "DISARMED",
        "executing": False,
        "motion": "none",
    }


@pytest.mark.req("R-COCKPIT-05")
def test_a_robots_words_are_text_and_never_markup(page, robot):
    enter(page)
    reason = "<img src=x onerror=document.title='owned'>"
    robot.ask("/estop", {"reason": reason})
    page.wait(f"!{is_hidden('latch')}")
    assert reason in page.text("#latch-reason")
    assert page.js("document.querySelector('#latch-reason img')") is None
    robot.ask("/mode", {"request": "CLEAR", "reason": "test"})


@pytest.mark.req("R-COCKPIT-06")
@pytest.mark.parametrize("robot", ["pairing"], indirect=True)
def test_a_device_is_let_in_by_a_code_and_a_stranger_is_not(page, robot):
    enter(page)
    invite(page)
    code = page.text("#invite-code")
    assert len(code) == 6
    token = robot.ask("/pair", {"code": code, "name": "tablet"})
    assert token["role"] == "operator"
    # Now somebody is paired, and being on this machine is not enough for a page.
    page.open(f"http://127.0.0.1:{robot.port}/?again")
    page.wait(f"!{is_hidden('gate')}")
    page.js("document.getElementById('code').value = '000000'")
    page.click("#pair-form button")
    page.wait("document.getElementById('pair-error').textContent")
    code = robot.ask("/pairing", {"role": "operator"})["code"]
    page.js(f"document.getElementById('code').value = '{code}'")
    page.click("#pair-form button")
    enter(page)
    assert "operator" in page.text("#who")
    assert page.js("document.getElementById('rollback').hidden")
    choose(page, "MANUAL")
    start(page)
    assert page.js("localStorage.getItem('continuon.token').length") > 20


@pytest.mark.req("R-COCKPIT-06", "R-API-07")
@pytest.mark.parametrize("robot", ["turning away"], indirect=True)
def test_an_owner_turns_a_device_away(page, robot):
    enter(page)
    code = robot.ask("/pairing", {"role": "owner"})["code"]
    secret = robot.ask("/pair", {"code": code, "name": "phone"})["token"]
    code = robot.ask("/pairing", {"role": "viewer"})["code"]
    robot.ask("/pair", {"code": code, "name": "<b>wall</b>"})
    page.js(f"localStorage.setItem('continuon.token', {secret!r})")
    page.open(f"http://127.0.0.1:{robot.port}/?again")
    enter(page)
    page.wait("document.querySelectorAll('#clients li').length === 2")
    assert "<b>wall</b>" in page.text("#clients")
    page.click("#clients li:last-child button")
    page.wait("document.getElementById('confirm').open")
    assert page.js(is_hidden("confirm-label"))
    page.click("#confirm-yes")
    page.wait("document.querySelectorAll('#clients li').length === 1")
    assert [one["name"] for one in robot.ask("/clients")["clients"]] == ["phone"]


STATUS = {
    "configured": True,
    "active": {"model_name": "lane", "version": "0.2.0", "release_counter": 2},
    "good": {"model_name": "lane", "version": "0.2.0", "release_counter": 2},
    "previous": {"model_name": "lane", "version": "0.1.0", "release_counter": 1},
    "staged": None,
    "on_trial": False,
    "failed": [],
    "next_step": "nothing",
}


@pytest.mark.req("R-COCKPIT-07")
def test_an_owner_goes_back_to_the_bundle_before_and_says_why(page, robot):
    """The slots are told to the page; what a rollback does is tested beside them."""
    page.js(
        "window.realFetch = window.fetch; window.told = [];"
        "window.fetch = (path, init) => { if (!String(path).startsWith('/ota'))"
        " return realFetch(path, init);"
        " if (init?.method === 'POST') told.push([path, JSON.parse(init.body)]);"
        f" return Promise.resolve(new Response(JSON.stringify({json.dumps(STATUS)})));"
        "}"
    )
    enter(page)
    page.wait(f"!{is_hidden('rollback')}", 25)
    assert "lane 0.2.0 (release 2)" in page.text("#software-facts")
    page.click("#rollback")
    page.wait("document.getElementById('confirm').open")
    page.click("#confirm button[value=no]")
    assert page.js("told.length") == 0
    page.click("#rollback")
    page.wait("document.getElementById('confirm').open")
    page.js("document.getElementById('confirm-reason').value = 'it cuts corners'")
    page.click("#confirm-yes")
    page.wait("told.length === 1")
    assert page.js("told[0]") == ["/ota/rollback", {"reason": "it cuts corners"}]


def shoot(page, folder, name):
    sizes = {"desktop": (1440, 900), "phone": (390, 844)}
    for kind, (width, height) in sizes.items():
        for scheme in ("light", "dark"):
            page.look_like(width, height, scheme=scheme, mobile=kind == "phone")
            time.sleep(0.4)
            page.picture(folder / f"{name}-{kind}-{scheme}.png")
    page.look_like(1440, 900)


@pytest.mark.parametrize("robot", ["pictures"], indirect=True)
def test_pictures_for_people_to_look_at(page, robot, request):
    folder = request.config.getoption("--pictures")
    if folder is None:
        pytest.skip("give --pictures FOLDER to keep what the browser shows")
    folder.mkdir(parents=True, exist_ok=True)
    enter(page)
    page.wait("document.querySelectorAll('#checks li').length >= 5")
    shoot(page, folder, "idle")
    choose(page, "TRAINING")
    start(page)
    page.key("ArrowUp", down=True)
    record(page)
    time.sleep(1.5)
    # Taking a picture holds the page up, and a page that is silent stops the robot.
    shoot(page, folder, "driving")
    if not page.js(is_hidden("rec")):
        page.click("#record-go")
    page.key("ArrowUp", down=False)
    page.wait("document.querySelector('#episode-list .tag')", 30)
    shoot(page, folder, "recorded")
    page.click("#estop")
    page.wait(f"!{is_hidden('latch')}")
    shoot(page, folder, "stopped")
    robot.ask("/mode", {"request": "CLEAR", "reason": "test"})
    code = robot.ask("/pairing", {"role": "operator"})["code"]
    robot.ask("/pair", {"code": code, "name": "tablet"})
    page.open(f"http://127.0.0.1:{robot.port}/?again")
    page.wait(f"!{is_hidden('gate')}")
    shoot(page, folder, "pairing")
