"""What the unmodified client of `bigdl-serving` 2.4.0 does with the Redis dialect; prints JSON.

Run by a Python that has it (`bigdl-serving`, `redis`, `pyarrow`, `numpy`, `opencv-python-headless`):
python their_client.py PORT DIRECTORY URL [CA_FILE PASSWORD]. The streams are those of
`test_zoo_their_client.py`. With a CA, its own connection is exchanged for one of TLS, as the issue
says that users do: 2.4.0 has no argument for it. URL is a front end's, whose CA `SSL_CERT_FILE`
names; this needs an httpx of its time (0.13), and its `predict` of one output a numpy before 1.25.
"""

import contextlib
import io
import json
import sys
import time

import cv2
import httpx
import numpy as np
import redis
from bigdl.serving.client import InputQueue, OutputQueue

PORT, DIRECTORY, URL = int(sys.argv[1]), sys.argv[2], sys.argv[3]
TLS = sys.argv[4:6]


def queues(name):
    made = []
    for kind in (InputQueue, OutputQueue):
        if TLS:
            with contextlib.suppress(redis.exceptions.ConnectionError):
                made.append(kind(host="localhost", port=str(PORT), name=name))
        else:
            made.append(kind(host="localhost", port=str(PORT), name=name))
    if TLS:
        for each in made:
            each.db = redis.StrictRedis(
                host="localhost", port=PORT, ssl=True, ssl_ca_certs=TLS[0], password=TLS[1]
            )
    return made


def wait(output, uri):
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        found = output.query(uri)
        if not (isinstance(found, str) and found == "[]"):
            return found
        time.sleep(0.01)
    return "nothing"


def told(found):
    if isinstance(found, list):
        return [told(each) for each in found]
    return found if isinstance(found, str) else np.asarray(found).tolist()


def main():
    asked, answers = queues("serving_stream")
    image = np.arange(64, dtype=np.float32) / 64
    out = {}
    asked.enqueue("one", image=image)
    out["one"] = told(wait(answers, "one"))
    asked.enqueue("any name", whatever=image)
    out["any name"] = told(wait(answers, "any name"))
    asked.enqueue("rows", t=np.stack([image, image]))
    out["rows"] = told(wait(answers, "rows"))
    asked.enqueue("wrong", t=np.zeros(63, np.float32))
    out["wrong"] = told(wait(answers, "wrong"))
    asked.enqueue("words", t=["a", "b"])
    out["words"] = told(wait(answers, "words"))
    sparse = [np.array([[3], [9]]), np.array([1.0, 2.0]), np.array([64])]
    asked.enqueue("sparse", t=sparse)
    out["sparse"] = told(wait(answers, "sparse"))
    dense = np.zeros(64, np.float32)
    dense[[3, 9]] = [1, 2]
    asked.enqueue("as dense", t=dense)
    out["as dense"] = told(wait(answers, "as dense"))
    out["deleted"] = told(answers.query_and_delete("one")) == out["one"]
    out["absent"] = told(answers.query("one"))

    for _ in range(2):  # what is left of before, then a batch
        answers.dequeue()
    began = time.monotonic()
    for number in range(1000):
        asked.enqueue(f"b{number}", t=image)
    got = {}
    while len(got) < 1000 and time.monotonic() - began < 60:
        got.update(answers.dequeue())
    out["batch"] = len(got)
    out["batch alike"] = sum(
        np.allclose(each[0], out["one"][0], atol=1e-5) for each in got.values()
    )
    out["batch seconds"] = round(time.monotonic() - began, 2)

    asked.output_queue.db = answers.db
    out["predict"] = told(asked.predict({"t": image}))
    out["predict wrong"] = told(asked.predict(np.zeros(63, np.float32)))
    out["predict json"] = told(asked.predict(json.dumps({"instances": [{"t": image.tolist()}]})))
    out["http"] = over_http(image, answers)

    asked, answers = queues("pairs")
    asked.enqueue("pair", b=np.array([1, 2], np.float32), a=np.array([1, 2, 3], np.float32))
    out["pair"] = told(wait(answers, "pair"))
    asked.enqueue("half", a=np.array([1, 2, 3], np.float32))
    out["half"] = told(wait(answers, "half"))

    asked, answers = queues("pictures")
    path = f"{DIRECTORY}/red.jpg"
    cv2.imwrite(path, np.full((20, 30, 3), (0, 0, 255), np.uint8))
    asked.enqueue("red", img={"path": path})
    out["picture"] = told(wait(answers, "red"))
    asked.enqueue("no picture", img={"b64": "bm8gcGljdHVyZQ=="})
    out["no picture"] = told(wait(answers, "no picture"))

    asked, answers = queues("one-output")
    asked.output_queue.db = answers.db
    if tuple(map(int, np.__version__.split(".")[:2])) < (1, 25):
        out["predict one output"] = told(asked.predict({"t": image[:3]}))

    asked, answers = queues("top")
    asked.enqueue("top", t=image)
    out["top"] = raw(answers, "top")
    return out


def over_http(image, reader):
    if not hasattr(httpx, "PoolLimits"):
        return None
    asked = InputQueue(frontend_url=URL)
    said = asked.predict(json.dumps({"instances": [{"image": image.tolist()}]}))
    return told(reader.get_ndarray_from_b64(said.strip('"')))


def raw(output, uri):
    """Their reader decodes base64 alone; of a text result people read the hash."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        found = output.db.hget(f"cluster-serving_top:{uri}", "value")
        if found:
            return found.decode()
        time.sleep(0.01)
    return "nothing"


said = io.StringIO()
with contextlib.redirect_stdout(said):
    result = main()
print(json.dumps(result))
