"""An operator with a handler of every kind that kopf has, run by test_kopf_handlers.py. What was called is written into the objects, where the test reads it."""

import os
from pathlib import Path

import kopf

KIND = "rooms.example.com"


@kopf.on.startup()
def configured(settings, **_):
    settings.persistence.finalizer = "example.com/caretaker"
    settings.networking.error_backoffs = [0.1]
    settings.background.cancellation_polling = settings.execution.default_backoff = 1.0  # of kopf's own a minute each, as in owner.py
    pki = Path(os.environ["CARETAKER_PKI"])
    settings.admission.server = kopf.WebhookServer(
        addr="127.0.0.1", host="localhost", certfile=pki / "server.crt", pkeyfile=pki / "server.key", cafile=pki / "ca.crt"
    )
    settings.admission.managed = "caretaker.example.com"


@kopf.on.cleanup()
def left(**_):
    print("left in order", flush=True)


@kopf.on.probe()
def lamps(lit, **_):
    return sorted(lit)


@kopf.index("pods", labels={"lamp": kopf.PRESENT})
def lit(name, status, **_):
    return {name: status.get("phase")}


@kopf.on.validate(KIND)
def not_haunted(spec, dryrun, warnings, **_):
    warnings.append("the caretaker was asked" + (" for practice" if dryrun else ""))
    if spec.get("colour") == "black":
        raise kopf.AdmissionError("no black rooms", code=455)


@kopf.on.validate(KIND, subresource="status")
def not_flooded(status, **_):
    if status.get("water"):
        raise kopf.AdmissionError("a room is dry")


@kopf.on.mutate(KIND, operation="CREATE")
def painted(spec, patch, **_):
    if "colour" not in spec:
        patch.spec["colour"] = "white"


@kopf.on.create(KIND, retries=5, backoff=0.1)
def counted(retry, patch, **_):
    patch.status["tries"] = retry + 1
    if retry < 2:
        raise kopf.TemporaryError("not yet", delay=0.1)
    return {"done": True}


@kopf.on.create(KIND)
def hopeless(**_):
    raise kopf.PermanentError("never")


@kopf.on.create(KIND)
def furnished(spec, **_):
    for item in spec.get("items", ()):

        @kopf.subhandler(id=item)
        def placed(item=item, **_):
            return f"{item} is in its place"


@kopf.on.create(KIND, annotations={"quiet": kopf.PRESENT})
@kopf.on.create(KIND, labels={"floor": "13"})
@kopf.on.create(KIND, when=lambda spec, **_: spec.get("colour") == "never")
def filtered(patch, **_):
    patch.status["filtered"] = True


@kopf.on.resume(KIND)
def remembered(patch, status, **_):
    patch.status["resumed"] = status.get("resumed", 0) + 1


@kopf.on.update(KIND, field="spec.colour", old="white", new="red")
def repainted(patch, diff, **_):
    patch.status["repainted"] = [list(each) for each in diff][0][0]


@kopf.daemon(KIND, cancellation_timeout=1.0, initial_delay=0.1)
async def cleaned(stopped, patch, **_):
    patch.status["cleaner"] = "came"
    raise kopf.TemporaryError("again later", delay=60)


@kopf.timer(KIND, interval=0.3, field="spec.colour", value="red")
def visited(lit, patch, **_):
    patch.status["lamps"] = sorted(lit)


@kopf.on.event("pods", labels={"lamp": kopf.PRESENT})
def switched(type, name, body, **_):
    if type == "DELETED":
        kopf.event(body, type="Normal", reason="Dark", message=f"{name} went out")


@kopf.on.delete(KIND, optional=True)
def swept(body, **_):
    kopf.info(body, reason="Swept", message="the room is empty")
