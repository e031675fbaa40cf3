"""A small client of ComfyUI's HTTP interface."""

import json
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any

POLL_SECONDS = 0.1
REQUEST_SECONDS = 60.0

# Talks to a server on this machine: a proxy from the environment must not come between.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class WorkflowError(RuntimeError):
    """The server refused a workflow, or its execution failed."""


@dataclass(frozen=True)
class Client:
    """Calls to one server, e.g. `Client("http://127.0.0.1:8188")`."""

    address: str

    def get(self, path: str, **query: str) -> bytes:
        """The body of GET `path`. Raises `urllib.error.URLError`."""
        url = self.address + path
        if query:
            url += "?" + urllib.parse.urlencode(query)
        with _OPENER.open(url, timeout=REQUEST_SECONDS) as answer:
            return bytes(answer.read())

    def get_json(self, path: str, **query: str) -> Any:
        return json.loads(self.get(path, **query))

    def post(self, path: str, body: bytes, content_type: str) -> bytes:
        """The body of the answer to POST `path`. Raises `urllib.error.URLError`."""
        request = urllib.request.Request(
            self.address + path, data=body, headers={"Content-Type": content_type}
        )
        with _OPENER.open(request, timeout=REQUEST_SECONDS) as answer:
            return bytes(answer.read())

    def is_ready(self) -> bool:
        try:
            self.get("/system_stats")
        except (urllib.error.URLError, HTTPException, OSError):
            return False
        return True

    def upload_image(self, name: str, png: bytes) -> None:
        """Put a picture into the server's input folder, replacing one of the same name."""
        boundary = uuid.uuid4().hex
        parts = [
            f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n'
            "Content-Type: image/png\r\n\r\n".encode()
            + png
            + b"\r\n",
            f'--{boundary}\r\nContent-Disposition: form-data; name="overwrite"\r\n\r\n'
            f"true\r\n--{boundary}--\r\n".encode(),
        ]
        self.post("/upload/image", b"".join(parts), f"multipart/form-data; boundary={boundary}")

    def queue(self, workflow: Mapping[str, Any], client_id: str = "") -> str:
        """Queue a workflow in API format and return its prompt id.

        Raises `WorkflowError` with the server's reasons if it does not validate.
        """
        body = json.dumps({"prompt": workflow, "client_id": client_id}).encode()
        try:
            answer = json.loads(self.post("/prompt", body, "application/json"))
        except urllib.error.HTTPError as error:
            raise WorkflowError(
                f"The server refused the workflow: {error.read().decode()}"
            ) from error
        return str(answer["prompt_id"])

    def history(self, prompt_id: str) -> dict[str, Any] | None:
        """The record of a finished prompt, or None while it waits or runs."""
        found = self.get_json(f"/history/{prompt_id}").get(prompt_id)
        return None if found is None else dict(found)

    def wait(self, prompt_id: str, timeout: float) -> dict[str, Any]:
        """Poll until a prompt is finished and return its record.

        Raises `WorkflowError` if it failed, `TimeoutError` after `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            record = self.history(prompt_id)
            if record is not None:
                raise_if_failed(record)
                return record
            time.sleep(POLL_SECONDS)
        raise TimeoutError(f"The workflow was not finished after {timeout:.0f} s.")

    def images(self, record: Mapping[str, Any]) -> dict[str, list[bytes]]:
        """The saved pictures of a finished prompt, as files, by node id."""
        found: dict[str, list[bytes]] = {}
        for node, output in record["outputs"].items():
            for image in output.get("images", []):
                if image["type"] == "output":
                    found.setdefault(node, []).append(self.get("/view", **image))
        return found


def raise_if_failed(record: Mapping[str, Any]) -> None:
    """Raise `WorkflowError` with the node and the message if a prompt's record shows failure."""
    status = record["status"]
    if status["status_str"] == "success":
        return
    for kind, details in status["messages"]:
        if kind == "execution_error":
            raise WorkflowError(
                f"{details['node_type']} (node {details['node_id']}) failed: "
                f"{details['exception_type']}: {details['exception_message']}"
            )
    raise WorkflowError(f"The workflow ended as {status['status_str']!r}.")
